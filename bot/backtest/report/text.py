"""A report as text for a terminal: tables, plots and heat maps made of characters.

Pure: what the terminal can do is said by a `Style`. Colour is never the only sign of anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from bot.backtest.metrics import METRICS
from bot.backtest.report.axes import month_shade, number_ticks, shade, time_ticks
from bot.backtest.report.document import HeatMap, Histogram, Month, Report, period_text
from bot.backtest.report.words import (
    GROUPS,
    NONE,
    cell_text,
    metric_text,
    metric_title,
    number_text,
    parameter_text,
    percent_text,
    short_number,
)
from bot.backtest.significance import LUCK_QUANTILES, Assessment, Interval
from bot.core.durations import duration_text
from bot.core.text import safe_text

WIDTH_MIN: Final = 40
PLOT_HEIGHT: Final = 12
_AXIS: Final = 9
"""Columns of an axis' numbers."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_GAIN: Final = (22, 28, 34, 40)
_LOSS: Final = (52, 88, 124, 160)
"""Backgrounds of the 256 colours, weak to strong; the text on them is white or black."""


class Style(NamedTuple):
    """What a terminal can show."""

    width: int = 80
    is_unicode: bool = True
    has_colour: bool = False


def style_for(*, width: int, encoding: str, is_terminal: bool, environment: Mapping[str, str]) -> Style:
    """Return what a stream can show: no colour into a file, on a dumb terminal or with `NO_COLOR`; ASCII without UTF-8.

    Source: https://no-color.org: any value but an empty one asks for none.
    """
    has_colour = is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
    is_unicode = encoding.lower().replace("-", "").replace("_", "").startswith("utf")
    return Style(width=max(WIDTH_MIN, width), is_unicode=is_unicode, has_colour=has_colour)


def render_text(report: Report, style: Style = Style()) -> str:  # noqa: B008  # a tuple of constants
    """Return the whole report, which ends with a line end; no line is wider than `style.width`."""
    parts = [
        header(report, style),
        curve_plot(report, style),
        drawdown_plot(report, style),
        metrics_table(report, style),
        months_table(report.months, style),
    ]
    if report.histogram is not None:
        parts.append(histogram_plot(report.histogram, style))
    if report.chance is not None:
        parts.append(chance_table(report.chance, style))
    if report.sweep is not None:
        parts.append(heat_map(report.sweep, style))
    if report.notes:
        parts.append([title("Notes", style), *(line for note in report.notes for line in _wrapped(note, style))])
    lines = itertools.chain.from_iterable([*part, ""] for part in parts if part)
    return "\n".join(line.rstrip() for line in lines).rstrip("\n") + "\n"


def header(report: Report, style: Style) -> list[str]:
    """Return what was run: name, parameters, symbols, period, cash."""
    parameters = ", ".join(f"{key} {parameter_text(value)}" for key, value in report.parameters.items())
    rows = [
        f"{report.name}{f' ({parameters})' if parameters else ''}",
        f"{', '.join(report.symbols)}  {duration_text(report.timeframe_ns // 10**6 * 10**6)}  {period_text(report)}",
        f"starting cash {number_text(report.cash)} {report.quote}",
    ]
    return [line for row in rows for line in _wrapped(row, style)]


def title(text: str, style: Style) -> str:
    """Return a heading with a rule behind it."""
    rule = "─" if style.is_unicode else "-"
    return f"{_cut(text, style.width, style)} ".ljust(style.width, rule)[: style.width]


# --- plots


def curve_plot(report: Report, style: Style) -> list[str]:
    """Return the equity curve as an area, with its axes."""
    curve = report.curve
    if len(curve.equity) < 2:
        return []
    columns = _columns(curve.time_ns, curve.equity, style.width - _AXIS - 2, lambda values: values[-1])
    low, high = _padded(min(columns), max(columns))
    ticks = number_ticks(low, high, 4)
    rows = _area([(value - low) / (high - low) for value in columns], PLOT_HEIGHT, style, is_hanging=False)
    body = _with_axis(rows, [(1 - (tick - low) / (high - low), short_number(tick)) for tick in ticks], style)
    return [title(f"Equity, {report.quote}", style), *body, _time_axis(curve.time_ns, style)]


def drawdown_plot(report: Report, style: Style) -> list[str]:
    """Return the drawdown as an area that hangs from zero; empty without one."""
    curve = report.curve
    deepest = max(curve.drawdown, default=0.0)
    if deepest <= 0 or len(curve.drawdown) < 2:
        return []
    columns = _columns(curve.time_ns, curve.drawdown, style.width - _AXIS - 2, max)
    rows = _area([value / deepest for value in columns], PLOT_HEIGHT // 2, style, is_hanging=True)
    ticks = number_ticks(0.0, deepest, 2)
    body = _with_axis(
        rows, [(tick / deepest, f"-{short_number(tick * 100)}%" if tick else "0%") for tick in ticks], style
    )
    return [title("Drawdown", style), *body]


def histogram_plot(histogram: Histogram, style: Style) -> list[str]:
    """Return the returns of trades as bars on their side."""
    most = max(histogram.counts)
    room = style.width - 22 - len(str(most)) - 1
    full = "█" if style.is_unicode else "#"
    lines = [title("Returns of closed trades", style)]
    for low, high, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        length = -(-count * room // most)
        bar = _coloured(full * length, 31 if high <= 0 else 32, style)
        lines.append(f"{low * 100:>8.2f} to {high * 100:>7.2f} % {bar}{' ' if count else ''}{count:,}")
    return lines


def _columns(
    time_ns: Sequence[int], values: Sequence[float], width: int, choose: Callable[[list[float]], float]
) -> list[float]:
    """Return one value for each column of equal time; a column without a point repeats the one before."""
    begin, span = time_ns[0], max(1, time_ns[-1] - time_ns[0])
    found: list[list[float]] = [[] for _ in range(width)]
    for ts_ns, value in zip(time_ns, values, strict=True):
        found[(ts_ns - begin) * (width - 1) // span].append(value)
    columns = [values[0]]
    for column in found:
        columns.append(choose(column) if column else columns[-1])
    return columns[1:]


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return bounds that leave a little room; some where there is none at all."""
    room = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _area(shares: Sequence[float], height: int, style: Style, *, is_hanging: bool) -> list[str]:
    """Return an area of `height` lines, from below or hanging from above; each share is 0.0 to 1.0."""
    colour = 31 if is_hanging else 36
    if not style.is_unicode:
        partial = ""
    elif is_hanging:
        partial = "▀"  # the only upper block that every font has
    else:
        partial = "▁▂▃▄▅▆▇"
    levels = len(partial) + 1
    full = "█" if style.is_unicode else "#"
    rows: list[str] = []
    for row in range(height) if is_hanging else reversed(range(height)):
        line = ""
        for share in shares:
            level = round(share * height * levels) - row * levels
            line += full if level >= levels else partial[level - 1] if level > 0 else " "
        rows.append(_coloured(line, colour, style))
    return rows


def _with_axis(rows: Sequence[str], ticks: Sequence[tuple[float, str]], style: Style) -> list[str]:
    """Return rows with an axis on their left; a tick is a share of the height, from the top, and its name."""
    names = {min(len(rows) - 1, int(share * len(rows))): name for share, name in ticks}
    mark, line = ("┤", "│") if style.is_unicode else ("+", "|")
    return [
        f"{names.get(number, ''):>{_AXIS}} {mark if number in names else line}{row}" for number, row in enumerate(rows)
    ]


def _time_axis(time_ns: Sequence[int], style: Style) -> str:
    width = style.width - _AXIS - 2
    line = [" "] * width
    span = max(1, time_ns[-1] - time_ns[0])
    free = 0
    for moment, name in time_ticks(time_ns[0], time_ns[-1], max(2, width // 14)):
        at = (moment - time_ns[0]) * (width - 1) // span
        begin = min(max(at - len(name) // 2, 0), width - len(name))
        if begin >= free:
            line[begin : begin + len(name)] = name
            free = begin + len(name) + 2
    return " " * (_AXIS + 2) + "".join(line)


# --- tables


def metrics_table(report: Report, style: Style) -> list[str]:
    """Return every metric in groups, in two columns where there is room."""
    blocks: list[list[str]] = []
    wide = style.width >= 96
    width = (style.width - 4) // 2 if wide else style.width
    for name, members in GROUPS:
        block = [title(name, style._replace(width=width))]
        for member in members:
            label, value = METRICS[member].title, metric_text(member, report.metrics[member], report.quote)
            room = width - len(label) - 2
            block.append(f"{label}  {_cut(value, room, style).rjust(room)}")
        blocks.append([*block, ""])
    if not wide:
        return list(itertools.chain.from_iterable(blocks))[:-1]
    left = [*blocks[0], *blocks[1], *blocks[2]]
    right = [*blocks[3], *blocks[4]]
    pairs = itertools.zip_longest(left, right, fillvalue="")
    return [f"{first.ljust(width)}    {second}".rstrip() for first, second in pairs][:-1]


def months_table(months: Sequence[Month], style: Style) -> list[str]:
    """Return the returns of months in percent, a line for each year, as a heat map; empty without a month."""
    if not months:
        return []
    strongest = max(abs(month.change) for month in months)
    columns = next(columns for columns in (12, 6, 4, 3) if columns == 3 or 13 + 7 * columns <= style.width)
    chunks = [range(first, first + columns) for first in range(1, 13, columns)]
    lines = [title("Monthly returns, %", style)]
    for chunk in chunks:
        names = "".join(f"{_MONTHS[number - 1]:>7}" for number in chunk)
        is_last = chunk[-1] == 12
        lines.append(f"{'':5}{names}{'Year':>8}" if is_last else f"{'':5}{names}")
        for year in sorted({month.year for month in months}):
            mine = {month.month: month.change for month in months if month.year == year}
            cells = "".join(_month_cell(mine.get(number), strongest, style) for number in chunk)
            whole = 1.0
            for change in mine.values():
                whole *= 1 + change
            lines.append(f"{year:<5}{cells}{_hundredths(whole - 1):>8}" if is_last else f"{year:<5}{cells}")
    return lines


def _month_cell(change: float | None, strongest: float, style: Style) -> str:
    if change is None:
        return f"{'.':>7}"
    return _shaded(f"{_hundredths(change):>7}", month_shade(change, strongest), style)


def _hundredths(change: float) -> str:
    text = f"{change * 100:.1f}"
    return "0.0" if text == "-0.0" else text if len(text) <= 6 else short_number(change * 100)


def chance_table(chance: Assessment, style: Style) -> list[str]:
    """Return how much may be luck."""
    rows = chance_rows(chance)
    label_width = max(len(label) for label, _ in rows)
    lines = [title("How much may be luck", style)]
    for label, value in rows:
        first, *others = _wrapped(value, style._replace(width=max(15, style.width - label_width - 2)))
        lines.append(f"{label.ljust(label_width)}  {first}")
        lines.extend(" " * (label_width + 2) + other for other in others)
    return lines


def chance_rows(chance: Assessment) -> list[tuple[str, str]]:
    """Return an assessment as labels and values."""
    rows: list[tuple[str, str]] = []
    if chance.bootstrap is not None:
        drawn = chance.bootstrap
        rows += [
            ("Sharpe ratio of days", _interval_text(drawn.sharpe, number_text)),
            ("Total return", _interval_text(drawn.total_return, percent_text)),
            ("Chance of a loss", percent_text(drawn.loss_probability)),
        ]
    rows.append(("Chance true Sharpe > 0", _maybe_percent(chance.probabilistic_sharpe)))
    if chance.trials is not None:
        rows.append((f"Deflated for {chance.trials:,} trials", _maybe_percent(chance.deflated_sharpe)))
    needed = chance.track_record_days_min
    rows.append(("Days to be 95 % sure", NONE if needed is None else f"{needed:,.0f}"))
    for label, luck in (("Trades reshuffled", chance.reshuffled), ("Trades resampled", chance.resampled)):
        if luck is None:
            continue
        middle, worst = LUCK_QUANTILES.index(0.5), LUCK_QUANTILES.index(0.95)
        text = (
            f"max drawdown {percent_text(luck.max_drawdown[middle])} in the median, "
            f"{percent_text(luck.max_drawdown[worst])} in the worst 5 %; "
            f"equity below {percent_text(luck.ruin_level)} in {percent_text(luck.ruin_probability)} of runs"
        )
        rows.append((label, text))
    return rows


def _interval_text(interval: Interval, text: Callable[[float], str]) -> str:
    if interval.value is None or interval.low is None or interval.high is None:
        return NONE
    share = f"{interval.confidence * 100:g} %"
    return f"{text(interval.value)}, {share} from {text(interval.low)} to {text(interval.high)}"


def _maybe_percent(value: float | None) -> str:
    return NONE if value is None else percent_text(value)


# --- heat map


def heat_map(sweep: HeatMap, style: Style) -> list[str]:
    """Return a sweep as cells with their values; what is too wide is pooled: each cell the mean of some neighbours."""
    label = max(6, max((len(parameter_text(y)) for y in sweep.y_values), default=0))
    columns_max = max(1, (style.width - label - 2) // 7)
    x_step = -(-len(sweep.x_values) // columns_max) or 1
    y_step = -(-len(sweep.y_values) // 40) or 1
    known = [value for row in sweep.cells for value in row if value is not None]
    lines = [title(f"{metric_title(sweep.metric)} by {sweep.y_name} (down) and {sweep.x_name} (across)", style)]
    if not known:
        return [*lines, "no value"]
    pooled = [
        [_mean_of(sweep.cells, y, y + y_step, x, x + x_step) for x in range(0, len(sweep.x_values), x_step)]
        for y in range(0, len(sweep.y_values), y_step)
    ]
    shown = [value for row in pooled for value in row if value is not None]
    best, low, high = max(shown), min(shown), max(shown)
    lines.append(" " * (label + 2) + "".join(f"{parameter_text(x):>7.7}" for x in sweep.x_values[::x_step]))
    for y, row in zip(sweep.y_values[::y_step], pooled, strict=True):
        cells = "".join(_sweep_cell(value, low, high, best, style) for value in row)
        lines.append(f"{parameter_text(y):>{label}}  {cells}".rstrip())
    caption = f"best {number_text(max(known))}, worst {number_text(min(known))}, * best shown"
    if x_step > 1 or y_step > 1:
        caption += f"; a cell is the mean of {x_step} x {y_step}"
    return [*lines, *_wrapped(caption, style)]


def _mean_of(cells: Sequence[Sequence[float | None]], top: int, bottom: int, left: int, right: int) -> float | None:
    inside = [value for row in cells[top:bottom] for value in row[left:right] if value is not None]
    return sum(inside) / len(inside) if inside else None


def _sweep_cell(value: float | None, low: float, high: float, best: float, style: Style) -> str:
    if value is None:
        return f"{'.':>7}"
    text = f"{'*' if value == best else ''}{cell_text(value)}".rjust(7)
    return _shaded(text, shade(value, low, high), style)


# --- characters


def _shaded(text: str, strength: float, style: Style) -> str:
    """Return `text` on a background: green from 0 to 1, red from 0 to -1."""
    if not style.has_colour or strength == 0:
        return text
    shades = _GAIN if strength > 0 else _LOSS
    number = min(len(shades) - 1, int(abs(strength) * len(shades)))
    ink = 16 if number >= 2 and strength > 0 else 231
    return f"\x1b[48;5;{shades[number]};38;5;{ink}m{text}\x1b[0m"


def _coloured(text: str, code: int, style: Style) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if style.has_colour and text.strip() else text


def _cut(text: str, width: int, style: Style) -> str:
    shown = safe_text(text, max(1, width))
    return shown if style.is_unicode else _ascii(shown)


def _ascii(text: str) -> str:
    return text.replace("…", "~").encode("ascii", "replace").decode()


def _wrapped(text: str, style: Style) -> list[str]:
    """Return `text` in lines that fit, broken at spaces, without what could steer a terminal."""
    shown = safe_text(text, 2_000)
    shown = shown if style.is_unicode else _ascii(shown)
    lines = [""]
    for word in shown.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > style.width:
            lines.append("")
        rest = f"{lines[-1]} {word}" if lines[-1] else word
        while len(rest) > style.width:
            lines[-1], rest = rest[: style.width], rest[style.width :]
            lines.append("")
        lines[-1] = rest
    return lines
