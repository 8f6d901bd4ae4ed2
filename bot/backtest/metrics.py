"""What a run is judged by: one table of metrics, each with its formula, unit, annualisation and source.

A metric that is not defined is None, never NaN and never infinite; its formula says when. Fractions are fractions:
0.05 is five percent. `docs/metrics.md` is this table, and says where other packages mean something else by a name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from bot.backtest.base import ROLES, Outcome
from bot.backtest.curve import Curve, equity_curve, median_spacing_ns
from bot.backtest.trades import Trades, round_trips
from bot.core.messages import SECOND_NS
from bot.errors import SettingsError
from bot.strategies.advice import Floats, Ints, Market

DAY_NS: Final = 86_400 * SECOND_NS
YEAR_NS: Final = 31_557_600 * SECOND_NS
"""365.25 days: these markets never close."""

Value = int | float | str | dict[str, int] | None
Unit = Literal["fraction", "quote", "ratio", "count", "days", "bars", "time", "bps", "a day", "a year", "counts"]


class Facts(NamedTuple):
    """All that a metric may look at."""

    outcome: Outcome
    markets: Sequence[Market]
    curve: Curve
    closed: Trades
    """Trades that have ended."""
    net: Floats
    """Net profit of each of them."""
    open_trades: int
    years: float
    """Real time from the start of the first step to the end of the last, > 0."""
    bars_a_year: float
    """`YEAR_NS` over the median spacing of steps."""


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table."""

    name: str
    title: str
    formula: str
    unit: Unit
    annualisation: str = ""
    source: str = ""
    alias: str = ""
    """A second name that JSON carries."""
    function: Callable[[Facts], Value]


class Summary(msgspec.Struct, frozen=True):
    """The value of every metric, in the order of the table."""

    values: dict[str, Value]

    def number(self, name: str) -> float | None:
        """Return the value of a metric that is a number, or None where it is not defined."""
        value = self.values[name]
        assert value is None or isinstance(value, int | float), f"{name} is not a number"
        return value

    def for_json(self) -> dict[str, Value]:
        """Return the values under their own names, and then again under the aliases."""
        aliases = {metric.alias: self.values[name] for name, metric in METRICS.items() if metric.alias}
        return {**self.values, **aliases}


def summarise(outcome: Outcome, markets: Sequence[Market], trades: Trades | None = None) -> Summary:
    """Return every metric of a run; `markets` are those of `Outcome.symbols`, in the same order.

    Raises:
        SettingsError: the run has no step, or starts without cash: there is nothing to measure.

    """
    facts = facts_of(outcome, markets, trades)
    return Summary({name: metric.function(facts) for name, metric in METRICS.items()})


def facts_of(
    outcome: Outcome,
    markets: Sequence[Market],
    trades: Trades | None = None,
    curve: Curve | None = None,
    bars_a_year: float | None = None,
) -> Facts:
    """Return what the metrics are made of; what is given of the run is not worked out again.

    Raises as `summarise` does.
    """
    if not len(outcome.time_ns):
        raise SettingsError("a run without a single step has no metrics")
    if outcome.cash <= 0:
        raise SettingsError(f"a run that starts with cash {outcome.cash}, which is not above 0, has no metrics")
    trades = round_trips(outcome, markets) if trades is None else trades
    closed = trades.take(~trades.is_open)
    return Facts(
        outcome=outcome,
        markets=markets,
        curve=equity_curve(outcome.time_ns, outcome.equity, outcome.exposure, outcome.cash) if curve is None else curve,
        closed=closed,
        net=closed.net,
        open_trades=len(trades.side) - len(closed.side),
        years=(int(outcome.time_ns[-1]) - int(outcome.time_ns[0]) + outcome.timeframe_ns) / YEAR_NS,
        bars_a_year=bars_a_year or bars_a_year_of(outcome.time_ns, outcome.timeframe_ns),
    )


def bars_a_year_of(time_ns: Ints, timeframe_ns: int) -> float:
    """Return `YEAR_NS` over the median spacing of steps, of shape (n,), n >= 1."""
    return YEAR_NS / median_spacing_ns(time_ns, timeframe_ns)


def _ratio(above: float, below: float) -> float | None:
    """Return a quotient, or None where there is none that a float can hold."""
    if not below:
        return None
    quotient = above / below
    return quotient if np.isfinite(quotient) else None


def _mean(values: Floats) -> float | None:
    return float(np.mean(values)) if len(values) else None


# --- the curve


def _final_equity(f: Facts) -> float:
    return float(f.outcome.equity[-1])


def _total_return(f: Facts) -> float:
    return _final_equity(f) / f.outcome.cash - 1


def _annual_return(f: Facts) -> float:
    return f.curve.mean * f.bars_a_year


def _cagr(f: Facts) -> float | None:
    growth = _final_equity(f) / f.outcome.cash
    if growth <= 0:
        return -1.0
    exponent = math.log(growth) / f.years
    return math.expm1(exponent) if exponent < 700 else None  # e**709 is the largest a float holds


def _buy_and_hold(f: Facts) -> float | None:
    first_ns, last_ns = int(f.outcome.time_ns[0]), int(f.outcome.time_ns[-1])
    growth: list[float] = []
    for market in f.markets:
        begin = int(np.searchsorted(market.candles.start_ns, first_ns))
        end = int(np.searchsorted(market.candles.start_ns, last_ns, side="right"))
        if begin < end:
            growth.append(float(market.candles.close[end - 1]) / float(market.candles.close[begin]))
    return sum(growth) / len(growth) - 1 if growth else None


def _deviation(f: Facts) -> float | None:
    """Return the standard deviation of bar returns; None where it is nothing but rounding."""
    if f.curve.variance is None or f.curve.variance <= 1e-12 * f.curve.squares_mean:
        return None
    return f.curve.variance**0.5


def _volatility(f: Facts) -> float | None:
    return None if f.curve.variance is None else (f.curve.variance * f.bars_a_year) ** 0.5


def _sharpe(f: Facts) -> float | None:
    deviation = _deviation(f)
    return None if deviation is None else f.curve.mean / deviation * f.bars_a_year**0.5


def _sortino(f: Facts) -> float | None:
    return _ratio(f.curve.mean * f.bars_a_year**0.5, f.curve.downside_mean**0.5)


def _calmar(f: Facts) -> float | None:
    cagr = _cagr(f)
    return None if cagr is None else _ratio(cagr, f.curve.max_drawdown)


def _omega(f: Facts) -> float | None:
    return _ratio(f.curve.gains, f.curve.losses)


def _moment(f: Facts, step: int | None) -> str | None:
    return None if step is None else utc_text(int(f.outcome.time_ns[step]))


def utc_text(ts_ns: int) -> str:
    """Return a time as `2026-01-02T03:04:05Z`."""
    return datetime.fromtimestamp(ts_ns // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _drawdown_from(f: Facts) -> str | None:
    return _moment(f, f.curve.peak_step)


def _drawdown_trough(f: Facts) -> str | None:
    return _moment(f, f.curve.trough_step)


def _drawdown_to(f: Facts) -> str | None:
    return _moment(f, f.curve.recovery_step)


def _drawdown_days(f: Facts) -> float:
    if f.curve.peak_step is None:
        return 0.0
    end = len(f.outcome.time_ns) - 1 if f.curve.recovery_step is None else f.curve.recovery_step
    return float(f.outcome.time_ns[end] - f.outcome.time_ns[f.curve.peak_step]) / DAY_NS


def _best_day(f: Facts) -> float:
    return float(np.max(f.curve.day_returns))


def _worst_day(f: Facts) -> float:
    return float(np.min(f.curve.day_returns))


def _tail_ratio(f: Facts) -> float | None:
    low, high = np.percentile(f.curve.day_returns, (5, 95))
    return _ratio(abs(float(high)), abs(float(low)))


def _cvar(f: Facts) -> float:
    ranked = np.sort(f.curve.day_returns)
    return float(np.mean(ranked[: int((len(ranked) - 1) * 0.05) + 1]))


# --- trades


def _count(f: Facts) -> int:
    return len(f.net)


def _winning(f: Facts) -> int:
    return int(np.count_nonzero(f.net > 0))


def _losing(f: Facts) -> int:
    return int(np.count_nonzero(f.net < 0))


def _win_rate(f: Facts) -> float | None:
    return _ratio(_winning(f), _count(f))


def _profit_factor(f: Facts) -> float | None:
    return _ratio(float(np.sum(f.net[f.net > 0])), -float(np.sum(f.net[f.net < 0])))


def _expectancy(f: Facts) -> float | None:
    return _mean(f.net)


def _average_win(f: Facts) -> float | None:
    return _mean(f.net[f.net > 0])


def _average_loss(f: Facts) -> float | None:
    return _mean(f.net[f.net < 0])


def _payoff(f: Facts) -> float | None:
    win, loss = _average_win(f), _average_loss(f)
    return None if win is None or loss is None else _ratio(win, -loss)


def _largest_win(f: Facts) -> float | None:
    return float(np.max(f.net)) if _winning(f) else None


def _largest_loss(f: Facts) -> float | None:
    return float(np.min(f.net)) if _losing(f) else None


def longest_run(hits: Sequence[bool] | np.typing.NDArray[np.bool_]) -> int:
    """Return the length of the longest unbroken run of hits."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], hits, [False])).astype(np.int8)))
    return int(np.max(edges[1::2] - edges[::2])) if len(edges) else 0


def _winning_streak(f: Facts) -> int:
    return longest_run(f.net > 0)


def _losing_streak(f: Facts) -> int:
    return longest_run(f.net < 0)


def _average_trade_return(f: Facts) -> float | None:
    return _mean(f.closed.returns)


def _average_bars(f: Facts) -> float | None:
    return _mean(f.closed.bars.astype(np.float64))


def _trades_a_day(f: Facts) -> float:
    return _count(f) / (f.years * YEAR_NS / DAY_NS)


# --- time in the market, and its costs


def _exposure_time(f: Facts) -> float:
    return f.curve.held_steps / len(f.outcome.equity)


def _exposure(f: Facts) -> float | None:
    return _ratio(f.curve.exposure_mean, f.curve.equity_mean) if f.curve.equity_mean > 0 else None


def _fills(f: Facts) -> int:
    return len(f.outcome.fills.step)


def _traded(f: Facts) -> float:
    units = [10.0 ** (i.price_scale + i.quantity_scale) for i in f.outcome.instruments]
    fills = f.outcome.fills
    notional = fills.price * np.abs(fills.lots).astype(np.float64)
    return float(np.sum(notional / np.array(units)[fills.symbol])) if units else 0.0


def _turnover(f: Facts) -> float | None:
    return _ratio(_traded(f), f.curve.equity_mean * f.years) if f.curve.equity_mean > 0 else None


def _fees(f: Facts) -> float:
    return float(np.sum(f.outcome.fills.fee))


def _slippage(f: Facts) -> float | None:
    """Return how much worse trades were filled than the close before, by notional at that close."""
    fills, lost, total = f.outcome.fills, 0.0, 0.0
    for number, market in enumerate(f.markets):
        mine = (fills.symbol == number) & (fills.role == ROLES.index("trade"))
        before = _bars_before(market.candles.start_ns, f.outcome.time_ns, fills.step[mine])
        known = before >= 0
        close = market.candles.close[before[known]]
        lots = fills.lots[mine][known].astype(np.float64)
        unit = 10.0 ** (market.instrument.price_scale + market.instrument.quantity_scale)
        lost += float(np.sum(lots * (fills.price[mine][known] - close))) / unit
        total += float(np.sum(np.abs(lots) * close)) / unit
    return None if not total else lost / total * 10_000


def _bars_before(start_ns: Ints, time_ns: Ints, step: Ints) -> Ints:
    """Return the index of the last bar that starts before each step, -1 where there is none."""
    ends = (0, -1)
    if len(start_ns) == len(time_ns) and all(start_ns[end] == time_ns[end] for end in ends):
        return step - 1  # steps are the union of all bars: as many as this symbol has are its own
    return np.searchsorted(start_ns, time_ns[step]).astype(np.int64) - 1


def _funding(f: Facts) -> float:
    return float(f.outcome.funding[-1])


def _liquidations(f: Facts) -> int:
    return int(np.count_nonzero(f.outcome.fills.role == ROLES.index("liquidation")))


def _refusals(f: Facts) -> dict[str, int]:
    return {code: int(f.outcome.denied[code]) for code in sorted(f.outcome.denied) if f.outcome.denied[code]}


_BARS: Final = "bars a year = 365.25 days / median spacing of steps"
_TABLE: Final[tuple[Metric, ...]] = (
    Metric(
        name="final_equity",
        title="Final equity",
        formula="cash + positions at the last close",
        unit="quote",
        alias="finalEquity",
        function=_final_equity,
    ),
    Metric(
        name="total_return",
        title="Total return",
        formula="final equity / starting cash - 1",
        unit="fraction",
        alias="totalReturn",
        source="Bacon 2008, ch. 2",
        function=_total_return,
    ),
    Metric(
        name="annual_return",
        title="Annual return",
        formula="mean(r) x bars a year; r: equity / equity one step before - 1, the first against starting cash, "
        "0 where the equity before is not above 0",
        unit="fraction",
        annualisation=_BARS,
        source="Sharpe 1994",
        function=_annual_return,
    ),
    Metric(
        name="cagr",
        title="CAGR",
        formula="(final equity / starting cash) ^ (1 / years) - 1; -1 if final equity <= 0, none if too large for a "
        "float",
        unit="fraction",
        annualisation="years of 365.25 days, from the start of the first step to the end of the last",
        source="Bacon 2008, ch. 2",
        function=_cagr,
    ),
    Metric(
        name="buy_and_hold",
        title="Buy and hold",
        formula="mean over symbols of last close / first close, - 1: equal weights, never rebalanced, no fees, no "
        "slippage, no funding; none without bars",
        unit="fraction",
        function=_buy_and_hold,
    ),
    Metric(
        name="volatility",
        title="Volatility",
        formula="sqrt(var(r, ddof=1) x bars a year); none with fewer than 2 steps",
        unit="fraction",
        annualisation=_BARS,
        source="Sharpe 1994",
        function=_volatility,
    ),
    Metric(
        name="sharpe",
        title="Sharpe ratio",
        formula="mean(r) / std(r, ddof=1) x sqrt(bars a year), riskless rate 0; none if r does not vary",
        unit="ratio",
        annualisation=_BARS,
        alias="sharpeRatio",
        source="Sharpe 1994",
        function=_sharpe,
    ),
    Metric(
        name="sortino",
        title="Sortino ratio",
        formula="mean(r) / sqrt(mean(min(r, 0)^2)) x sqrt(bars a year); none without a loss",
        unit="ratio",
        annualisation=_BARS,
        source="Sortino and Price 1994",
        function=_sortino,
    ),
    Metric(
        name="calmar",
        title="Calmar ratio",
        formula="CAGR / max drawdown, over the whole run; none without a drawdown",
        unit="ratio",
        annualisation="as CAGR",
        source="Young 1991",
        function=_calmar,
    ),
    Metric(
        name="omega",
        title="Omega ratio",
        formula="sum(max(r, 0)) / sum(max(-r, 0)), threshold 0; none without a loss",
        unit="ratio",
        source="Keating and Shadwick 2002",
        function=_omega,
    ),
    Metric(
        name="ulcer_index",
        title="Ulcer index",
        formula="sqrt(mean(d^2)), d: drawdown at each step",
        unit="fraction",
        source="Martin and McCann 1989",
        function=lambda f: f.curve.ulcer_index,
    ),
    Metric(
        name="max_drawdown",
        title="Max drawdown",
        formula="max(1 - equity / highest equity so far), >= 0; the starting cash counts as the first equity; "
        "above 1 only if equity falls below 0",
        unit="fraction",
        alias="maxDrawdown",
        source="Magdon-Ismail and Atiya 2004",
        function=lambda f: f.curve.max_drawdown,
    ),
    Metric(
        name="max_drawdown_from",
        title="Max drawdown, peak",
        formula="step of the peak it fell from, the first one if that is the starting cash; none without a drawdown",
        unit="time",
        function=_drawdown_from,
    ),
    Metric(
        name="max_drawdown_trough",
        title="Max drawdown, trough",
        formula="step of the lowest equity; none without a drawdown",
        unit="time",
        function=_drawdown_trough,
    ),
    Metric(
        name="max_drawdown_to",
        title="Max drawdown, recovery",
        formula="first step at or above the peak again; none while it lasts",
        unit="time",
        function=_drawdown_to,
    ),
    Metric(
        name="max_drawdown_days",
        title="Max drawdown, duration",
        formula="from its peak to its recovery, or to the last step",
        unit="days",
        annualisation="real time",
        function=_drawdown_days,
    ),
    Metric(
        name="longest_drawdown_days",
        title="Longest drawdown",
        formula="longest time from any peak to its recovery, or to the last step",
        unit="days",
        annualisation="real time",
        function=lambda f: f.curve.longest_ns / DAY_NS,
    ),
    Metric(
        name="best_day",
        title="Best day",
        formula="highest return of a UTC day with a step: its last equity / that of the day with steps before - 1, "
        "the first against starting cash",
        unit="fraction",
        function=_best_day,
    ),
    Metric(
        name="worst_day",
        title="Worst day",
        formula="lowest return of a UTC day",
        unit="fraction",
        function=_worst_day,
    ),
    Metric(
        name="tail_ratio",
        title="Tail ratio",
        formula="|95th percentile| / |5th percentile| of daily returns, linear between ranks; none if the 5th is 0",
        unit="ratio",
        source="empyrical, tail_ratio",
        function=_tail_ratio,
    ),
    Metric(
        name="cvar",
        title="CVaR 5 %",
        formula="mean of the lowest floor((days - 1) x 0.05) + 1 daily returns",
        unit="fraction",
        source="Rockafellar and Uryasev 2000",
        function=_cvar,
    ),
    Metric(
        name="trades",
        title="Closed trades",
        formula="round trips from flat to flat or to the other side; open ones apart",
        unit="count",
        alias="totalTrades",
        function=_count,
    ),
    Metric(
        name="open_trades",
        title="Open trades",
        formula="positions held at the end",
        unit="count",
        function=lambda f: f.open_trades,
    ),
    Metric(
        name="winning_trades",
        title="Winning trades",
        formula="closed trades with net profit > 0",
        unit="count",
        alias="winningTrades",
        function=_winning,
    ),
    Metric(
        name="losing_trades",
        title="Losing trades",
        formula="closed trades with net profit < 0",
        unit="count",
        alias="losingTrades",
        function=_losing,
    ),
    Metric(
        name="win_rate",
        title="Win rate",
        formula="winning / closed trades; none without a trade",
        unit="fraction",
        alias="winRate",
        source="Pardo 2008",
        function=_win_rate,
    ),
    Metric(
        name="profit_factor",
        title="Profit factor",
        formula="sum of winning / -sum of losing net profits; none without a losing trade",
        unit="ratio",
        alias="profitFactor",
        source="Pardo 2008",
        function=_profit_factor,
    ),
    Metric(
        name="expectancy",
        title="Expectancy",
        formula="mean net profit of closed trades; none without a trade",
        unit="quote",
        source="Tharp 2006",
        function=_expectancy,
    ),
    Metric(
        name="payoff",
        title="Payoff ratio",
        formula="average win / -average loss; none without both",
        unit="ratio",
        source="Pardo 2008",
        function=_payoff,
    ),
    Metric(
        name="average_win",
        title="Average win",
        formula="mean net profit of winning trades; none without one",
        unit="quote",
        alias="averageWin",
        function=_average_win,
    ),
    Metric(
        name="average_loss",
        title="Average loss",
        formula="mean net profit of losing trades, < 0; none without one",
        unit="quote",
        alias="averageLoss",
        function=_average_loss,
    ),
    Metric(
        name="largest_win",
        title="Largest win",
        formula="highest net profit of a winning trade; none without one",
        unit="quote",
        function=_largest_win,
    ),
    Metric(
        name="largest_loss",
        title="Largest loss",
        formula="lowest net profit of a losing trade, < 0; none without one",
        unit="quote",
        function=_largest_loss,
    ),
    Metric(
        name="winning_streak",
        title="Longest winning streak",
        formula="most winning trades in a row, by their ends",
        unit="count",
        function=_winning_streak,
    ),
    Metric(
        name="losing_streak",
        title="Longest losing streak",
        formula="most losing trades in a row, by their ends",
        unit="count",
        function=_losing_streak,
    ),
    Metric(
        name="average_trade_return",
        title="Average trade return",
        formula="mean of net profit / entry notional over closed trades; none without a trade",
        unit="fraction",
        function=_average_trade_return,
    ),
    Metric(
        name="average_bars",
        title="Average bars held",
        formula="mean of exit step - entry step over closed trades; none without a trade",
        unit="bars",
        function=_average_bars,
    ),
    Metric(
        name="trades_a_day",
        title="Trades a day",
        formula="closed trades / days",
        unit="a day",
        annualisation="real time, as CAGR",
        function=_trades_a_day,
    ),
    Metric(
        name="exposure_time",
        title="Time in the market",
        formula="steps that end with a position / steps",
        unit="fraction",
        function=_exposure_time,
    ),
    Metric(
        name="exposure",
        title="Average exposure",
        formula="mean of the sum of |position values| / mean equity; none if mean equity <= 0",
        unit="fraction",
        function=_exposure,
    ),
    Metric(
        name="fills",
        title="Fills",
        formula="executions, guards and liquidations included",
        unit="count",
        function=_fills,
    ),
    Metric(
        name="traded_notional",
        title="Traded notional",
        formula="sum of price x quantity over fills, both ways",
        unit="quote",
        function=_traded,
    ),
    Metric(
        name="turnover",
        title="Turnover",
        formula="traded notional / mean equity / years; none if mean equity <= 0",
        unit="a year",
        annualisation="as CAGR",
        source="Grinold and Kahn 2000",
        function=_turnover,
    ),
    Metric(
        name="fees",
        title="Fees",
        formula="sum over fills; one taken in coins at the fill's price",
        unit="quote",
        function=_fees,
    ),
    Metric(
        name="slippage",
        title="Slippage",
        formula="10,000 x sum(signed quantity x (price - close)) / sum(|quantity| x close), over fills of role trade; "
        "close: of the symbol's bar before the fill's; above 0 is a loss; the gap to the next open is in it; none "
        "without such fills",
        unit="bps",
        source="Perold 1988",
        function=_slippage,
    ),
    Metric(
        name="funding",
        title="Funding paid",
        formula="sum of funding payments; below 0 where more was received",
        unit="quote",
        function=_funding,
    ),
    Metric(
        name="liquidations",
        title="Liquidations",
        formula="fills of role liquidation",
        unit="count",
        function=_liquidations,
    ),
    Metric(
        name="refusals",
        title="Refusals",
        formula="code to count: of the risk gate and of the exchange; empty without one",
        unit="counts",
        function=_refusals,
    ),
)

METRICS: Final[Mapping[str, Metric]] = MappingProxyType({metric.name: metric for metric in _TABLE})
"""Every metric by its name, in the order of reports."""

SUMMED: Final = frozenset(
    {
        "final_equity",
        "total_return",
        "annual_return",
        "cagr",
        "volatility",
        "sharpe",
        "calmar",
        "max_drawdown",
        "trades",
        "open_trades",
        "winning_trades",
        "losing_trades",
        "win_rate",
        "profit_factor",
        "expectancy",
        "payoff",
        "average_win",
        "average_loss",
        "largest_win",
        "largest_loss",
        "winning_streak",
        "losing_streak",
        "average_trade_return",
        "average_bars",
        "trades_a_day",
        "fills",
    }
)
"""Metrics that need no more of a curve than its last step and its `bot.backtest.summary.Summary`, and the fills."""
