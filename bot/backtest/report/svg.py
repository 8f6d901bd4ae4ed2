"""Plots as inline SVG that stretches with the page; words stand beside it as HTML, so that they stay readable.

A drawing has 1000 by 1000 units whatever its size on the screen. Lines keep their width, and a dot is a line of no
length with round ends, so it stays round.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from bot.backtest.metrics import utc_text
from bot.backtest.report.axes import number_ticks, shade, time_ticks
from bot.backtest.report.document import HeatMap, Histogram, Mark, Parameter, Report
from bot.backtest.report.words import cell_text, number_text, parameter_text, percent_text, short_number

_SIZE: Final = 1000
_LABELS_MAX: Final = 12
"""Names along one side of a heat map, and most cells a side whose values are written into them."""


def tint(strength: float) -> str:
    """Return a background for -1.0 to 1.0, red to green; see-through, so that it fits light and dark."""
    colour = "11,140,95" if strength > 0 else "210,70,45"
    return f"rgba({colour},{min(abs(strength), 1.0) * 0.75:.2f})"


def curve_figure(report: Report) -> str:
    """Return equity with the ends of trades on it, and the drawdown below, on one time axis."""
    curve = report.curve
    if len(curve.equity) < 2:
        return "<p class=note>One step is no curve.</p>"
    begin, end = curve.time_ns[0], curve.time_ns[-1]
    xs = [_along(ts_ns, begin, end) for ts_ns in curve.time_ns]
    values = [*curve.equity, *curve.hold]
    low, high = _bounds(min(values), max(values))
    times = [(_along(ts_ns, begin, end), name) for ts_ns, name in time_ticks(begin, end, 8)]
    columns = "".join(f"<line class=grid x1={x:.1f} x2={x:.1f} y1=0 y2={_SIZE} />" for x, _ in times)
    names = "".join(
        f'<span class="x{" odd" if number % 2 else ""}" style="left:{x / 10:.2f}%">{escape(name)}</span>'
        for number, (x, name) in enumerate(times)
    )
    line = _points(xs, [_down(value, low, high) for value in curve.equity])
    hold = _points(xs, [_down(value, low, high) for value in curve.hold]) if curve.hold else ""
    drawing = (
        f'{columns}{_rows(number_ticks(low, high, 5), low, high)}<polygon class=under points="0,{_SIZE} {line} '
        f'{_SIZE},{_SIZE}" />{f"""<polyline class=hold points="{hold}" />""" if hold else ""}'
        f'<polyline class=equity points="{line}" />{_marks(report.marks, report.quote, begin, end, low, high)}'
    )
    equity = _plot(
        drawing, _y_names([(tick, short_number(tick)) for tick in number_ticks(low, high, 5)], low, high), 300
    )
    shown, total = report.trades_shown
    note = (
        f"<figcaption>Of {total:,} closed trades the {shown:,} largest are marked.</figcaption>"
        if shown < total
        else ""
    )
    fall = _drawdown(report, xs, columns, names)
    return f"<figure>{_key(bool(hold))}{equity}{fall}<div class=below></div>{note}</figure>"


def histogram_figure(histogram: Histogram) -> str:
    """Return how many trades returned how much, as bars that stand."""
    low, high = histogram.edges[0], histogram.edges[-1]
    most = max(histogram.counts)
    bars: list[str] = []
    for left, right, count in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        begin, end = _share(left, low, high), _share(right, low, high)
        height = _SIZE * count / most
        bars.append(
            f"<rect class=bar-{'loss' if right <= 0 else 'gain'} x={begin + 3:.1f} y={_SIZE - height:.1f} "
            f"width={end - begin - 6:.1f} height={height:.1f}>"
            f"<title>{percent_text(left)} to {percent_text(right)}: {count:,}</title></rect>"
        )
    ticks = [tick for tick in number_ticks(0, most, 4) if tick == int(tick)]
    names = "".join(
        f'<span class="x{" odd" if number % 2 else ""}" style="left:{_share(tick, low, high) / 10:.2f}%">'
        f"{short_number(tick * 100)} %</span>"
        for number, tick in enumerate(number_ticks(low, high, 8))
    )
    zero = _share(0.0, low, high)
    drawing = f"{_rows(ticks, 0, most)}{''.join(bars)}<line class=zero x1={zero:.1f} x2={zero:.1f} y1=0 y2={_SIZE} />"
    labels = _y_names([(tick, f"{tick:,.0f}") for tick in ticks], 0, most) + names
    return f"<figure>{_plot(drawing, labels, 200)}<div class=below></div></figure>"


def heat_map_figure(sweep: HeatMap) -> str:
    """Return a sweep as coloured cells; values are written into them where there are few, and the best has a frame."""
    known = [value for row in sweep.cells for value in row if value is not None]
    if not known:
        return "<p class=note>No variant has a value.</p>"
    low, high = min(known), max(known)
    width, height = _SIZE / len(sweep.x_values), _SIZE / len(sweep.y_values)
    has_values = len(sweep.x_values) <= _LABELS_MAX and len(sweep.y_values) <= _LABELS_MAX
    cells: list[str] = []
    best = words = ""
    for row, (y_value, values) in enumerate(zip(sweep.y_values, sweep.cells, strict=True)):
        for column, (x_value, value) in enumerate(zip(sweep.x_values, values, strict=True)):
            place = f"x={column * width:.2f} y={row * height:.2f} width={width:.2f} height={height:.2f}"
            if value is None:
                cells.append(f"<rect class=none {place}><title>no value</title></rect>")
                continue
            pair = f"{sweep.x_name} {parameter_text(x_value)}, {sweep.y_name} {parameter_text(y_value)}"
            about = f"{pair}: {number_text(value)}"
            cells.append(
                f'<rect class=cell {place} fill="{tint(shade(value, low, high))}"><title>{escape(about)}</title></rect>'
            )
            if value == high and not best:
                best = f"<rect class=best {place} />"
            if has_values:
                left, top = (column + 0.5) * width / 10, (row + 0.5) * height / 10
                words += f'<span class=v style="left:{left:.2f}%;top:{top:.2f}%">{cell_text(value)}</span>'
    pixels = min(480, max(140, 36 * len(sweep.y_values)))
    words += _names(sweep.x_values, "x", "left") + _names(sweep.y_values, "y", "top")
    caption = f"{sweep.y_name} down, {sweep.x_name} across; best {number_text(high)} (framed), worst {number_text(low)}"
    drawn = _plot("".join(cells) + best, words, pixels)
    return f"<figure>{drawn}<div class=below></div><figcaption>{escape(caption)}</figcaption></figure>"


def _drawdown(report: Report, xs: Sequence[float], columns: str, names: str) -> str:
    curve = report.curve
    deepest = max(curve.drawdown) or 0.01
    line = _points(xs, [_SIZE * value / deepest for value in curve.drawdown])
    ticks = number_ticks(0.0, deepest, 3)
    rows = "".join(
        f"<line class=grid x1=0 x2={_SIZE} y1={_SIZE * t / deepest:.1f} y2={_SIZE * t / deepest:.1f} />" for t in ticks
    )
    labels = "".join(
        f'<span class=y style="top:{100 * tick / deepest:.2f}%">{short_number(-tick * 100) if tick else 0} %</span>'
        for tick in ticks
    )
    return _plot(f'{columns}{rows}<polygon class=fall points="0,0 {line} {_SIZE},0" />', labels + names, 110)


def _marks(marks: Iterable[Mark], quote: str, begin: int, end: int, low: float, high: float) -> str:
    drawn: list[str] = []
    for mark in marks:
        place = f"M{_along(mark.ts_ns, begin, end):.1f} {_down(mark.equity, low, high):.1f}h0"
        about = (
            f"{utc_text(mark.ts_ns)} {mark.symbol} {'long' if mark.side > 0 else 'short'} ended ({mark.role}): "
            f"{'+' if mark.net > 0 else ''}{number_text(mark.net)} {quote}"
        )
        kind = "won" if mark.net > 0 else "lost"
        hole = "" if mark.net > 0 else f'<path class=hole d="{place}" />'
        drawn.append(f'<g><title>{escape(about)}</title><path class={kind} d="{place}" />{hole}</g>')
    return "".join(drawn)


def _key(has_hold: bool) -> str:
    hold = "<span><i class=dashed></i>Buy and hold, no fees</span>" if has_hold else ""
    return (
        f"<div class=key><span><i></i>Equity</span>{hold}<span><i class=dot></i>Trade won</span>"
        "<span><i class=ring></i>Trade not won</span><span><i class=block></i>Drawdown</span></div>"
    )


def _plot(drawing: str, labels: str, pixels: int) -> str:
    return (
        f'<div class=plot style="height:{pixels}px"><svg viewBox="0 0 {_SIZE} {_SIZE}" preserveAspectRatio="none" '
        f"aria-hidden=true>{drawing}</svg>{labels}</div>"
    )


def _rows(ticks: Iterable[float], low: float, high: float) -> str:
    ys = (_down(tick, low, high) for tick in ticks)
    return "".join(f"<line class=grid x1=0 x2={_SIZE} y1={y:.1f} y2={y:.1f} />" for y in ys)


def _y_names(ticks: Iterable[tuple[float, str]], low: float, high: float) -> str:
    return "".join(
        f'<span class=y style="top:{_down(tick, low, high) / 10:.2f}%">{escape(name)}</span>' for tick, name in ticks
    )


def _names(values: Sequence[Parameter], kind: str, side: str) -> str:
    step = -(-len(values) // _LABELS_MAX)
    return "".join(
        f'<span class="{kind}{" odd" if kind == "x" and number // step % 2 else ""}" '
        f'style="{side}:{(number + 0.5) / len(values) * 100:.2f}%">{escape(parameter_text(values[number]))}</span>'
        for number in range(0, len(values), step)
    )


def _bounds(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.04 or abs(high) * 0.04 or 1.0
    return low - room, high + room


def _along(ts_ns: int, begin: int, end: int) -> float:
    return _SIZE * (ts_ns - begin) / max(1, end - begin)


def _share(value: float, low: float, high: float) -> float:
    return _SIZE * (value - low) / (high - low)


def _down(value: float, low: float, high: float) -> float:
    return _SIZE - _share(value, low, high)


def _points(xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
