"""The screen itself: attaches to a daemon, shows what it says four times a second, and sends what is asked.

It decides nothing. It can hang, crash or be killed, and the daemon does not notice.
"""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Final, Literal, NamedTuple

from textual import on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.events import Key
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Button, Footer, Input, Static

from bot.control.paths import socket_path
from bot.control.protocol import EQUITY_PATTERN, Answer, Hello, Lost, Note, Reply, Research, Verb, View
from bot.core.text import safe_text
from bot.tui import format as fmt
from bot.tui.client import DaemonLink, Disconnected
from bot.tui.panels import (
    LOG_LINES_MAX,
    Banner,
    Counters,
    EquityChart,
    Header,
    LatchPanel,
    LogPanel,
    PlayedBar,
    ResearchBar,
    Ribbon,
    TablePanel,
    fill_columns,
    market_columns,
    order_columns,
    position_columns,
)

REPAINT_S: Final = 0.25
SILENT_MS_MAX: Final = 5000
"""A connected daemon that said nothing for longer is suspected, and the screen says so."""
TOAST_LENGTH_MAX: Final = 200
ANSWER_LENGTH_MAX: Final = 100
RESEARCH_MAX: Final = 16
"""Works shown at once; a daemon has no more clients."""


class ScreenResult(StrEnum):
    """How a screen was left."""

    DETACHED = "DETACHED"
    """The daemon goes on."""
    STOPPED = "STOPPED"
    """The operator stopped the daemon, and it is gone."""
    DAEMON_GONE = "DAEMON_GONE"
    """There was no daemon any more: its run had ended, or it had died."""


def run_screen(state_dir: Path, *, may_stop: bool = True) -> ScreenResult:
    """Show the daemon of `state_dir` until the operator leaves. `may_stop`: offer to stop the daemon.

    Raises:
        SettingsError: there is no private directory for the socket.

    """
    app = TradingScreen(socket_path(state_dir), state_dir, may_stop=may_stop)
    return app.run() or ScreenResult.DETACHED


class Choice(NamedTuple):
    """A button of a dialog; `key` presses it."""

    key: str
    label: str
    value: str


class Dialog(ModalScreen[str]):
    """A question over everything else; Escape answers with nothing. The last choice is the safe one, and has focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "back"),
        Binding("left,up", "app.focus_previous", show=False),
        Binding("right,down", "app.focus_next", show=False),
    ]

    def __init__(self, title: str, text: str, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._title = title
        self._text = text
        self._choices = choices

    def compose(self) -> ComposeResult:
        """Lay the question above its buttons."""
        with Vertical(id="dialog"):
            yield Static(self._title, markup=False, id="dialog-title")
            yield Static(self._text, markup=False, id="dialog-text")
            yield from self.compose_answer()

    def compose_answer(self) -> ComposeResult:
        """Lay out what it is answered with."""
        with Horizontal(id="dialog-buttons"):
            for choice in self._choices:
                yield Button(f"{choice.label} ({choice.key})", id=f"choice-{choice.key}")

    def on_mount(self) -> None:
        """Put the focus where an answer is given first."""
        self.first.focus()

    @property
    def first(self) -> Widget:
        """Return what has the focus first: the safe choice."""
        return self.query_one(f"#choice-{self._choices[-1].key}", Button)

    def on_key(self, event: Key) -> None:
        """Take the key of a choice for its button."""
        for choice in self._choices:
            if choice.key == event.key:
                event.stop()
                self.dismiss(choice.value)

    @on(Button.Pressed)
    def take(self, pressed: Button.Pressed) -> None:
        """Answer with the button's choice."""
        for choice in self._choices:
            if pressed.button.id == f"choice-{choice.key}":
                self.dismiss(choice.value)

    def action_leave(self) -> None:
        """Answer with nothing."""
        self.dismiss("")


BACK: Final = Choice("n", "Back", "")


class Question(Dialog):
    """A dialog that is answered in words; Enter sends them."""

    def __init__(self, title: str, text: str, placeholder: str) -> None:
        super().__init__(title, text, [BACK])
        self._input = Input(placeholder=placeholder, max_length=ANSWER_LENGTH_MAX, id="dialog-answer")

    def compose_answer(self) -> ComposeResult:
        """Lay the line to type in above the button."""
        yield self._input
        yield from super().compose_answer()

    @property
    def first(self) -> Widget:
        """Return what has the focus first: the line to type in."""
        return self._input

    @on(Input.Submitted)
    def answer(self, submitted: Input.Submitted) -> None:
        """Answer with what was typed."""
        self.dismiss(submitted.value.strip())


HELP: Final = """\
K   kill: halt and cancel everything, or sell everything too (asks first)
h   halt: let no order through, cancel what works
r   reduce only: let through what makes positions smaller
f   flatten: cancel what works, close what is held (asks first)
e   resume: let orders through again (asks first)
a   re-arm: open one latch that a breaker closed (asks for its name)
d   detach: leave this screen, the bot goes on
s   stop: end the bot (asks first)
q   quit: asks whether to detach or to stop

Tab goes from panel to panel, the arrow keys and Page Up/Down scroll one.
Times are UTC. Gains have ▲ and +, losses ▼ and -."""


class TradingScreen(App[ScreenResult]):
    """The screen of one daemon."""

    CSS_PATH = "app.tcss"
    TITLE = "Poloniex bot"
    ENABLE_COMMAND_PALETTE = False
    AUTO_FOCUS = None
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-wide")]  # noqa: RUF012 - a ClassVar of Textual's
    VERTICAL_BREAKPOINTS = [(0, "-short"), (34, "-tall")]  # noqa: RUF012 - a ClassVar of Textual's
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h", "halt", "halt", tooltip="Let no order through"),
        Binding("K", "kill", "kill", show=False, tooltip="Halt and cancel everything, or sell everything too"),
        Binding("r", "reduce", "reduce only", tooltip="Let through only what makes positions smaller"),
        Binding("f", "flatten", "flatten", tooltip="Cancel what works and close what is held"),
        Binding("e", "resume", "resume", tooltip="Let orders through again"),
        Binding("a", "rearm", "re-arm", show=False, tooltip="Open one latch that a breaker closed"),
        Binding("d", "detach", "detach", tooltip="Leave this screen; the bot goes on"),
        Binding("s", "stop", "stop", tooltip="End the bot"),
        Binding("q", "quit", "quit", tooltip="Leave: detach or stop"),
        Binding("question_mark", "help", "help", key_display="?", tooltip="What the keys do"),
    ]

    def __init__(
        self,
        socket: Path,
        state_dir: Path,
        *,
        may_stop: bool = True,
        repaint_s: float = REPAINT_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        # Without colours the terminal's own are kept, rather than shades of grey of ours.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        # Held here, as at the end the clock ticks on for a moment after the last widget has left the screen.
        self._banner = Banner(id="banner")
        self._header = Header(id="header")
        self._ribbon = Ribbon(id="ribbon")
        self._played = PlayedBar(id="played")
        self._research = ResearchBar(id="research")
        self._latches = LatchPanel(id="latches")
        self._board = Vertical(id="board")
        self._equity = EquityChart(id="equity", classes="panel")
        self._positions = TablePanel("Positions", "no open positions", id="positions")
        self._orders = TablePanel("Working orders", "no working orders", id="orders")
        self._markets = TablePanel("Markets", "no markets yet", id="markets")
        self._fills = TablePanel("Fills", "no fills yet", id="fills")
        self._log_panel = LogPanel(id="log")
        self._counters = Counters(id="counters")
        self._link = DaemonLink(socket)
        self._state_dir = state_dir
        self._may_stop = may_stop
        self._repaint_s = repaint_s
        self._now_s = now_s
        self._hello: Hello | None = None
        self._view: View | None = None
        self._view_at_s = 0.0
        self._notes: deque[Note] = deque(maxlen=LOG_LINES_MAX)
        self._is_dirty = True
        self._lost_reason = ""
        self._is_stopping = False
        self._asked: dict[str, Verb] = {}

    def compose(self) -> ComposeResult:
        """Lay out every panel; which of them show is the style sheet's to say."""
        yield self._banner
        yield self._header
        yield self._ribbon
        yield self._played
        yield self._research
        yield self._latches
        with self._board:
            with Horizontal(id="columns"):
                with Vertical(id="left"):
                    yield self._equity
                    yield self._positions
                    yield self._orders
                with Vertical(id="right"):
                    yield self._markets
                    yield self._fills
            yield self._log_panel
        yield self._counters
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Begin to listen and to paint."""
        self._repaint()
        self.set_interval(self._repaint_s, self._repaint)
        self.run_worker(self._follow(), exclusive=True)

    # --- what the daemon says

    async def _follow(self) -> None:
        async for answer in self._link.answers():
            if isinstance(answer, Disconnected):
                self._on_disconnected(answer)
            else:
                self._on_answer(answer)

    def _on_answer(self, answer: Answer) -> None:
        match answer:
            case Hello():
                self._hello = answer
                self._lost_reason = ""
            case View():
                self._view = answer
                self._view_at_s = self._now_s()
                self._is_dirty = True
            case Note():
                self._notes.append(answer)
            case Lost():
                self._log("warning", f"{answer.count} lines of this log were lost: the screen was too slow")
            case Reply():
                self._on_reply(answer)
            case Research():
                others = tuple(work for work in self._research.works if work.id != answer.id)
                self._research.works = others if answer.is_over else (*others, answer)[-RESEARCH_MAX:]

    def _on_reply(self, reply: Reply) -> None:
        verb = self._asked.pop(reply.id, None)
        if verb == "stop" and not reply.is_ok:
            self._is_stopping = False
        self._say(f"{verb}: {reply.text}" if verb else reply.text, is_ok=reply.is_ok)

    def _on_disconnected(self, lost: Disconnected) -> None:
        self._asked.clear()
        self._research.works = ()
        if self._is_stopping:
            self.exit(ScreenResult.STOPPED)
            return
        if self._has_ended:
            self._lost_reason = "the run has ended; these are its last values. Press q to leave"
            return
        what = "daemon gone, retrying" if self._hello else f"no daemon on {self._state_dir} yet, retrying"
        self._lost_reason = f"{what} in {lost.retry_s:g} s ({lost.reason})"

    @property
    def _has_ended(self) -> bool:
        return self._view is not None and self._view.feed == "ended"

    # --- what is painted

    def _repaint(self) -> None:
        silent_ms = int(1000 * (self._now_s() - self._view_at_s)) if self._view else 0
        self._banner.text = self._warning(silent_ms)
        self._banner.set_class(self._has_ended, "-calm")
        for widget in (self._header, self._ribbon, self._board, self._counters):
            widget.set_class(bool(self._banner.text) and not self._has_ended, "-stale")
        if self._notes:
            self._log_panel.add(self._notes)
            self._notes.clear()
        # An age grows between two views, in steps that a reader can follow.
        self._header.silent_ms = 0 if self._lost_reason else silent_ms // 500 * 500
        self._header.hello = self._counters.hello = self._hello
        if self._is_dirty and self._view is not None:
            self._is_dirty = False
            self._show(self._view)

    def _warning(self, silent_ms: int) -> str:
        """Return what is wrong with what is shown, or nothing."""
        told = f" · values of {fmt.clock(self._view.ts_ns)} UTC" if self._view else ""
        if self._lost_reason and self._has_ended:
            return f"■ {self._lost_reason}"
        if self._lost_reason:
            return f"✖ {self._lost_reason}{told}"
        if silent_ms > SILENT_MS_MAX and not self._has_ended:
            return f"▲ the daemon has said nothing for {fmt.age(silent_ms)}{told}"
        return ""

    def _show(self, view: View) -> None:
        self._header.view = self._ribbon.view = self._counters.view = self._equity.view = view
        self._played.progress = view.progress
        self._latches.show(view.latches)
        self._positions.show(position_columns(view.positions, view.quote_currency))
        self._orders.show(order_columns(view.orders, view.ts_ns))
        self._fills.show(fill_columns(view.fills))
        self._markets.show(market_columns(view.markets))

    def _log(self, level: Literal["info", "warning"], text: str) -> None:
        self._notes.append(Note(ts_ns=time.time_ns(), level=level, text=text))

    def _say(self, text: str, *, is_ok: bool) -> None:
        """Show `text` as a toast and in the log."""
        self._log("info" if is_ok else "warning", text)
        self.notify(
            safe_text(text, TOAST_LENGTH_MAX),
            severity="information" if is_ok else "error",
            markup=False,
        )

    # --- what is asked

    def _send(self, verb: Verb, *, subject: str = "", equity: str = "", is_new_baseline: bool = False) -> None:
        command_id = self._link.send(verb, subject=subject, equity=equity, is_new_baseline=is_new_baseline)
        if command_id is None:
            self._say(f"{verb}: not sent, there is no daemon", is_ok=False)
            return
        self._asked[command_id] = verb
        self._is_stopping = self._is_stopping or verb == "stop"

    def _confirm(self, verb: Verb, title: str, text: str) -> None:
        def answered(value: str | None) -> None:
            if value == "yes":
                self._send(verb)

        self.push_screen(Dialog(title, text, [Choice("y", title.rstrip("?"), "yes"), BACK]), answered)

    def action_halt(self) -> None:
        """Let no order through; not asked twice, as it only makes things safer."""
        self._send("halt")

    def action_kill(self) -> None:
        """Stop everything, after the question how far."""

        def answered(value: str | None) -> None:
            if value == "halt":
                self._send("halt")
            elif value == "flatten":
                self._send("flatten")

        orders = len(self._view.orders) if self._view else 0
        held = len(self._view.positions) if self._view else 0
        text = (
            f"Halt: cancels every working order ({orders} now) and lets nothing through.\n"
            f"Flatten: cancels them and closes what is held ({held} now), at the market's price.\n"
            "If the bot does not answer: `bot kill` in a terminal needs no bot."
        )
        choices = [Choice("h", "Halt", "halt"), Choice("f", "Flatten", "flatten"), BACK]
        self.push_screen(Dialog("Kill?", text, choices), answered)

    def action_reduce(self) -> None:
        """Let through only what makes positions smaller."""
        self._send("reduce")

    def action_flatten(self) -> None:
        """Close everything, after a question."""
        held = len(self._view.positions) if self._view else 0
        text = f"Cancels every working order and closes what is held, at the market's price. Held now: {held}."
        self._confirm("flatten", "Flatten?", text)

    def action_resume(self) -> None:
        """Trade again, after a question."""
        state = "unknown" if self._view is None else self._view.risk_state.replace("_", " ")
        cause = f" ({self._view.risk_cause})" if self._view and self._view.risk_cause else ""
        text = f"Lets new orders through again. Now: {state}{cause}."
        self._confirm("resume", "Resume?", safe_text(text, TOAST_LENGTH_MAX))

    def action_rearm(self) -> None:
        """Open one latch, once its name was typed; a loss wants what equity is as well."""
        latches = self._view.latches if self._view else ()
        lines = [f"{latch.state.replace('_', ' ')} by {latch.name}: {latch.detail}" for latch in latches]
        text = "\n".join(safe_text(text, ANSWER_LENGTH_MAX) for text in lines) or "No latch is closed."
        words = "Type its name; after a loss also what equity is now, and `new` to count the loss from here on."
        self.push_screen(
            Question("Re-arm one latch?", f"{text}\n\n{words}", "CAUSE[@SCOPE] [EQUITY] [new]"), self._rearm
        )

    def _rearm(self, answer: str | None) -> None:
        subject, *more = (answer or "").split() or [""]
        if not subject:
            return
        is_new_baseline = "new" in more
        numbers = [word for word in more if word != "new"]
        if len(numbers) > 1 or any(not re.match(EQUITY_PATTERN, word) for word in numbers):
            self._say(f"rearm: {' '.join(numbers)} is not what equity is", is_ok=False)
            return
        self._send("rearm", subject=subject, equity="".join(numbers), is_new_baseline=is_new_baseline)

    def action_stop(self) -> None:
        """End the daemon, after a question."""
        self._confirm("stop", "Stop?", "Ends the bot: cancels its working orders; what is held stays held.")

    def action_detach(self) -> None:
        """Leave; the daemon goes on."""
        self.exit(ScreenResult.DETACHED if self._link.is_up else ScreenResult.DAEMON_GONE)

    async def action_quit(self) -> None:
        """Leave; ask how, if there is a choice."""
        if not self._may_stop or not self._link.is_up:
            self.action_detach()
            return

        def answered(value: str | None) -> None:
            if value == "detach":
                self.action_detach()
            elif value == "stop":
                self._send("stop")

        choices = [Choice("s", "Stop the bot", "stop"), BACK, Choice("d", "Detach", "detach")]
        text = "Detach: this screen closes and the bot goes on.\nStop: the bot cancels its working orders and ends."
        self.push_screen(Dialog("Leave?", text, choices), answered)

    def action_help(self) -> None:
        """Say what the keys do."""
        self.push_screen(Dialog("Keys", HELP, [Choice("n", "Back", "")]))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer no stop on a screen that may not."""
        return self._may_stop if action == "stop" else super().check_action(action, parameters)
