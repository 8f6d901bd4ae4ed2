"""What a report holds: metrics, the curve in few points, months, marks and bins of trades; enough to be drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from bot.backtest.base import ROLES, Outcome
from bot.backtest.metrics import Value, facts_of, summarise, utc_text
from bot.backtest.report.manifest import Manifest
from bot.backtest.significance import Assessment
from bot.backtest.trades import Trades, round_trips
from bot.errors import SettingsError
from bot.strategies.advice import Floats, Ints, Market

VERSION: Final = 1
POINTS_MAX: Final = 800
"""Points of a curve: more than a screen can show."""
MARKS_MAX: Final = 80
BINS: Final = 18

Parameter = bool | int | float | str


class CurvePoints(msgspec.Struct, frozen=True, kw_only=True):
    """Equity in at most `POINTS_MAX` points: of each stretch of steps the lowest and the highest. Columns (n,)."""

    time_ns: list[int]
    equity: list[float]
    drawdown: list[float]
    """From the highest equity so far, of all steps."""
    hold: list[float]
    """The starting cash, bought and held in equal shares; empty without markets."""


class Days(msgspec.Struct, frozen=True, kw_only=True):
    """Equity after the last step of each UTC day that has one."""

    day_ns: list[int]
    equity: list[float]


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """The return of one calendar month, UTC."""

    year: int
    month: int
    change: float


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """The end of one trade on the curve."""

    ts_ns: int
    equity: float
    symbol: str
    side: int
    net: float
    role: str


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How many closed trades returned how much: `counts` has one element fewer than `edges`."""

    edges: list[float]
    counts: list[int]


class HeatMap(msgspec.Struct, frozen=True, kw_only=True):
    """One metric over two swept parameters."""

    metric: str
    x_name: str
    x_values: list[Parameter]
    y_name: str
    y_values: list[Parameter]
    cells: list[list[float | None]]
    """A row for each y, a column for each x."""

    def __post_init__(self) -> None:
        shape = (len(self.y_values), len(self.x_values))
        if len(self.cells) != shape[0] or any(len(row) != shape[1] for row in self.cells):
            raise ValueError(f"heat map of {self.metric}: cells are not {shape[0]} rows of {shape[1]}")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that is told about one run."""

    version: Literal[1] = VERSION
    name: str
    parameters: dict[str, Parameter]
    symbols: list[str]
    quote: str
    timeframe_ns: int
    from_ns: int
    to_ns: int
    """End of the last step."""
    cash: float
    terms: dict[str, Parameter]
    """What the market charged and allowed: the terms of the run, without the cash."""
    metrics: dict[str, Value]
    """Under their names and aliases; see `docs/metrics.md`."""
    curve: CurvePoints
    days: Days
    months: list[Month]
    marks: list[Mark]
    trades_shown: tuple[int, int]
    """Marks, and closed trades in all; where there are too many, those of the largest profit or loss are marked."""
    histogram: Histogram | None
    chance: Assessment | None
    sweep: HeatMap | None
    notes: list[str]
    manifest: Manifest


def make_report(
    *,
    name: str,
    parameters: Mapping[str, Parameter],
    outcome: Outcome,
    markets: Sequence[Market],
    terms: msgspec.Struct,
    manifest: Manifest,
    trades: Trades | None = None,
    chance: Assessment | None = None,
    sweep: HeatMap | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Return the report of a run; `markets` are those of `Outcome.symbols`, in the same order.

    Raises:
        SettingsError: the run has no step, no cash, or its symbols are not paid in one currency.

    """
    quotes = sorted({instrument.quote for instrument in outcome.instruments})
    if len(quotes) != 1:
        raise SettingsError(f"a report needs one quote currency; the symbols of this run have {', '.join(quotes)}")
    trades = round_trips(outcome, markets) if trades is None else trades
    facts = facts_of(outcome, markets, trades)
    closed = facts.closed
    marks = _marks(outcome, closed)
    return Report(
        name=name,
        parameters={key: parameters[key] for key in sorted(parameters)},
        symbols=list(outcome.symbols),
        quote=quotes[0],
        timeframe_ns=outcome.timeframe_ns,
        from_ns=int(outcome.time_ns[0]),
        to_ns=int(outcome.time_ns[-1]) + outcome.timeframe_ns,
        cash=outcome.cash,
        terms=terms_shown(terms),
        metrics=summarise(outcome, markets, trades).for_json(),
        curve=_curve(outcome, markets),
        days=Days(day_ns=facts.curve.day_ns.tolist(), equity=facts.curve.day_equity.tolist()),
        months=months_of(facts.curve.day_ns, facts.curve.day_equity, outcome.cash),
        marks=marks,
        trades_shown=(len(marks), len(closed.side)),
        histogram=histogram_of(closed.returns),
        chance=chance,
        sweep=sweep,
        notes=list(notes),
        manifest=manifest,
    )


def terms_shown(terms: msgspec.Struct) -> dict[str, Parameter]:
    """Return the terms of a run without its cash; those that are a record of their own by both names."""
    shown: dict[str, Parameter] = {}
    for key, value in msgspec.structs.asdict(terms).items():
        if isinstance(value, msgspec.Struct):
            shown |= {f"{key}_{name}": number for name, number in msgspec.structs.asdict(value).items()}
        elif key != "cash_atoms":
            shown[key] = value
    return shown


def months_of(day_ns: Ints, day_equity: Floats, cash: float) -> list[Month]:
    """Return the return of each month that has a day: against the last equity before it, the first against cash."""
    months = day_ns.astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
    last = np.flatnonzero(np.append(np.diff(months) != 0, True)) if len(months) else np.zeros(0, np.int64)
    before, found = cash, list[Month]()
    for index in last.tolist():
        year, month = divmod(int(months[index]), 12)
        equity = float(day_equity[index])
        change = equity / before - 1 if before > 0 else 0.0
        found.append(Month(year=1970 + year, month=month + 1, change=change))
        before = equity
    return found


def histogram_of(returns: Floats) -> Histogram | None:
    """Return the returns of trades in bins of equal width, one of whose edges is 0; None without a trade."""
    if not len(returns):
        return None
    low, high = min(float(np.min(returns)), 0.0), max(float(np.max(returns)), 0.0)
    width = (high - low) / (BINS - 2) or 0.01
    first, last = int(np.floor(low / width)), int(np.floor(high / width)) + 1
    edges = np.arange(first, last + 1) * width
    numbers = np.clip(np.floor(returns / width).astype(np.int64) - first, 0, last - first - 1)
    return Histogram(edges=edges.tolist(), counts=np.bincount(numbers, minlength=last - first).tolist())


def hold_curve(outcome: Outcome, markets: Sequence[Market], steps: Ints) -> list[float]:
    """Return what the starting cash, held in equal shares from the first close on, is worth at some steps."""
    shares: list[Floats] = []
    time_ns = outcome.time_ns
    for market in markets:
        start_ns, close = market.candles.start_ns, market.candles.close
        begin = int(np.searchsorted(start_ns, int(time_ns[0])))
        end = int(np.searchsorted(start_ns, int(time_ns[-1]), side="right"))
        if begin < end:
            index = np.searchsorted(start_ns, time_ns[steps], side="right") - 1
            shares.append(close[np.clip(index, begin, end - 1)] / float(close[begin]))
    return (np.mean(shares, axis=0) * outcome.cash).tolist() if shares else []


def _curve(outcome: Outcome, markets: Sequence[Market]) -> CurvePoints:
    equity = outcome.equity
    peaks = np.maximum(np.maximum.accumulate(equity), outcome.cash)
    steps = _chosen_steps(equity)
    return CurvePoints(
        time_ns=outcome.time_ns[steps].tolist(),
        equity=equity[steps].tolist(),
        drawdown=(1 - equity[steps] / peaks[steps]).tolist(),
        hold=hold_curve(outcome, markets, steps),
    )


def _chosen_steps(equity: Floats) -> Ints:
    """Return the first, the last, and the lowest and highest step of each stretch; all where there are few."""
    if len(equity) <= POINTS_MAX:
        return np.arange(len(equity))
    edges = np.linspace(0, len(equity), POINTS_MAX // 2).astype(np.int64)
    chosen = {0, len(equity) - 1}
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        stretch = equity[begin:end]
        chosen |= {begin + int(np.argmin(stretch)), begin + int(np.argmax(stretch))}
    return np.array(sorted(chosen), np.int64)


def _marks(outcome: Outcome, closed: Trades) -> list[Mark]:
    net = closed.net
    largest = np.sort(np.argsort(-np.abs(net), kind="stable")[:MARKS_MAX])
    return [
        Mark(
            ts_ns=int(outcome.time_ns[closed.exit_step[i]]),
            equity=float(outcome.equity[closed.exit_step[i]]),
            symbol=outcome.symbols[closed.symbol[i]],
            side=int(closed.side[i]),
            net=float(net[i]),
            role=ROLES[closed.exit_role[i]],
        )
        for i in largest.tolist()
    ]


def period_text(report: Report) -> str:
    """Return the period of a run as `2024-01-01 to 2024-12-31`, with times where it is short."""
    begin, end = utc_text(report.from_ns), utc_text(report.to_ns)
    if report.to_ns - report.from_ns >= 3 * 86_400_000_000_000:
        return f"{begin[:10]} to {end[:10]}"
    return f"{begin[:16]} to {end[:16]}".replace("T", " ") + " UTC"
