"""Two or more reports side by side: every metric, what differs, and whether the difference may be luck."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from bot.backtest.metrics import METRICS, Value
from bot.backtest.report.document import Report, period_text
from bot.backtest.report.text import Style, title
from bot.backtest.report.words import NONE, metric_text, number_text, percent_text
from bot.backtest.significance import Difference, paired_difference
from bot.core.text import safe_text
from bot.errors import SettingsError
from bot.strategies.advice import Floats

_NAME_MAX = 18


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One metric of every report; `differences` are against the first, None where there is none to tell."""

    name: str
    values: list[Value]
    differences: list[float | None]


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """One report against the first: the same days, paired."""

    label: str
    difference: Difference | None
    """Of daily returns; None with fewer than 2 days in common."""
    same_inputs: list[str]
    """Which of code, settings, data, seed and versions are the same."""
    other_inputs: list[str]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Reports side by side, in the order given."""

    labels: list[str]
    periods: list[str]
    rows: list[Row]
    against: list[Against]
    """For each report but the first."""


def compare(reports: Sequence[Report], labels: Sequence[str], *, seed: int = 0, samples: int = 2_000) -> Comparison:
    """Return reports side by side; labels name them.

    Raises:
        SettingsError: fewer than 2 reports, not as many labels, or not all in the same quote currency.

    """
    if len(reports) < 2:
        raise SettingsError(f"{len(reports)} report cannot be compared; at least 2")
    if len(labels) != len(reports):
        raise SettingsError(f"{len(labels)} labels for {len(reports)} reports")
    quotes = sorted({report.quote for report in reports})
    if len(quotes) != 1:
        raise SettingsError(f"reports in {' and '.join(quotes)} cannot be compared")
    first = reports[0]
    return Comparison(
        labels=list(labels),
        periods=[period_text(report) for report in reports],
        rows=[_row(name, [report.metrics[name] for report in reports]) for name in METRICS],
        against=[
            _against(report, first, label, seed, samples) for report, label in zip(reports[1:], labels[1:], strict=True)
        ],
    )


def day_returns(report: Report) -> tuple[list[int], Floats]:
    """Return the days of a report, and the return of each against the one before, the first against cash."""
    equity = np.array(report.days.equity)
    before = np.concatenate(([report.cash], equity[:-1]))
    return report.days.day_ns, np.divide(equity - before, before, out=np.zeros(len(equity)), where=before > 0)


def comparison_json(comparison: Comparison) -> bytes:
    """Return a comparison as JSON, indented, with a line end."""
    return msgspec.json.format(msgspec.json.encode(comparison), indent=1) + b"\n"


def render_comparison(comparison: Comparison, reports: Sequence[Report], style: Style) -> str:
    """Return a comparison as a table for a terminal, which ends with a line end; as many columns as fit."""
    label_width = max(len(metric.title) for metric in METRICS.values())
    fitting = max(1, (style.width - label_width) // (_NAME_MAX + 2))
    lines: list[str] = []
    for begin in range(0, len(reports), fitting):
        chosen = range(begin, min(begin + fitting, len(reports)))
        lines.append(title("Side by side", style))
        lines.append(_line("", [comparison.labels[i] for i in chosen], label_width, style))
        for row in comparison.rows:
            texts = [metric_text(row.name, row.values[i], reports[i].quote) for i in chosen]
            lines.append(_line(METRICS[row.name].title, texts, label_width, style))
        lines.append("")
    lines.append(title(f"Against {comparison.labels[0]}", style))
    for other in comparison.against:
        lines.extend(_against_lines(other, style))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _row(name: str, values: list[Value]) -> Row:
    return Row(name=name, values=values, differences=[_gap(value, values[0]) for value in values[1:]])


def _gap(value: Value, first: Value) -> float | None:
    if isinstance(value, int | float) and isinstance(first, int | float):
        return value - first
    return None


def _against(report: Report, first: Report, label: str, seed: int, samples: int) -> Against:
    mine, theirs = (dict(zip(*day_returns(one), strict=True)) for one in (report, first))
    common = sorted(mine.keys() & theirs.keys())
    difference = None
    if len(common) >= 2:
        difference = paired_difference(
            np.array([float(mine[day]) for day in common]),
            np.array([float(theirs[day]) for day in common]),
            seed=seed,
            samples=samples,
        )
    names = ("code", "settings", "data", "seed", "versions")
    same = [name for name in names if getattr(report.manifest, name) == getattr(first.manifest, name)]
    other = [name for name in names if name not in same]
    return Against(label=label, difference=difference, same_inputs=same, other_inputs=other)


def _line(label: str, texts: Sequence[str], label_width: int, style: Style) -> str:
    cells = "".join(f"  {safe_text(text, _NAME_MAX):>{_NAME_MAX}}" for text in texts)
    line = f"{label.ljust(label_width)}{cells}"
    return line if style.is_unicode else line.replace("…", "~").encode("ascii", "replace").decode()


def _against_lines(other: Against, style: Style) -> list[str]:
    label = safe_text(other.label, style.width)
    inputs = ", ".join(other.other_inputs) or "nothing"
    found = other.difference
    if found is None:
        lines = [f"{label}: fewer than 2 days in common"]
    else:
        mean = found.mean
        low, high = (NONE if end is None else percent_text(end) for end in (mean.low, mean.high))
        doubt = "" if found.p_value < 0.05 else ": may well be luck"
        lines = [
            f"{label}: {percent_text(mean.value or 0.0)} a day over {found.periods:,} days",
            f"  95 % from {low} to {high}; p {number_text(found.p_value)}{doubt}",
        ]
    return [line if style.is_unicode else line.encode("ascii", "replace").decode() for line in lines] + [
        f"  inputs that differ: {inputs}"
    ]
