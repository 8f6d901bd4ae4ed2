"""A backtest on a recorded market: strategies on the book by `play_book`, those on bars by the live bot's machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Final, NamedTuple

import msgspec
import numpy as np

from bot.assembly import MS_NS, atoms_of, terms_of
from bot.backtest.base import Outcome
from bot.backtest.book.bars import bars_of
from bot.backtest.book.choice import DEFAULT, BookChosen, choose_book
from bot.backtest.book.events import BookEvents, read_events
from bot.backtest.book.replay import BookTerms, Latency, play_book
from bot.backtest.checks import moment
from bot.backtest.choice import Chosen, choose
from bot.backtest.intake import Intake, RecordingReport
from bot.backtest.job import PPM_PER_BPS, Ask, Finished, Progress, report_of
from bot.backtest.paper import STEP_NS, play_paper
from bot.backtest.report.manifest import Manifest, file_hash, make_manifest
from bot.backtest.space import Value
from bot.backtest.trades import round_trips
from bot.config import BacktestSettings, Settings
from bot.config.checks import timeframe_rule
from bot.core.durations import duration_text
from bot.core.matching import PaperTerms
from bot.errors import RecordingError, SettingsError
from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.recording import Recording, merge_sources, open_recording, symbol_in_name
from bot.strategies.advice import Market
from bot.strategies.definition import definition_of

STEPS_MAX: Final = 10_000_000
"""Steps of a run: about a gigabyte of columns."""


class BookPlay(NamedTuple):
    """A strategy on the book, and the market it plays on."""

    chosen: BookChosen
    events: BookEvents
    terms: BookTerms

    def run(self, params: Mapping[str, Value], on_progress: Progress | None) -> Outcome:
        """Return what comes of it with these parameters."""
        return play_book(self.events, self.chosen.make(params), self.terms, on_progress=on_progress)

    def described(self, params: Mapping[str, Value]) -> dict[str, object]:
        """Return what the results depend on, beside the data."""
        return {"strategy": self.chosen.with_params(params), "terms": self.terms}


class PaperPlay(NamedTuple):
    """A strategy on bars, and the markets that the live bot's machines play for it."""

    chosen: Chosen
    source: MarketSource
    settings: Settings
    """Its strategies are replaced by the chosen one."""
    steps: int

    @property
    def terms(self) -> PaperTerms:
        """Return what the paper exchange charges."""
        return terms_of(self.settings.paper, self.settings.bot.seed)

    def run(self, params: Mapping[str, Value], on_progress: Progress | None) -> Outcome:
        """Return what comes of it with these parameters."""
        own = {self.chosen.name: self.chosen.for_bot(params)}
        settings = msgspec.structs.replace(self.settings, strategies=own)
        return play_paper(self.source, settings, self.steps, on_progress=on_progress)

    def described(self, params: Mapping[str, Value]) -> dict[str, object]:
        """Return what the results depend on, beside the data."""
        return {
            "strategy": self.chosen.for_bot(params),
            "paper": self.settings.paper,
            "risk": self.settings.risk,
        }


class RecordedSetup(NamedTuple):
    """All that a command on a recording needs to begin."""

    ask: Ask
    play: BookPlay | PaperPlay
    intake: Intake
    """Its bars are the steps of the run."""
    seed: int

    @property
    def chosen(self) -> BookChosen | Chosen:
        """Return the strategy."""
        return self.play.chosen

    @property
    def terms(self) -> BookTerms | PaperTerms:
        """Return what the market charges."""
        return self.play.terms

    def manifest(self, **more: object) -> Manifest:
        """Return what the results are made from; `more` is what the command adds to the settings."""
        settings = {"size": self._size, **self.play.described(self.ask.params), **more}
        return make_manifest(settings=settings, data=self.intake.hashes, seed=self.seed)

    def notes_on(self, outcome: Outcome) -> list[str]:
        """Return what a run on the book did that an account may not allow: the model checks no funds."""
        notes: list[str] = []
        if isinstance(self.play, PaperPlay):
            return notes
        if np.any(np.cumsum(outcome.fills.lots) < 0):
            notes.append(f"{outcome.symbols[0]}: was held short at times; the model asks nobody for a loan")
        if np.any(outcome.exposure > outcome.equity):
            notes.append(f"{outcome.symbols[0]}: more was held at times than equity; the model asks for no margin")
        return notes

    @property
    def _size(self) -> object:
        return self.play.chosen.size if isinstance(self.play, PaperPlay) else None


def prepare_recorded(ask: Ask, settings: Settings) -> RecordedSetup:
    """Return what was asked for, checked and with its recordings read.

    Raises:
        SettingsError: what was asked for makes no sense; names everything.
        RecordingError: a recording cannot be used.

    """
    book = choose_book(ask.strategy or DEFAULT)
    if book is not None:
        return _on_the_book(ask, settings, book)
    return _on_bars(ask, settings)


def run_recorded(setup: RecordedSetup, on_progress: Progress | None = None) -> Finished:
    """Return the report of one run."""
    outcome = setup.play.run(setup.ask.params, on_progress)
    trades = round_trips(outcome, setup.intake.markets)
    notes = setup.notes_on(outcome)
    report = report_of(setup, setup.ask.params, outcome, trades, setup.manifest(), notes=notes)
    return Finished(report, outcome, trades)


# --- on the book


def book_terms(settings: BacktestSettings) -> BookTerms:
    """Return how far away the exchange is and what it charges. A fraction of a millionth is rounded up, against us."""
    return BookTerms(
        cash_atoms=atoms_of(settings.capital),
        maker_fee_ppm=ceil(settings.maker_fee_bps * PPM_PER_BPS),
        taker_fee_ppm=ceil(settings.taker_fee_bps * PPM_PER_BPS),
        feed=_latency(settings.feed_ms, settings.feed_p99_ms),
        entry=_latency(settings.entry_ms, settings.entry_p99_ms),
        response=_latency(settings.response_ms, settings.response_p99_ms),
        interval_ns=settings.book_interval_ms * MS_NS,
        queue_power=settings.queue_power,
        levels_max=settings.book_levels,
        seed=settings.seed,
    )


def _latency(median_ms: int, p99_ms: int) -> Latency:
    return Latency(median_ns=median_ms * MS_NS, p99_ns=p99_ms * MS_NS)


def _on_the_book(ask: Ask, settings: Settings, chosen: BookChosen) -> RecordedSetup:
    for option, is_given in (("--timeframe", ask.timeframe_ns is not None), ("--risk", ask.has_limits)):
        if is_given:
            raise SettingsError(f"{option}: is for strategies on bars; {chosen.name} plays on the book")
    if len(ask.data.files) > 1:
        raise SettingsError(f"--data: {chosen.name} plays on the book of one recording, not of {len(ask.data.files)}")
    chosen.make(ask.params)
    terms = book_terms(settings.backtest)
    (recording,) = _opened(ask, settings)
    fee_ppm = max(terms.maker_fee_ppm, terms.taker_fee_ppm, 1)  # 1: a fee of 0 is one in quote, too
    events = read_events(recording, recording.instruments[0].symbol)
    events = events._replace(instrument=msgspec.structs.replace(events.instrument, quote_fee_ppm=fee_ppm))
    first_ns = int(events.ts_ns[0])
    steps = _steps(events, first_ns, terms.interval_ns, "a larger backtest.book_interval_ms makes fewer")
    markets = [_market(events, first_ns, terms.interval_ns, steps)]
    return RecordedSetup(
        ask, BookPlay(chosen, events, terms), _intake([recording], [events], markets), settings.backtest.seed
    )


# --- on bars


def _on_bars(ask: Ask, settings: Settings) -> RecordedSetup:
    assert ask.strategy is not None  # without a name it is one on the book
    chosen = choose(ask.strategy, settings.backtest.size, settings.strategies, is_own_first=True)
    timeframe_ns = ask.timeframe_ns or chosen.timeframe_ns
    if timeframe_ns is None:
        raise SettingsError(f"{chosen.name}: says no length of its bars; give --timeframe, such as 1s or 1m")
    if rule := timeframe_rule(duration_text(timeframe_ns)):
        raise SettingsError(f"--timeframe {duration_text(timeframe_ns)}: {rule}, as it is live")
    chosen = chosen.at(timeframe_ns)
    definition = definition_of(chosen.for_bot(ask.params))
    recordings = _opened(ask, settings)
    symbols = tuple(recording.instruments[0].symbol for recording in recordings)
    _check_symbols(chosen, symbols, () if definition is None else definition.watches)
    source = merge_sources(recordings)
    events = [read_events(recording, symbol) for recording, symbol in zip(recordings, symbols, strict=True)]
    steps = max(_steps(each, source.first_ns, STEP_NS, "give shorter recordings") for each in events)
    markets = [_market(each, source.first_ns, STEP_NS, steps) for each in events]
    exchange = msgspec.structs.replace(settings.exchange, symbols=symbols)
    play = PaperPlay(chosen, source, msgspec.structs.replace(settings, exchange=exchange), steps)
    return RecordedSetup(ask, play, _intake(recordings, events, markets), settings.backtest.seed)


def _check_symbols(chosen: Chosen, symbols: Sequence[str], watched: Sequence[str]) -> None:
    quotes = sorted({symbol.split("_")[1] for symbol in symbols})
    if len(quotes) > 1:
        raise SettingsError(f"--data: all recordings must have the same quote coin, not {' and '.join(quotes)}")
    own = chosen.settings.symbols
    if own and not set(own) & set(symbols):
        raise SettingsError(f"{chosen.name}: trades {', '.join(own)}; recorded is {', '.join(symbols)}")
    unseen = [symbol for symbol in watched if symbol not in symbols]
    if unseen:
        raise SettingsError(f"{chosen.name}: looks at {', '.join(unseen)}; recorded is {', '.join(symbols)}")


# --- the recordings


def _opened(ask: Ask, settings: Settings) -> list[Recording]:
    wish = ask.data
    if wish.symbols and len(wish.symbols) != len(wish.files):
        raise SettingsError(
            f"--symbol: {len(wish.symbols)} given for {len(wish.files)} files; give one for each, or none"
        )
    usual = settings.exchange.symbols[0]  # as `bot run` has it
    named = wish.symbols or [symbol_in_name(path) or usual for path in wish.files]
    return [open_recording(path, symbol) for path, symbol in zip(wish.files, named, strict=True)]


def _steps(events: BookEvents, first_ns: int, step_ns: int, remedy: str) -> int:
    steps = (int(events.ts_ns[-1]) - first_ns) // step_ns + 1
    if steps > STEPS_MAX:
        raise SettingsError(f"{events.instrument.symbol}: {steps:,} steps, at most {STEPS_MAX:,}: {remedy}")
    return steps


def _market(events: BookEvents, first_ns: int, step_ns: int, steps: int) -> Market:
    nothing = np.zeros(0, np.int64)
    candles = bars_of(events, first_ns=first_ns, step_ns=step_ns, steps=steps)
    return Market(events.instrument, step_ns, candles, funding_ns=nothing, funding_ppb=nothing)


def _intake(recordings: Sequence[Recording], events: Sequence[BookEvents], markets: Sequence[Market]) -> Intake:
    reports: list[RecordingReport] = []
    hashes: dict[str, str] = {}
    for recording, each in zip(recordings, events, strict=True):
        path, symbol = recording.path, each.instrument.symbol
        try:
            digest = file_hash(path)
        except OSError as error:
            raise RecordingError(f"{path}: cannot be read: {error.strerror}") from error
        hashes[path.name if path.name not in hashes else f"{symbol} {path.name}"] = digest
        report = RecordingReport(
            file=path.name,
            sha256=digest,
            symbol=symbol,
            events=recording.event_count or 0,
            first=moment(int(each.ts_ns[0])),
            last=moment(int(each.ts_ns[-1])),
            levels_left_out=each.left_out,
        )
        reports.append(report)
    notes = [
        f"{report.file}: {report.levels_left_out:,} changes of levels lie too far from all trades, and are left out"
        for report in reports
        if report.levels_left_out
    ]
    return Intake(tuple(markets), tuple(reports), hashes, tuple(notes))
