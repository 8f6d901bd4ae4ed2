"""Sweeps and walks as tables for a terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Final

from bot.backtest.checks import moment
from bot.backtest.job import Setup, Told
from bot.backtest.report.text import Style, chance_table, heat_map, title
from bot.backtest.report.words import NONE, metric_text, number_text, parameter_text, percent_text
from bot.backtest.search import SearchAsk, Swept, Walked
from bot.backtest.space import Point

_GAP: Final = 2


def swept_text(swept: Swept, ask: SearchAsk, quote: str, top: int, style: Style) -> str:
    """Return the best points, the heat map, and how much of the best may be luck."""
    table, shown = swept.table, swept.places[: max(0, top)]
    left_out = f", {table.invalid:,} refused" if table.invalid else ""
    again = f", {table.resumed:,} read from the file" if table.resumed else ""
    cut = "" if table.is_complete else ", cut short"
    heading = f"{len(table.points):,} points by {ask.metric}{left_out}{again}{cut}"
    columns = [("", [f"{rank}" for rank in range(1, len(shown) + 1)])]
    columns += [
        (name, [parameter_text(table.points[place][at]) for place in shown]) for at, name in enumerate(table.names)
    ]
    columns += [
        (name, [_metric(name, float(table.column(name)[place]), quote) for place in shown])
        for name in _first(ask.metric, table.metrics)
    ]
    lines = [title(heading, style), *_table(columns, style)]
    if not shown:
        lines.append("no point has the metric and enough trades")
    if swept.heat is not None:
        lines += ["", *heat_map(swept.heat, style)]
    if swept.best is not None and swept.best.report.chance is not None:
        lines += ["", *chance_table(swept.best.report.chance, style)]
    return _text(lines, style)


def swept_json(swept: Swept, ask: SearchAsk, setup: Told, top: int) -> dict[str, object]:
    """Return what came of a sweep: its best points, and the report of the best."""
    table = swept.table
    points = [_point_json(table.names, table.points[place]) | _row_json(swept, place) for place in swept.places[:top]]
    return {
        "strategy": setup.chosen.name,
        "metric": ask.metric,
        "method": ask.method,
        "points": len(table.points),
        "refused": table.invalid,
        "repeated": table.repeated,
        "resumed": table.resumed,
        "complete": table.is_complete,
        "parameters": table.names,
        "metrics": table.metrics,
        "best": points[0] if points else None,
        "top": points,
        "heat": swept.heat,
        "report": None if swept.best is None else swept.best.report,
        "data": setup.intake.reports,
    }


def points_csv(swept: Swept) -> str:
    """Return every point as a line, in the order they were tried."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    table = swept.table
    writer.writerow([*table.names, *table.metrics])
    for point, values in zip(table.points, table.values.tolist(), strict=True):
        writer.writerow([*point, *(value if isfinite(value) else "" for value in values)])
    return text.getvalue()


def walked_text(walked: Walked, ask: SearchAsk, setup: Setup, style: Style) -> str:
    """Return a line for each window, and what came of all tests together."""
    walk, quote = walked.walk, setup.intake.markets[0].instrument.quote
    columns = [
        ("train from", [moment(step.window.train_start_ns)[:16] for step in walk.steps]),
        ("test from", [moment(step.window.test_start_ns)[:16] for step in walk.steps]),
        ("to", [moment(step.window.test_end_ns)[:16] for step in walk.steps]),
        ("parameters", [_point_text(walk.names, step.point) for step in walk.steps]),
    ]
    for name in _first(ask.metric, walk.metrics):
        at = walk.metrics.index(name)
        columns.append((f"{name} in", [_metric(name, step.train[at], quote) for step in walk.steps]))
        columns.append(("out", [_metric(name, step.test[at], quote) for step in walk.steps]))
    columns.append(("efficiency", [_number(step.efficiency) for step in walk.steps]))
    sharpe = NONE if walked.sharpe is None else number_text(walked.sharpe)
    lines = [
        title(f"{len(walk.steps)} windows: chosen in training, tested on what came next", style),
        *_table(columns, style),
        "",
        title("All tests, one after the other", style),
        f"total return {percent_text(walked.total_return)}, max drawdown {percent_text(walked.max_drawdown)}",
        f"sharpe {sharpe}, efficiency {_number(walk.efficiency)}",
    ]
    return _text(lines, style)


def walked_json(walked: Walked, ask: SearchAsk, setup: Setup) -> dict[str, object]:
    """Return what came of a walk: every window, and the curve of all tests."""
    walk = walked.walk
    steps = [
        {
            "train_from": moment(step.window.train_start_ns),
            "test_from": moment(step.window.test_start_ns),
            "test_to": moment(step.window.test_end_ns),
            "parameters": None if step.point is None else _point_json(walk.names, step.point),
            "train": _named(walk.metrics, step.train),
            "test": _named(walk.metrics, step.test),
            "efficiency": _finite(step.efficiency),
            "trials": step.trials,
        }
        for step in walk.steps
    ]
    return {
        "strategy": setup.chosen.name,
        "metric": ask.metric,
        "method": ask.method,
        "complete": walk.is_complete,
        "totalReturn": walked.total_return,
        "finalEquity": walk.cash * (1 + walked.total_return),
        "maxDrawdown": walked.max_drawdown,
        "sharpeRatio": walked.sharpe,
        "efficiency": _finite(walk.efficiency),
        "windows": steps,
        "curve": {"time_ns": walk.time_ns.tolist(), "equity": walk.equity.tolist()},
        "manifest": setup.manifest(search=ask.axes),
        "data": setup.intake.reports,
    }


def _first(metric: str, metrics: Sequence[str]) -> list[str]:
    """Return the names with the one that was asked for in front."""
    return [metric, *(name for name in metrics if name != metric)]


def _row_json(swept: Swept, place: int) -> dict[str, object]:
    return dict(_named(swept.table.metrics, swept.table.values[place].tolist()))


def _point_json(names: Sequence[str], point: Point) -> dict[str, object]:
    return dict(zip(names, point, strict=True))


def _named(names: Sequence[str], values: Sequence[float]) -> Mapping[str, float | None]:
    return {name: _finite(value) for name, value in zip(names, values, strict=True)}


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None


def _metric(name: str, value: float, quote: str) -> str:
    return metric_text(name, value, quote) if isfinite(value) else NONE


def _number(value: float) -> str:
    return number_text(value) if isfinite(value) else NONE


def _point_text(names: Sequence[str], point: Point | None) -> str:
    if point is None:
        return "in cash"
    return " ".join(f"{name}={parameter_text(value)}" for name, value in zip(names, point, strict=True))


def _table(columns: Sequence[tuple[str, Sequence[str]]], style: Style) -> list[str]:
    """Return columns with their headings, as many as fit; what does not fit is named."""
    widths = [max(len(name), *(len(cell) for cell in cells), 0) for name, cells in columns]
    fitting, used = 0, 0
    for width in widths:
        used += width + (_GAP if fitting else 0)
        if used > style.width and fitting:
            break
        fitting += 1
    chosen = list(zip(columns[:fitting], widths[:fitting], strict=True))
    rows = len(columns[0][1])
    lines = [(" " * _GAP).join(name.rjust(width) for (name, _), width in chosen)]
    lines += [(" " * _GAP).join(cells[row].rjust(width) for (_, cells), width in chosen) for row in range(rows)]
    if fitting < len(columns):
        lines.append(f"a wider terminal, --json or --csv also show {', '.join(name for name, _ in columns[fitting:])}")
    return lines


def _text(lines: Sequence[str], style: Style) -> str:
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return text if style.is_unicode else text.encode("ascii", "replace").decode()
