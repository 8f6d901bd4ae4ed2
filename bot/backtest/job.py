"""What `bot backtest` does, without a terminal: from what was asked to a report. Sweeps and walks begin here too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

from bot.assembly import MS_NS, atoms_of, research_limits_of
from bot.backtest.base import Outcome, Run, Terms
from bot.backtest.choice import Chosen, choose
from bot.backtest.intake import DataWish, Intake, take_in
from bot.backtest.metrics import facts_of
from bot.backtest.report.document import HeatMap, Report, make_report
from bot.backtest.report.manifest import Manifest, make_manifest
from bot.backtest.significance import assess
from bot.backtest.space import Value
from bot.backtest.trades import Trades, round_trips
from bot.config import BacktestSettings, Settings
from bot.core.durations import duration_text
from bot.core.risk import Limits
from bot.errors import SettingsError

Engine = Literal["auto", "exact", "compiled"]
Progress = Callable[[int, int], None]
PPM_PER_BPS: Final = 100
PPM_PER_PERCENT: Final = 10_000
DEFAULT_STRATEGY: Final = "crossover"
"""On candles."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a command was asked for, beside the settings."""

    strategy: str | None = None
    """None: that of the kind of data."""
    params: dict[str, Value] = {}
    data: DataWish = DataWish()
    timeframe_ns: int | None = None
    """Of the strategy's own bars."""
    engine: Engine = "auto"
    has_limits: bool = False
    """The bounds of `[risk]` apply."""


class Named(Protocol):
    """A strategy as a report names it."""

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    def parameters(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """Return the value of every parameter."""
        ...


class Told(Protocol):
    """What a report says of a run before its results; a `Setup` is one."""

    @property
    def chosen(self) -> Named:
        """Return the strategy."""
        ...

    @property
    def intake(self) -> Intake:
        """Return the markets."""
        ...

    @property
    def terms(self) -> msgspec.Struct:
        """Return what they charge and allow."""
        ...

    @property
    def seed(self) -> int:
        """Return the seed of all that is drawn by chance."""
        ...


class Setup(NamedTuple):
    """All that a command on candles needs to begin."""

    ask: Ask
    chosen: Chosen
    intake: Intake
    terms: Terms
    limits: Limits | None
    seed: int

    @property
    def is_compiled(self) -> bool:
        """Return whether the compiled engine runs it.

        Raises:
            SettingsError: it was asked for, and cannot.

        """
        reason = self._why_exact()
        if reason and self.ask.engine == "compiled":
            raise SettingsError(f"--engine compiled: {reason}")
        return not reason and self.ask.engine != "exact"

    def _why_exact(self) -> str:
        if self.limits is not None:
            return "the bounds of [risk] are known to the exact engine only"
        if self.chosen.definition(self.ask.params) is None:
            return f"{self.chosen.name} is a class, or rests its orders at the touch: the exact engine runs it"
        return ""

    def manifest(self, **more: object) -> Manifest:
        """Return what the results are made from; `more` is what the command adds to the settings."""
        ask = self.ask
        settings: dict[str, object] = {
            "strategy": self.chosen.with_params(ask.params),
            "size": self.chosen.size,
            "terms": self.terms,
            "limits": self.limits,
            "engine": "compiled" if self.is_compiled else "exact",
            "from": ask.data.from_ns,
            "to": ask.data.to_ns,
            "repairs": sorted(ask.data.repairs),
            "gaps": ask.data.gaps,
            "instruments": [market.instrument for market in self.intake.markets],
            "timeframe": self.intake.markets[0].timeframe_ns,
        }
        return make_manifest(settings={**settings, **more}, data=self.intake.hashes, seed=self.seed)


class Finished(NamedTuple):
    """What came of a backtest."""

    report: Report
    outcome: Outcome
    trades: Trades


def prepare(ask: Ask, settings: Settings) -> Setup:
    """Return what was asked for, checked and with its data read.

    Raises:
        SettingsError: what was asked for makes no sense; names everything.
        DataError: the data cannot be used.

    """
    backtest = settings.backtest
    chosen = choose(ask.strategy or DEFAULT_STRATEGY, backtest.size, settings.strategies)
    chosen.with_params(ask.params)
    timeframe_ns = ask.timeframe_ns or chosen.timeframe_ns
    terms = candle_terms(backtest)
    quote_fee_ppm = max(terms.maker_fee_ppm, terms.taker_fee_ppm) if backtest.fee_in == "quote" else 0
    wish = msgspec.structs.replace(ask.data, timeframe_ns=timeframe_ns)
    intake = take_in(wish, seed=backtest.seed, quote_fee_ppm=quote_fee_ppm)
    base_ns = intake.markets[0].timeframe_ns
    timeframe_ns = timeframe_ns or base_ns
    if timeframe_ns % base_ns:
        own, base = duration_text(timeframe_ns), duration_text(base_ns)
        raise SettingsError(f"bars of {base} cannot be made into the strategy's of {own}: give another --timeframe")
    limits = research_limits_of(settings.risk) if ask.has_limits else None
    return Setup(ask, chosen.at(timeframe_ns), intake, terms, limits, backtest.seed)


def candle_terms(settings: BacktestSettings) -> Terms:
    """Return what the candle market charges and allows. A fraction of a millionth is rounded up, against us."""
    return Terms(
        cash_atoms=atoms_of(settings.capital),
        maker_fee_ppm=ceil(settings.maker_fee_bps * PPM_PER_BPS),
        taker_fee_ppm=ceil(settings.taker_fee_bps * PPM_PER_BPS),
        slippage=settings.slippage,
        slippage_ppm=ceil(settings.slippage_bps * PPM_PER_BPS),
        half_spread_ticks=settings.half_spread_ticks,
        latency_ns=settings.latency_ms * MS_NS,
        volume_share_ppm=int(settings.volume_share_pct * PPM_PER_PERCENT),
        leverage=settings.leverage,
        maintenance_ppm=ceil(settings.maintenance_pct * PPM_PER_PERCENT),
        liquidation_fee_ppm=ceil(settings.liquidation_fee_pct * PPM_PER_PERCENT),
    )


# --- one backtest


def run_backtest(setup: Setup, on_progress: Progress | None = None) -> Finished:
    """Return the report of one run. Raises as `prepare` does, where data and strategy do not go together."""
    ask, markets = setup.ask, setup.intake.markets
    outcome = _outcome(setup, on_progress)
    trades = round_trips(outcome, markets)
    return Finished(report_of(setup, ask.params, outcome, trades, setup.manifest()), outcome, trades)


def report_of(
    setup: Told,
    params: Mapping[str, Value],
    outcome: Outcome,
    trades: Trades,
    manifest: Manifest,
    *,
    trials: int | None = None,
    trials_variance: float = 0.0,
    sweep: HeatMap | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Return the report of a run with these parameters, the best of `trials` if that is not None."""
    markets = setup.intake.markets
    facts = facts_of(outcome, markets, trades)
    chance = assess(
        facts.curve.day_returns,
        facts.net,
        outcome.cash,
        seed=setup.seed,
        trials=trials,
        trials_variance=trials_variance,
    )
    return make_report(
        name=setup.chosen.name,
        parameters=setup.chosen.parameters(params),
        outcome=outcome,
        markets=markets,
        terms=setup.terms,
        manifest=manifest,
        trades=trades,
        chance=chance,
        sweep=sweep,
        notes=[*setup.intake.notes, *notes],
    )


def _outcome(setup: Setup, on_progress: Progress | None) -> Outcome:
    definition = setup.chosen.definition(setup.ask.params)
    if definition is not None:
        return simulate(setup, on_progress)(Run(definition, setup.intake.markets, setup.terms))
    from bot.backtest.exact import run_strategies

    if setup.ask.engine == "compiled":
        assert not setup.is_compiled  # says why
    return run_strategies(
        {setup.chosen.name: setup.chosen.with_params(setup.ask.params)},
        setup.intake.markets,
        setup.terms,
        on_progress=on_progress,
        limits=setup.limits,
    )


def simulate(setup: Setup, on_progress: Progress | None = None) -> Callable[[Run], Outcome]:
    """Return the engine that runs a definition. Raises as `Setup.is_compiled` does."""
    if setup.is_compiled:
        from bot.backtest.compiled import run_compiled

        return lambda run: run_compiled(run, on_progress=on_progress)
    from bot.backtest.exact import run_exact

    return lambda run: run_exact(run, on_progress=on_progress, limits=setup.limits)
