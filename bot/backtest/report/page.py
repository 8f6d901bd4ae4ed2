"""A report as one page of HTML: no script, nothing from outside, readable on a phone, light or dark as one likes.

Every text is escaped. Plots are in `svg`; this is what stands around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from bot.backtest.metrics import METRICS
from bot.backtest.report.axes import month_shade
from bot.backtest.report.document import Month, Report, period_text
from bot.backtest.report.style import STYLE
from bot.backtest.report.svg import curve_figure, heat_map_figure, histogram_figure, tint
from bot.backtest.report.text import chance_rows
from bot.backtest.report.words import (
    GROUPS,
    HEADLINES,
    metric_text,
    metric_title,
    number_text,
    parameter_text,
    value_text,
)
from bot.core.durations import duration_text

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SIGNED: Final = frozenset({"total_return", "cagr"})


def render_page(report: Report) -> str:
    """Return the whole page, which ends with a line end."""
    parts = [
        _header(report),
        _headlines(report),
        _card("Equity and drawdown", curve_figure(report)),
        _card("Monthly returns", _months(report.months), note="Percent, by calendar month, UTC."),
    ]
    if report.histogram is not None:
        parts.append(_card("Returns of closed trades", histogram_figure(report.histogram)))
    if report.sweep is not None:
        parts.append(_card(f"Sweep: {metric_title(report.sweep.metric)}", heat_map_figure(report.sweep)))
    parts.append(_metrics(report))
    if report.chance is not None:
        parts.append(_card("How much may be luck", _rows(chance_rows(report.chance))))
    if report.notes:
        notes = "".join(f"<li>{escape(note)}</li>" for note in report.notes)
        parts.append(_card("Notes", f"<ul>{notes}</ul>"))
    parts.append(_inputs(report))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.name)} {escape(', '.join(report.symbols))}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _header(report: Report) -> str:
    chips = "".join(
        f"<span class=chip>{escape(key)} <b>{escape(parameter_text(value))}</b></span>"
        for key, value in report.parameters.items()
    )
    where = " · ".join(
        (
            ", ".join(report.symbols),
            duration_text(report.timeframe_ns // 10**6 * 10**6),
            period_text(report),
            f"starting cash {number_text(report.cash)} {report.quote}",
        )
    )
    return (
        f"<header>\n<h1>{escape(report.name)}</h1>\n<p>{escape(where)}</p>\n<div class=chips>{chips}</div>\n</header>"
    )


def _headlines(report: Report) -> str:
    cards: list[str] = []
    for name in HEADLINES:
        value = report.metrics[name]
        tone = ""
        if name in _SIGNED and isinstance(value, int | float) and value:
            tone = " class=gain" if value > 0 else " class=loss"
        text = metric_text(name, value, report.quote)
        sign = "+" if tone == " class=gain" else ""
        cards.append(
            f"<div class=kpi><span>{escape(METRICS[name].title)}</span><b{tone}>{sign}{escape(text)}</b></div>"
        )
    return f"<section class=kpis>{''.join(cards)}</section>"


def _metrics(report: Report) -> str:
    cards: list[str] = []
    for name, members in GROUPS:
        rows = "".join(
            f'<tr title="{escape(METRICS[member].formula)}"><th scope=row>{escape(METRICS[member].title)}</th>'
            f"<td>{escape(metric_text(member, report.metrics[member], report.quote))}</td></tr>"
            for member in members
        )
        cards.append(f"<div class=card><h2>{escape(name)}</h2><table class=pairs>{rows}</table></div>")
    return f"<section class=groups>{''.join(cards)}</section>"


def _months(months: Sequence[Month]) -> str:
    strongest = max((abs(month.change) for month in months), default=0.0)
    head = "".join(f"<th scope=col>{name}</th>" for name in (*_MONTHS, "Year"))
    rows: list[str] = []
    for year in sorted({month.year for month in months}):
        mine = {month.month: month.change for month in months if month.year == year}
        whole = 1.0
        for change in mine.values():
            whole *= 1 + change
        cells = "".join(_month(mine.get(number), strongest) for number in range(1, 13))
        rows.append(f"<tr><th scope=row>{year}</th>{cells}<td class=year>{whole * 100 - 100:.1f}</td></tr>")
    return f"<div class=scroll><table class=months><tr><td></td>{head}</tr>{''.join(rows)}</table></div>"


def _month(change: float | None, strongest: float) -> str:
    if change is None:
        return "<td></td>"
    return f'<td style="background:{tint(month_shade(change, strongest))}">{change * 100:.1f}</td>'


def _inputs(report: Report) -> str:
    manifest = report.manifest
    hashes = [("code", manifest.code), ("settings", manifest.settings), *manifest.data.items()]
    rows = [
        *((f"terms: {key}", parameter_text(value)) for key, value in report.terms.items()),
        ("refusals", value_text(report.metrics["refusals"], "counts", report.quote)),
        ("seed", str(manifest.seed)),
        *((f"version: {name}", number) for name, number in manifest.versions.items()),
        *((f"SHA-256: {name}", digest) for name, digest in hashes),
    ]
    return f"<details class=card><summary>Terms, and what this was made from</summary>{_rows(rows)}</details>"


def _rows(rows: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<tr><th scope=row>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in rows)
    return f"<table class=pairs>{lines}</table>"


def _card(heading: str, content: str, note: str = "") -> str:
    tail = f"<p class=note>{escape(note)}</p>" if note else ""
    return f"<section class=card>\n<h2>{escape(heading)}</h2>\n{content}{tail}\n</section>"
