from __future__ import annotations

import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.backtest.base import Terms
from bot.backtest.metrics import METRICS
from bot.backtest.report.axes import number_ticks, shade, time_ticks
from bot.backtest.report.document import (
    BINS,
    MARKS_MAX,
    POINTS_MAX,
    HeatMap,
    Month,
    Report,
    histogram_of,
    make_report,
    months_of,
)
from bot.backtest.report.page import render_page
from bot.backtest.report.text import (
    WIDTH_MIN,
    Style,
    drawdown_plot,
    heat_map,
    months_table,
    render_text,
    style_for,
)
from bot.backtest.report.words import GROUPS, HEADLINES, number_text, short_number, value_text
from bot.core.instrument import ATOMS
from bot.errors import SettingsError
from tests.support.builders import instrument
from tests.support.outcomes import (
    DAY_NS,
    HOUR_NS,
    MINUTE_NS,
    START_NS,
    idle_markets,
    market,
    outcome,
    perp,
    sample_manifest,
    sample_report,
    sampled,
)

SNAPSHOTS = Path(__file__).parent / "snapshots"
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


# --- what a report holds


def test_a_curve_keeps_its_extremes_in_few_points() -> None:
    rng = np.random.default_rng(3)
    equity = 1000 * np.cumprod(1 + rng.normal(0, 0.001, 50_000))
    report = report_of(equity, timeframe_ns=MINUTE_NS)
    assert len(report.curve.equity) <= POINTS_MAX
    assert max(report.curve.equity) == float(np.max(equity))
    assert min(report.curve.equity) == float(np.min(equity))
    assert max(report.curve.drawdown) == pytest.approx(report.metrics["max_drawdown"], rel=1e-12)
    assert report.curve.equity[-1] == report.metrics["finalEquity"]
    assert report.curve.time_ns == sorted(set(report.curve.time_ns))


def test_what_is_held_begins_with_the_starting_cash() -> None:
    run = outcome([1000.0, 1010.0, 1020.0], instruments=[perp(), perp("ETH_USDT")])
    report = report_for(run, [market([100, 200, 300]), market([10, 10, 5], of=perp("ETH_USDT"))])
    assert report.curve.hold == [1000.0, 1500.0, 1750.0]


@pytest.mark.parametrize(
    ("days", "equity", "expected"),
    [
        ([], [], []),
        ([0], [110.0], [(2024, 1, 0.1)]),
        ([0, 30, 31], [110.0, 120.0, 60.0], [(2024, 1, 0.2), (2024, 2, -0.5)]),
        ([0, 62, 366], [100.0, 50.0, 100.0], [(2024, 1, 0.0), (2024, 3, -0.5), (2025, 1, 1.0)]),
    ],
    ids=["none", "one", "two-months", "gaps-and-years"],
)
def test_a_month_is_against_the_last_equity_before_it(
    days: list[int], equity: list[float], expected: list[tuple[int, int, float]]
) -> None:
    found = months_of(np.array(days, np.int64) * DAY_NS + START_NS, np.array(equity), 100.0)
    assert [(month.year, month.month) for month in found] == [(year, month) for year, month, _ in expected]
    assert [month.change for month in found] == pytest.approx([change for *_, change in expected])


@given(st.lists(st.floats(-1, 5), min_size=1, max_size=200))
def test_every_trade_is_in_one_bin_and_no_bin_spans_zero(returns: list[float]) -> None:
    found = histogram_of(np.array(returns))
    assert found is not None
    assert sum(found.counts) == len(returns)
    assert len(found.edges) == len(found.counts) + 1 <= BINS + 1
    assert 0.0 in found.edges
    assert found.edges[0] <= min(returns)
    assert max(returns) <= found.edges[-1]


def test_of_many_trades_the_largest_are_marked() -> None:
    fills: list[tuple[int, int, int]] = []
    for number in range(MARKS_MAX + 50):
        fills += [(2 * number, 1000, 1), (2 * number + 1, 1001 + number, -1)]
    report = report_of([1000.0] * (2 * MARKS_MAX + 100), fills=fills)
    assert report.trades_shown == (MARKS_MAX, MARKS_MAX + 50)
    assert min(mark.net for mark in report.marks) == 51.0
    assert f"Of {MARKS_MAX + 50} closed trades the {MARKS_MAX} largest are marked" in render_page(report)


def test_a_report_has_one_quote_currency() -> None:
    run = outcome(instruments=[instrument("BTC_USDT"), instrument("ETH_BTC")])
    with pytest.raises(SettingsError, match="BTC, USDT"):
        report_for(run, idle_markets(run))


def test_a_heat_map_is_a_rectangle() -> None:
    with pytest.raises(ValueError, match="2 rows of 1"):
        HeatMap(metric="m", x_name="x", x_values=[1], y_name="y", y_values=[1, 2], cells=[[1.0], [1.0, 2.0]])


def test_every_metric_is_in_one_group() -> None:
    grouped = [name for _, members in GROUPS for name in members]
    assert sorted(grouped) == sorted(METRICS)
    assert set(HEADLINES) <= set(METRICS)


# --- words and axes


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ratio", "-"),
        (0.12345, "fraction", "12.35 %"),
        (-0.0, "fraction", "0.00 %"),
        (0.00012, "fraction", "0.012 %"),
        (1234567.891, "quote", "1,234,567.89 USDT"),
        (12, "count", "12"),
        (1.5, "days", "1.50 days"),
        (2.0, "bars", "2.00 bars"),
        (12.0, "bps", "12.00 bps"),
        (0.5, "a day", "0.50 a day"),
        ("2024-01-02T03:04:05Z", "time", "2024-01-02 03:04:05"),
        ({"CASH": 1200}, "counts", "CASH 1,200"),
        ({}, "counts", "none"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_value_is_told_with_its_unit(value: Any, unit: Any, text: str) -> None:
    assert value_text(value, unit, "USDT") == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.00"), (1e18, "1.000e+18"), (1e-12, "1.00e-12"), (-0.004, "-0.0040"), (999.999, "1,000.00")],
    ids=str,
)
def test_a_number_is_never_endless(value: float, text: str) -> None:
    assert number_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_short_number_is_short(value: float) -> None:
    assert len(short_number(value)) <= 10 or abs(value) >= 1e15


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.integers(1, 10))
def test_ticks_are_few_round_and_inside(low: float, span: float, count: int) -> None:
    ticks = number_ticks(low, low + span, count)
    assert len(ticks) <= count + 1
    assert ticks == sorted(set(ticks))
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


@pytest.mark.parametrize(
    ("span_ns", "names"),
    [
        (10 * MINUTE_NS, ["00:00", "00:05", "00:10"]),
        (2 * HOUR_NS, ["00:00", "01:00", "02:00"]),
        (30 * HOUR_NS, ["01 Jan 00:00", "01 Jan 12:00", "02 Jan 00:00"]),
        (8 * DAY_NS, ["02 Jan", "04 Jan", "06 Jan", "08 Jan"]),
        (120 * DAY_NS, ["Jan 2024", "Feb 2024", "Mar 2024", "Apr 2024"]),
        (2_900 * DAY_NS, ["2024", "2026", "2028", "2030"]),
    ],
    ids=["minutes", "hours", "half-days", "days", "months", "years"],
)
def test_moments_of_an_axis_are_round(span_ns: int, names: list[str]) -> None:
    found = time_ticks(START_NS, START_NS + span_ns, 4)
    assert [name for _, name in found] == names
    assert all(START_NS <= moment <= START_NS + span_ns for moment, _ in found)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 1))
def test_a_colour_has_the_sign_of_its_value(first: float, second: float, share: float) -> None:
    low, high = sorted((first, second))
    value = min(max(low + (high - low) * share, low), high)
    strength = shade(value, low, high)
    assert -1 <= strength <= 1
    assert strength * value >= 0


# --- text


@pytest.mark.parametrize("width", [100, 60])
@pytest.mark.parametrize("is_unicode", [True, False], ids=["unicode", "ascii"])
def test_a_report_looks_as_it_did(width: int, is_unicode: bool) -> None:
    """Compared with a text snapshot; `BOT_WRITE_SNAPSHOTS=1` writes it anew, to be read before it is committed."""
    path = SNAPSHOTS / f"report_{width}_{'unicode' if is_unicode else 'ascii'}.txt"
    text = render_text(sample_report(), Style(width, is_unicode))
    if os.environ.get("BOT_WRITE_SNAPSHOTS"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("width", [40, 61, 80, 97, 200])
@pytest.mark.parametrize("has_colour", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, has_colour: bool) -> None:
    name = "a strategy with quite a long name, " * 5
    wide = HeatMap(
        metric="sharpe",
        x_name="x",
        x_values=list(range(100)),
        y_name="y",
        y_values=list(range(90)),
        cells=[[float(x - y) for x in range(100)] for y in range(90)],
    )
    text = render_text(sample_report(name=name, sweep=wide, notes=["n" * 300]), Style(width, has_colour=has_colour))
    assert max(len(ESCAPES.sub("", line)) for line in text.splitlines()) <= width


def test_colour_changes_nothing_but_colour() -> None:
    report = sample_report()
    coloured = render_text(report, Style(100, has_colour=True))
    assert "\x1b[" in coloured
    plain = render_text(report, Style(100))
    assert "\x1b" not in plain
    stripped = "\n".join(line.rstrip() for line in ESCAPES.sub("", coloured).splitlines())
    assert stripped == plain.rstrip("\n")


def test_ascii_is_ascii() -> None:
    render_text(sample_report(name="größer"), Style(80, is_unicode=False)).encode("ascii")


def test_a_name_cannot_steer_the_terminal() -> None:
    report = sample_report(name="evil\x1b[2J\x07\u202e", notes=["\x1b]0;gone\x07"], parameters={"\x1b[31m": "\x1b[0m"})
    assert "\x1b" not in render_text(report, Style(100))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param({}, Style(80, is_unicode=True, has_colour=True), id="terminal"),
        pytest.param({"environment": {"NO_COLOR": "1"}}, Style(80), id="no-color"),
        pytest.param({"environment": {"NO_COLOR": ""}}, Style(80, has_colour=True), id="empty-no-color"),
        pytest.param({"environment": {"TERM": "dumb"}}, Style(80), id="dumb"),
        pytest.param({"is_terminal": False}, Style(80), id="file"),
        pytest.param({"encoding": "ANSI_X3.4-1968"}, Style(80, is_unicode=False, has_colour=True), id="ascii"),
        pytest.param({"width": 10}, Style(WIDTH_MIN, has_colour=True), id="narrow"),
    ],
)
def test_a_style_is_what_the_terminal_can_show(arguments: dict[str, Any], expected: Style) -> None:
    given_: dict[str, Any] = {"width": 80, "encoding": "utf-8", "is_terminal": True, "environment": {}}
    assert style_for(**{**given_, **arguments}) == expected


def test_a_curve_that_never_falls_has_no_plot_of_drawdowns() -> None:
    assert drawdown_plot(report_of([1000.0, 1001.0]), Style()) == []


def test_a_run_of_one_step_is_told_without_plots() -> None:
    report = report_of([1000.0])
    assert "Final equity" in render_text(report, Style())
    assert "One step is no curve" in render_page(report)


def test_the_best_variant_is_marked_and_a_missing_one_is_a_point() -> None:
    sweep = HeatMap(metric="sharpe", x_name="x", x_values=[1, 2], y_name="y", y_values=["a"], cells=[[None, 1.5]])
    assert heat_map(sweep, Style())[2] == "     a        .  *1.50"
    empty = HeatMap(metric="m", x_name="x", x_values=[1], y_name="y", y_values=[1], cells=[[None]])
    assert heat_map(empty, Style())[1] == "no value"
    assert "No variant has a value" in render_page(sample_report(sweep=empty))


def test_a_year_of_months_compounds() -> None:
    months = [Month(year=2024, month=month, change=0.1) for month in (1, 2)]
    assert months_table(months, Style(100))[-1].split() == ["2024", "10.0", "10.0", *["."] * 10, "21.0"]


# --- the page


VOID = {"meta", "line", "polyline", "polygon", "path", "rect", "br"}


class Page(HTMLParser):
    """Checks that every element is closed where it was opened, and keeps what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs
        if tag not in VOID or tag == "rect":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> Page:
    found = Page()
    found.feed(page)
    found.close()
    assert found.open == []
    return found


def test_the_page_is_whole_and_has_every_part() -> None:
    page = parsed(render_page(sample_report()))
    for heading in (
        "Equity and drawdown",
        "Monthly returns",
        "Returns of closed trades",
        "Sweep: Sharpe ratio",
        "Notes",
    ):
        assert heading in page.text
    for metric in METRICS.values():
        assert metric.title in page.text
    assert page.names.count("svg") == 4


def test_the_page_takes_nothing_from_outside_and_runs_nothing() -> None:
    page = render_page(sample_report())
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page
    found = parsed(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(found.names)
    assert not {name for name, _ in found.attributes if name in {"src", "href", "srcset"} or name.startswith("on")}


EVIL = "</title></style><script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;"


def _with_name(text: str) -> Report:
    return sample_report(name=text)


def _with_parameters(text: str) -> Report:
    return sample_report(parameters={text: text})


def _with_notes(text: str) -> Report:
    return sample_report(notes=[text])


def _with_sweep(text: str) -> Report:
    return sample_report(
        sweep=HeatMap(metric=text, x_name=text, x_values=[text], y_name=text, y_values=[text], cells=[[1.0]])
    )


def _with_everything(text: str) -> Report:
    report = sample_report()
    manifest = msgspec.structs.replace(sample_manifest(), data={text: text}, versions={text: text})
    marks = [msgspec.structs.replace(mark, symbol=text, role=text) for mark in report.marks]
    metrics = {**report.metrics, "refusals": {text: 1}}
    return msgspec.structs.replace(
        report, symbols=[text], quote=text, manifest=manifest, marks=marks, metrics=metrics, terms={text: text}
    )


@pytest.mark.parametrize("make", [_with_name, _with_parameters, _with_notes, _with_sweep, _with_everything])
def test_every_text_is_escaped(make: Callable[[str], Report]) -> None:
    page = render_page(make(EVIL))
    found = parsed(page)
    assert "script" not in found.names
    assert "img" not in found.names
    assert "<script" not in page
    assert EVIL in found.text or any(EVIL in (value or "") for _, value in found.attributes)


def test_the_same_inputs_give_the_same_bytes() -> None:
    assert render_page(sample_report()) == render_page(sample_report())
    assert render_text(sample_report()) == render_text(sample_report())


@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_the_shortest_runs_have_a_page_too(steps: int) -> None:
    run, markets = sampled(40)
    short = run._replace(
        time_ns=run.time_ns[:steps],
        equity=run.equity[:steps],
        exposure=run.exposure[:steps],
        fills=run.fills._replace(
            **{name: column[run.fills.step < steps] for name, column in run.fills._asdict().items()}
        ),
    )
    report = report_for(short, markets)
    parsed(render_page(report))
    assert render_text(report).endswith("\n")


def report_for(run: Any, markets: Any) -> Report:
    return make_report(
        name="short",
        parameters={},
        outcome=run,
        markets=markets,
        terms=Terms(cash_atoms=1000 * ATOMS),
        manifest=sample_manifest(),
    )


def report_of(equity: Any, **changes: Any) -> Report:
    run = outcome(equity, **changes)
    return report_for(run, idle_markets(run))
