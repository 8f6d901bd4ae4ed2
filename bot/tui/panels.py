"""The parts of the screen: each shows one piece of a view, and decides nothing.

Text of strangers (symbols, causes, notes) is made safe here and never read as markup.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import ClassVar, Final

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget

from bot.control.protocol import FillRow, Hello, LatchRow, MarketRow, Note, OrderRow, PositionRow, Research, View
from bot.core.instrument import Side
from bot.core.messages import RiskState
from bot.core.text import safe_text
from bot.tui import format as fmt
from bot.tui.table import Cell, Column, Tone, body, fitting, head, line, safe_cell, spread

LOG_LINES_MAX: Final = 500
LOG_TEXT_MAX: Final = 300
_CHART_LABEL_WIDTH: Final = 12
_WIDE: Final = 110
_LEFT_S_MAX: Final = 1e7
_SPACE: Final = Cell("   ")
_RISK_MARKS: Final = {
    RiskState.NORMAL: ("●", Tone.GAIN),
    RiskState.REDUCE_ONLY: ("◐", Tone.WARNING),
    RiskState.HALTED: ("■", Tone.ERROR),
}


class Painted(Widget):
    """A widget that paints itself from cells; the tones are component classes of the style sheet."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {tone.value for tone in Tone}

    def tone_style(self, tone: Tone) -> Style:
        """Return what the style sheet says of `tone`."""
        style = self.get_visual_style(tone.value, partial=True)
        # Textual 8 leaves `reverse` out of a component's style.
        is_reverse = self.get_component_styles(tone.value).text_style.reverse
        return style + Style(reverse=True) if is_reverse else style

    def paint(self, cells: Sequence[Cell]) -> Content:
        """Return `cells` in one line of this widget's width."""
        return line(cells, self.content_size.width, self.tone_style)


# --- at the top


class Header(Painted):
    """Who runs, how it stands, and whether it may trade."""

    hello: reactive[Hello | None] = reactive(None)
    view: reactive[View | None] = reactive(None)
    silent_ms: reactive[int] = reactive(0)
    """How old the view is, by the screen's own clock."""

    def render(self) -> Content:
        """Return three lines: who, how it stands, may it trade."""
        width = self.content_size.width
        lines = [spread(self._who(), self._when(), width), self._account(width), self._risk_and_feed(width)]
        return Content("\n").join([self.paint(cells) for cells in lines])

    def _who(self) -> list[Cell]:
        if self.hello is None:
            return [Cell("not connected yet", Tone.FAINT)]
        is_live = self.hello.mode == "live"
        badge = Cell(f" {self.hello.mode.upper()} ", Tone.BADGE_ALARM if is_live else Tone.BADGE_CALM)
        words = "real money" if is_live else "paper money"
        return [badge, Cell(f" {words}  ", Tone.FAINT), safe_cell(self.hello.exchange, Tone.STRONG)]

    def _when(self) -> list[Cell]:
        return [Cell(fmt.moment(self.view.ts_ns) if self.view else "", Tone.FAINT)]

    def _account(self, width: int) -> list[Cell]:
        if self.view is None:
            return [Cell("Equity ", Tone.FAINT), Cell(fmt.NONE)]
        view, decimals = self.view, fmt.places(self.view.quote_currency)
        cells = [
            Cell("Equity ", Tone.FAINT),
            Cell(fmt.money(view.equity, decimals), Tone.STRONG),
            safe_cell(f" {view.quote_currency}"),
            _SPACE,
            Cell("Day ", Tone.FAINT),
            Cell(fmt.change(view.day_pnl, decimals), _gain_tone(view.day_pnl)),
            Cell(_day_percent(view), _gain_tone(view.day_pnl)),
            _SPACE,
            Cell("Drawdown ", Tone.FAINT),
            Cell(fmt.percent(view.drawdown_pct)),
            _SPACE,
        ]
        if width >= _WIDE:
            return [*cells, Cell("Cash ", Tone.FAINT), Cell(fmt.money(view.cash, decimals))]
        room = max(0, width - sum(len(cell.text) for cell in cells))
        spark = fmt.sparkline([equity for _, equity in view.equity_history], room)
        return [*cells, Cell(" " * (room - len(spark))), Cell(spark, Tone.FAINT)]

    def _risk_and_feed(self, width: int) -> list[Cell]:
        if self.view is None:
            return []
        return spread(self._risk(self.view), self._feed(self.view), width)

    def _risk(self, view: View) -> list[Cell]:
        mark, tone = _RISK_MARKS[view.risk_state]
        cells = [Cell("Risk ", Tone.FAINT), Cell(f"{mark} {view.risk_state.replace('_', ' ')}", tone)]
        return [*cells, safe_cell(f" {view.risk_cause}", tone)] if view.risk_cause else cells

    def _feed(self, view: View) -> list[Cell]:
        mark, tone = {
            "live": ("●", Tone.GAIN),
            "connecting": ("○", Tone.WARNING),
            "lost": ("✖", Tone.ERROR),
            "ended": ("■", Tone.FAINT),
        }[view.feed]
        cells = [Cell("Feed ", Tone.FAINT), Cell(f"{mark} {view.feed}", tone)]
        ages = [market.age_ms for market in view.markets if market.age_ms is not None]
        if ages and view.feed != "ended":
            cells.append(Cell(f" {fmt.age(min(ages) + self.silent_ms)}"))
        if view.feed_detail:
            cells.append(safe_cell(f" {view.feed_detail}", Tone.FAINT))
        return cells


class Ribbon(Painted):
    """The markets in one line, where there is no room for their table."""

    view: reactive[View | None] = reactive(None)

    def render(self) -> Content:
        """Return one line."""
        if self.view is None or not self.view.markets:
            return self.paint([Cell("no markets yet", Tone.FAINT)])
        cells: list[Cell] = []
        for market in self.view.markets:
            cells += [_SPACE] if cells else []
            cells += [safe_cell(market.symbol, Tone.FAINT), Cell(" "), Cell(fmt.price(market.bid))]
            cells += [Cell(" / ", Tone.FAINT), Cell(fmt.price(market.ask))]
            cells.append(Cell(f" {fmt.age(market.age_ms)}", Tone.FAINT))
        return self.paint(cells)


class Counters(Painted):
    """What was counted since the daemon began, in one line."""

    hello: reactive[Hello | None] = reactive(None)
    view: reactive[View | None] = reactive(None)

    def render(self) -> Content:
        """Return one line."""
        cells: list[Cell] = []
        if self.view is not None:
            counters = {"session": self.view.epoch, **self.view.counters}
            for name, value in counters.items():
                cells += [safe_cell(f"{name} ", Tone.FAINT), Cell(fmt.count(value)), _SPACE]
        if self.hello is not None:
            cells.append(safe_cell(f"pid {self.hello.pid}  v{self.hello.version}", Tone.FAINT))
        return self.paint(cells)


class PlayedBar(Painted):
    """How much of a recording is played; not there while prices are live."""

    progress: reactive[tuple[int, int] | None] = reactive(None)

    def watch_progress(self, progress: tuple[int, int] | None) -> None:
        """Be there only when there is something to show."""
        self.display = progress is not None

    def render(self) -> Content:
        """Return a bar as wide as there is room."""
        done, total = self.progress or (0, 0)
        share = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
        words = f" {share:4.0%}  {fmt.count(done)} of {fmt.count(total)} events"
        room = max(0, self.content_size.width - len("Recording ") - len(words))
        filled = int(share * room)
        return self.paint(
            [
                Cell("Recording ", Tone.FAINT),
                Cell("━" * filled, Tone.GAIN),
                Cell("─" * (room - filled), Tone.FAINT),
                Cell(words),
            ]
        )


class ResearchBar(Painted):
    """How far a backtest or a sweep beside the bot is; not there without one."""

    works: reactive[tuple[Research, ...]] = reactive(())
    """The newest report of each, oldest work first; the last one is shown."""

    def watch_works(self, works: tuple[Research, ...]) -> None:
        """Be there only when there is something to show."""
        self.display = bool(works)

    def render(self) -> Content:
        """Return one line: name, share, rate, time left and the best so far."""
        if not self.works:
            return Content("")
        work = self.works[-1]
        share = min(1.0, work.done / work.total) if work.total else 0.0
        left = "" if work.left_s is None else f"  {fmt.age(int(1000 * min(work.left_s, _LEFT_S_MAX)))} left"
        others = f"  and {len(self.works) - 1} more" if len(self.works) > 1 else ""
        numbers = f"  {share:4.0%}  {fmt.count(work.done)} of {fmt.count(work.total)}  {fmt.count(int(work.rate))}/s"
        cells = [
            Cell("Research ", Tone.FAINT),
            safe_cell(work.name, Tone.STRONG),
            Cell(f"{numbers}{left}{others}"),
        ]
        return self.paint([*cells, Cell("  best ", Tone.FAINT), safe_cell(work.best)] if work.best else cells)


class Banner(Painted):
    """One line across the screen when something is wrong with what it shows; else not there."""

    text: reactive[str] = reactive("")

    def watch_text(self, text: str) -> None:
        """Be there only when there is something to show."""
        self.display = bool(text)

    def render(self) -> Content:
        """Return one line."""
        return self.paint([Cell(safe_text(self.text, LOG_TEXT_MAX))])


# --- the equity


class EquityChart(Painted):
    """Equity over time, as high as there is room."""

    view: reactive[View | None] = reactive(None)

    def on_mount(self) -> None:
        """Say what is shown here."""
        self.border_title = "Equity"

    def render(self) -> Content:
        """Return the chart above its times."""
        width, height = self.content_size
        history = self.view.equity_history if self.view else ()
        if self.view is None or len(history) < 2:
            return self.paint([Cell("no history yet", Tone.FAINT)])
        values = [equity for _, equity in history]
        rows = fmt.area_chart(values, width - _CHART_LABEL_WIDTH, height - 1)
        decimals = fmt.places(self.view.quote_currency)
        labels = {0: fmt.money(max(values), decimals), len(rows) - 1: fmt.money(min(values), decimals)}
        tone = Tone.GAIN if values[-1] >= values[0] else Tone.LOSS
        painted = [
            self.paint([Cell(row, tone), Cell(labels.get(i, "").rjust(_CHART_LABEL_WIDTH), Tone.FAINT)])
            for i, row in enumerate(rows)
        ]
        times = spread(
            [Cell(fmt.clock(history[0][0]), Tone.FAINT)],
            [Cell(f"{fmt.clock(history[-1][0])} UTC", Tone.FAINT), Cell(" " * _CHART_LABEL_WIDTH)],
            width,
        )
        return Content("\n").join([*painted, self.paint(times)])


# --- tables


class TableHead(Painted):
    """The titles of a table's columns."""

    columns: reactive[tuple[Column, ...]] = reactive(())

    def render(self) -> Content:
        """Return one line."""
        width = self.content_size.width
        return head(fitting(self.columns, width), width, self.tone_style)


class TableRows(Painted):
    """The rows of a table, or a word where there are none."""

    columns: reactive[tuple[Column, ...]] = reactive((), layout=True)

    def __init__(self, empty: str) -> None:
        super().__init__()
        self._empty = empty

    @property
    def count(self) -> int:
        """Return how many rows there are."""
        return len(self.columns[0].cells) if self.columns else 0

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return a line for each row."""
        return max(1, self.count)

    def render(self) -> Content:
        """Return one line for each row."""
        if not self.count:
            return self.paint([Cell(self._empty, Tone.FAINT)])
        width = self.content_size.width
        return body(fitting(self.columns, width), width, self.tone_style)


class TablePanel(Vertical):
    """A titled table; its rows scroll under their titles."""

    def __init__(self, title: str, empty: str, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id, classes="panel")
        self._title = title
        self._head = TableHead()
        self._rows = TableRows(empty)

    def compose(self) -> ComposeResult:
        """Lay the titles above the rows."""
        yield self._head
        with VerticalScroll():
            yield self._rows

    def on_mount(self) -> None:
        """Say what is shown here."""
        self.border_title = self._title

    def show(self, columns: Iterable[Column]) -> None:
        """Show `columns`, all of the same length."""
        self._head.columns = self._rows.columns = tuple(columns)
        self.border_title = f"{self._title} {self._rows.count}" if self._rows.count else self._title


def position_columns(rows: Sequence[PositionRow], currency: str) -> list[Column]:
    """Return the table of what is held; amounts are in `currency`."""
    decimals = fmt.places(currency)
    return [
        Column("Symbol", [safe_cell(row.symbol, Tone.STRONG) for row in rows]),
        Column("Quantity", _numbers(fmt.quantity(row.quantity) for row in rows), is_number=True),
        Column("Entry", _numbers(fmt.price(row.entry_price) for row in rows), is_number=True, rank=1),
        Column("Mark", _numbers(fmt.price(row.mark_price) for row in rows), is_number=True),
        Column("Value", _numbers(fmt.money(row.value, decimals) for row in rows), is_number=True, rank=2),
        Column("Unrealised", [_gain(row.unrealised_pnl, decimals) for row in rows], is_number=True),
        Column("Realised", [_gain(row.realised_pnl, decimals) for row in rows], is_number=True, rank=3),
    ]


def order_columns(rows: Sequence[OrderRow], now_ns: int) -> list[Column]:
    """Return the table of working orders, with their ages at `now_ns`."""
    return [
        Column("Side", [_side(row.side) for row in rows]),
        Column("Symbol", [safe_cell(row.symbol, Tone.STRONG) for row in rows]),
        Column("Type", [safe_cell(_words(row.order_type)) for row in rows], rank=4),
        Column(
            "Price",
            _numbers("market" if row.price is None else fmt.price(row.price) for row in rows),
            is_number=True,
        ),
        Column("Quantity", _numbers(fmt.quantity(row.quantity) for row in rows), is_number=True),
        Column("Filled", _numbers(fmt.quantity(row.filled) for row in rows), is_number=True, rank=1),
        Column("State", [safe_cell(_words(row.state)) for row in rows], rank=1),
        Column(
            "Age",
            [Cell(fmt.age((now_ns - row.submitted_ns) // 1_000_000), Tone.FAINT) for row in rows],
            is_number=True,
            rank=2,
        ),
        Column("Strategy", [safe_cell(row.strategy, Tone.FAINT) for row in rows], rank=3),
    ]


def fill_columns(rows: Sequence[FillRow]) -> list[Column]:
    """Return the table of executions."""
    return [
        Column("Time UTC", [Cell(fmt.clock(row.ts_ns), Tone.FAINT) for row in rows]),
        Column("Side", [_side(row.side) for row in rows]),
        Column("Symbol", [safe_cell(row.symbol, Tone.STRONG) for row in rows]),
        Column("Price", _numbers(fmt.price(row.price) for row in rows), is_number=True),
        Column("Quantity", _numbers(fmt.quantity(row.quantity) for row in rows), is_number=True),
        Column(
            "Fee",
            [safe_cell(f"{fmt.quantity(row.fee)} {row.fee_currency}", Tone.FAINT) for row in rows],
            is_number=True,
            rank=2,
        ),
        Column("Role", [Cell("maker" if row.is_maker else "taker", Tone.FAINT) for row in rows], rank=3),
        Column("Strategy", [safe_cell(row.strategy, Tone.FAINT) for row in rows], rank=4),
    ]


def market_columns(rows: Sequence[MarketRow]) -> list[Column]:
    """Return the table of markets."""
    return [
        Column("Symbol", [safe_cell(row.symbol, Tone.STRONG) for row in rows]),
        Column("Bid", _numbers(fmt.price(row.bid) for row in rows), is_number=True),
        Column("Ask", _numbers(fmt.price(row.ask) for row in rows), is_number=True),
        Column("Spread", [Cell(_spread_bps(row), Tone.FAINT) for row in rows], is_number=True, rank=1),
        Column("Age", [Cell(fmt.age(row.age_ms), Tone.FAINT) for row in rows], is_number=True),
    ]


# --- the log


class LogLines(Painted):
    """The lines of the log, the newest at the bottom."""

    notes: reactive[tuple[Note, ...]] = reactive((), layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return a line for each note."""
        return max(1, len(self.notes))

    def render(self) -> Content:
        """Return one line for each note."""
        if not self.notes:
            return self.paint([Cell("nothing has happened yet", Tone.FAINT)])
        return Content("\n").join([self.paint(_note_cells(note)) for note in self.notes])


class LogPanel(VerticalScroll):
    """What happened, oldest first; stays at its end unless somebody scrolls up."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id, classes="panel")
        self._notes: deque[Note] = deque(maxlen=LOG_LINES_MAX)
        self._lines = LogLines()

    def compose(self) -> ComposeResult:
        """Hold the lines."""
        yield self._lines

    def on_mount(self) -> None:
        """Say what is shown here."""
        self.border_title = "Log (UTC)"

    def add(self, notes: Iterable[Note]) -> None:
        """Show `notes` below the others; one that is there already, as after a reconnect, stays where it is."""
        for note in notes:
            if note not in self._notes:
                self._notes.append(note)
        was_at_end = self.is_vertical_scroll_end
        self._lines.notes = tuple(self._notes)
        if was_at_end:
            self.call_after_refresh(self.scroll_end, animate=False)


def _note_cells(note: Note) -> list[Cell]:
    mark, tone = {
        "info": ("·", Tone.PLAIN),
        "warning": ("▲ warning:", Tone.WARNING),
        "error": ("✖ error:", Tone.ERROR),
    }[note.level]
    text = safe_text(note.text, LOG_TEXT_MAX)
    return [Cell(f"{fmt.clock(note.ts_ns)} ", Tone.FAINT), Cell(f"{mark} ", tone), Cell(text, tone)]


# --- latches


class LatchLines(Painted):
    """What keeps orders back, the latest change at the bottom."""

    rows: reactive[tuple[LatchRow, ...]] = reactive((), layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return a line for each latch."""
        return len(self.rows)

    def render(self) -> Content:
        """Return one line for each latch: how far, for what and where, since when, why."""
        return Content("\n").join([self.paint(_latch_cells(row)) for row in self.rows])


class LatchPanel(VerticalScroll):
    """Every latch that is closed; not there while none is."""

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id, classes="panel")
        self._lines = LatchLines()
        self.display = False

    def compose(self) -> ComposeResult:
        """Hold the lines."""
        yield self._lines

    def show(self, rows: tuple[LatchRow, ...]) -> None:
        """Show `rows`, or nothing where there are none."""
        self._lines.rows = rows
        self.display = bool(rows)
        self.border_title = f"Latches {len(rows)} (a: re-arm one)"


def _latch_cells(row: LatchRow) -> list[Cell]:
    mark, tone = _RISK_MARKS[row.state]
    return [
        Cell(f"{mark} {row.state.replace('_', ' ')} ", tone),
        safe_cell(row.cause, Tone.STRONG),
        safe_cell(f" {row.scope or 'everything'}"),
        Cell(f" since {fmt.moment(row.since_ns)} ", Tone.FAINT),
        Cell(safe_text(row.detail, LOG_TEXT_MAX), tone),
    ]


# --- cells


def _gain_tone(value: Decimal | None) -> Tone:
    if value is None or value == 0 or value.is_nan():
        return Tone.PLAIN
    return Tone.GAIN if value > 0 else Tone.LOSS


def _gain(value: Decimal | None, decimals: int) -> Cell:
    return Cell(fmt.change(value, decimals), _gain_tone(value))


def _numbers(texts: Iterable[str]) -> list[Cell]:
    return [Cell(text) for text in fmt.align_points(texts)]


def _side(side: Side) -> Cell:
    return Cell("▲ BUY", Tone.GAIN) if side is Side.BUY else Cell("▼ SELL", Tone.LOSS)


def _words(code: str) -> str:
    return code.replace("_", " ").lower()


def _day_percent(view: View) -> str:
    if view.equity is None or view.day_pnl is None or view.equity - view.day_pnl <= 0:
        return ""
    return f" ({fmt.signed_percent(100 * view.day_pnl / (view.equity - view.day_pnl))})"


def _spread_bps(row: MarketRow) -> str:
    if row.bid is None or row.ask is None or row.bid + row.ask <= 0:
        return fmt.NONE
    return f"{fmt.money(20000 * (row.ask - row.bid) / (row.bid + row.ask), 2)} bp"
