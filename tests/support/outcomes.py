"""Outcomes of backtests, filled with what a test does not care about.

One tick is one unit of quote currency and one lot one coin, unless a test says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from bot.backtest.base import ROLES, Fills, Outcome, Terms
from bot.backtest.metrics import facts_of
from bot.backtest.report.document import HeatMap, Report, make_report
from bot.backtest.report.manifest import Manifest
from bot.backtest.significance import assess
from bot.core.instrument import ATOMS, Instrument
from bot.core.messages import SECOND_NS
from bot.strategies.advice import Candles, Market
from tests.support.builders import BTC, instrument

START_NS: Final = 1_704_067_200 * SECOND_NS
"""2024-01-01 00:00:00 UTC."""
MINUTE_NS: Final = 60 * SECOND_NS
HOUR_NS: Final = 60 * MINUTE_NS
DAY_NS: Final = 24 * HOUR_NS

FillRow = tuple[int, int, int] | tuple[int, int, int, float] | tuple[int, int, int, float, str]
"""(step, price, signed lots), and, if a test cares, the fee and the role."""


def perp(symbol: str = BTC, **changes: Any) -> Instrument:
    """Return an instrument that pays its fees in quote."""
    return instrument(symbol, is_perp=True, **changes)


def fills_of(rows: Iterable[FillRow], symbol: Sequence[int] | None = None) -> Fills:
    full = [(*row, *(0.0, "trade")[len(row) - 3 :]) for row in rows]
    step, price, lots, fee, role = ([row[i] for row in full] for i in range(5))
    return Fills(
        step=np.array(step, np.int64),
        symbol=np.array([0] * len(full) if symbol is None else symbol, np.int64),
        price=np.array(price, np.int64),
        lots=np.array(lots, np.int64),
        fee=np.array(fee, np.float64),
        role=np.array([ROLES.index(str(name)) for name in role], np.int64),
        is_maker=np.zeros(len(full), np.int64),
    )


def outcome(
    equity: Sequence[float] | np.typing.NDArray[np.floating[Any]] = (1000.0,),
    fills: Iterable[FillRow] = (),
    *,
    cash: float = 1000.0,
    timeframe_ns: int = DAY_NS,
    instruments: Sequence[Instrument] | None = None,
    symbols: Sequence[int] | None = None,
    time_ns: Sequence[int] | None = None,
    exposure: Sequence[float] | None = None,
    funding: Sequence[float] = (0.0,),
    denied: Mapping[str, int] | None = None,
) -> Outcome:
    """Return an outcome; `symbols` is the symbol of each fill, all of the first one by default."""
    instruments = (perp(),) if instruments is None else tuple(instruments)
    made = fills_of(fills, symbols)
    held = [int(np.sum(made.lots[made.symbol == number])) for number in range(len(instruments))]
    return Outcome(
        symbols=tuple(i.symbol for i in instruments),
        instruments=tuple(instruments),
        time_ns=START_NS + np.arange(len(equity)) * timeframe_ns if time_ns is None else np.array(time_ns, np.int64),
        timeframe_ns=timeframe_ns,
        equity=np.array(equity, np.float64),
        exposure=np.zeros(len(equity)) if exposure is None else np.array(exposure, np.float64),
        fills=made,
        funding=np.array(funding, np.float64),
        denied={} if denied is None else denied,
        cash=cash,
        final_lots=tuple(held),
    )


def market(
    close: Sequence[int] | np.typing.NDArray[np.int64],
    *,
    of: Instrument | None = None,
    timeframe_ns: int = DAY_NS,
    spread: int = 0,
) -> Market:
    """Return a market whose bars open at the close before, and reach `spread` beyond both."""
    closes = np.array(close, np.int64)
    opens = np.concatenate((closes[:1], closes[:-1]))
    return Market(
        instrument=perp() if of is None else of,
        timeframe_ns=timeframe_ns,
        candles=Candles(
            start_ns=START_NS + np.arange(len(closes)) * timeframe_ns,
            open=opens,
            high=np.maximum(opens, closes) + spread,
            low=np.minimum(opens, closes) - spread,
            close=closes,
            volume=np.full(len(closes), 1_000, np.int64),
        ),
        funding_ns=np.zeros(0, np.int64),
        funding_ppb=np.zeros(0, np.int64),
    )


def idle_markets(run: Outcome) -> list[Market]:
    """Return markets for a run that is not about prices: one bar at 100 each."""
    return [market([100], of=each) for each in run.instruments]


def traded(
    close: Sequence[int] | np.typing.NDArray[np.int64],
    fills: Sequence[FillRow],
    *,
    cash: float = 1000.0,
    timeframe_ns: int = DAY_NS,
    of: Instrument | None = None,
) -> tuple[Outcome, list[Market]]:
    """Return the outcome of these fills on one symbol, marked at these closes, and its market. Fees are in quote."""
    made, chosen = market(close, of=of, timeframe_ns=timeframe_ns), perp() if of is None else of
    rows = fills_of(fills)
    unit = 10.0 ** (chosen.price_scale + chosen.quantity_scale)
    lots, paid = np.zeros(len(close)), np.zeros(len(close))
    np.add.at(lots, rows.step, rows.lots.astype(np.float64))
    np.add.at(paid, rows.step, rows.lots.astype(np.float64) * rows.price / unit + rows.fee)
    value = np.cumsum(lots) * np.array(close, np.float64) / unit
    run = outcome(
        cash - np.cumsum(paid) + value,
        fills,
        cash=cash,
        timeframe_ns=timeframe_ns,
        instruments=[chosen],
        exposure=list(np.abs(value)),
    )
    return run, [made]


def sampled(steps: int = 500, *, seed: int = 7, timeframe_ns: int = DAY_NS) -> tuple[Outcome, list[Market]]:
    """Return a run that goes in and out of a random market, now long and now short, with fees."""
    rng = np.random.default_rng(seed)
    closes = np.maximum(10, 10_000 * np.cumprod(1 + rng.normal(0.0008, 0.02, steps))).astype(np.int64)
    fills: list[FillRow] = []
    held = 0
    for step in range(2, steps, 1 + int(rng.integers(3, 9))):
        wanted = 0 if held and rng.random() < 0.6 else int(rng.choice([-2, 3]))
        if wanted == held:
            continue
        price = int(closes[step] * (1 + rng.normal(0, 0.002)))
        role = str(rng.choice(["trade", "trade", "stop", "profit"])) if wanted == 0 else "trade"
        fills.append((step, price, wanted - held, abs(wanted - held) * price * 0.001, role))
        held = wanted
    return traded(closes, fills, cash=50_000.0, timeframe_ns=timeframe_ns)


def sample_manifest() -> Manifest:
    return Manifest(code="c" * 64, settings="5" * 64, data={"btc.csv.gz": "d" * 64}, seed=7, versions={"bot": "0.1.0"})


def sample_report(steps: int = 500, *, name: str = "crossover", seed: int = 7, **changes: Any) -> Report:
    """Return a report with every part in it."""
    run, markets = sampled(steps, seed=seed)
    facts = facts_of(run, markets)
    fast, slow = [5, 10, 15, 20, 25], [30, 40, 50, 60]
    cells = [[None if (x + y) % 11 == 0 else (x - 15) * (y - 45) / 100 + 0.25 for x in fast] for y in slow]
    arguments: dict[str, Any] = {
        "name": name,
        "parameters": {"fast": 20, "slow": 50, "risk": 0.25},
        "outcome": run,
        "markets": markets,
        "terms": Terms(cash_atoms=50_000 * ATOMS, taker_fee_ppm=1000, slippage="fixed", slippage_ppm=100),
        "manifest": sample_manifest(),
        "chance": assess(
            facts.curve.day_returns, facts.net, run.cash, seed=7, trials=20, trials_variance=0.001, samples=200
        ),
        "sweep": HeatMap(
            metric="sharpe", x_name="fast", x_values=list(fast), y_name="slow", y_values=list(slow), cells=cells
        ),
        "notes": ["2 bars were missing, and were left out."],
    }
    return make_report(**{**arguments, **changes})
