"""The markets of a command: out of files or made up, of one length, cut to the period that was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from bot.backtest.checks import BARS_MAX, DataReport, Gaps, Repair
from bot.backtest.data import Reading, load_candles, load_funding, name_parts
from bot.backtest.made import made_market
from bot.backtest.report.manifest import candles_hash, file_hash
from bot.backtest.resample import resample, select
from bot.core.durations import UNITS_NS, duration_text
from bot.core.instrument import ATOM_SCALE
from bot.errors import SettingsError
from bot.strategies.advice import Market

_PERP: Final = "_PERP"
_RECORDING_ENDINGS: Final = (".jsonl", ".jsonl.gz")
MADE_SYMBOL: Final = "BTC_USDT"
MADE_TIMEFRAME_NS: Final = 5 * UNITS_NS["m"]
MADE_BARS: Final = 105_120
"""A year of five minutes; of longer bars two years are made, and no fewer than `MADE_BARS_MIN`."""
MADE_NS: Final = 2 * 365 * UNITS_NS["d"]
MADE_BARS_MIN: Final = 2_000
MADE_NS_MAX: Final = 50 * 365 * UNITS_NS["d"]


class DataWish(msgspec.Struct, frozen=True, kw_only=True):
    """Which candles a command wants."""

    files: tuple[Path, ...] = ()
    """None: made-up ones."""
    symbols: tuple[str, ...] = ()
    """Of the files, in their order; none: as the names of the files say."""
    funding: tuple[Path, ...] = ()
    """Funding rates of perpetuals, each for the symbol that its name says."""
    timeframe_ns: int | None = None
    """Of the strategy, where it is known: that of made-up candles, and of a file that does not say its own."""
    is_coarse: bool = False
    """Make longer bars of the candles first, of `timeframe_ns`."""
    from_ns: int | None = None
    to_ns: int | None = None
    price_scale: int | None = None
    quantity_scale: int | None = None
    repairs: frozenset[Repair] = frozenset()
    gaps: Gaps = "keep"
    as_of_ns: int | None = None
    made_bars: int | None = None
    """None: as many as `MADE_BARS` says."""


class RecordingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording held."""

    file: str
    """Its name, without directories."""
    sha256: str
    """Of the file as it is."""
    symbol: str
    events: int
    """Snapshots, changes of levels and trades."""
    first: str
    last: str
    levels_left_out: int
    """Changes of levels too far from all trades for anybody to reach them."""


class Intake(NamedTuple):
    """The markets of a run."""

    markets: tuple[Market, ...]
    """In the order of the files, all of one timeframe."""
    reports: tuple[DataReport | RecordingReport, ...]
    hashes: dict[str, str]
    """What a manifest says of them."""
    notes: tuple[str, ...]
    """What a reader of results should know of the data, a sentence each."""


def is_recording(path: Path) -> bool:
    """Return whether the name of a file is that of a recording."""
    return path.name.endswith(_RECORDING_ENDINGS)


def take_in(wish: DataWish, *, seed: int, quote_fee_ppm: int) -> Intake:
    """Return the markets.

    Raises:
        DataError: a file cannot be used.
        SettingsError: the wishes contradict each other.

    """
    if wish.files:
        markets, reports, hashes = _from_files(wish, quote_fee_ppm)
        notes = [line for report in reports for line in report.lines()] + _spot_notes(wish)
    else:
        markets, hashes = _made(wish, seed, quote_fee_ppm)
        reports = ()
        notes = [f"the candles are made up, with seed {seed}"]
    markets = [select(market, wish.from_ns, wish.to_ns) for market in _of_one_length(wish, markets, notes)]
    markets, funding = _funded(wish, markets)
    return Intake(tuple(markets), tuple(reports), hashes | funding, tuple(notes))


def _from_files(wish: DataWish, quote_fee_ppm: int) -> tuple[list[Market], list[DataReport], dict[str, str]]:
    if wish.symbols and len(wish.symbols) != len(wish.files):
        raise SettingsError(
            f"--symbol: {len(wish.symbols)} given for {len(wish.files)} files; give one for each, or none"
        )
    markets: list[Market] = []
    reports: list[DataReport] = []
    hashes: dict[str, str] = {}
    for path, symbol in zip(wish.files, wish.symbols or (None,) * len(wish.files), strict=True):
        reading = Reading(
            symbol=symbol or _spot_symbol(path),
            timeframe_ns=wish.timeframe_ns,
            price_scale=wish.price_scale,
            quantity_scale=wish.quantity_scale,
            quote_fee_ppm=quote_fee_ppm,
            repairs=wish.repairs,
            gaps=wish.gaps,
            as_of_ns=wish.as_of_ns,
        )
        market, report = load_candles(path, reading)
        if any(other.instrument.symbol == report.symbol for other in markets):
            raise SettingsError(f"{path.name}: {report.symbol} is given twice; name each with --symbol")
        markets.append(market)
        reports.append(report)
        hashes[path.name if path.name not in hashes else f"{report.symbol} {path.name}"] = report.sha256
    return markets, reports, hashes


def _spot_symbol(path: Path) -> str:
    """Return the symbol that a file's name says, as a spot market: shorts, leverage and funding are asked for."""
    return name_parts(path.name)[0].removesuffix(_PERP)


def _spot_notes(wish: DataWish) -> list[str]:
    perps = [path for path in wish.files if name_parts(path.name)[0].endswith(_PERP)]
    if wish.symbols:
        return []
    return [
        f"{path.name}: traded as a spot market; --symbol {name_parts(path.name)[0]} makes a perpetual of it"
        for path in perps
    ]


def _made(wish: DataWish, seed: int, quote_fee_ppm: int) -> tuple[list[Market], dict[str, str]]:
    timeframe_ns = wish.timeframe_ns or MADE_TIMEFRAME_NS
    bars_max = min(BARS_MAX, MADE_NS_MAX // timeframe_ns)
    usual = min(MADE_BARS, max(MADE_NS // timeframe_ns, MADE_BARS_MIN), bars_max)
    bars = usual if wish.made_bars is None else wish.made_bars
    if not 1 <= bars <= bars_max:
        raise SettingsError(f"--bars {bars}: must be from 1 to {bars_max} for bars of {duration_text(timeframe_ns)}")
    markets: list[Market] = []
    for number, symbol in enumerate(wish.symbols or (MADE_SYMBOL,)):
        market = made_market(
            symbol, bars=bars, seed=seed + number, timeframe_ns=timeframe_ns, quote_fee_ppm=quote_fee_ppm
        )
        markets.append(market)
    return markets, {f"made {market.instrument.symbol}": candles_hash(market.candles) for market in markets}


def _of_one_length(wish: DataWish, markets: Sequence[Market], notes: list[str]) -> list[Market]:
    """Return the markets in bars of the longest among them, or of the length that was asked for."""
    length_ns = max(market.timeframe_ns for market in markets)
    if wish.is_coarse and wish.timeframe_ns is not None:
        length_ns = wish.timeframe_ns
    made: list[Market] = []
    for market in markets:
        longer, cut = resample(market, length_ns)
        made.append(longer)
        if market.timeframe_ns != length_ns:
            own = duration_text(market.timeframe_ns)
            ends = f"; {cut} bars at the ends belong to no whole one" if cut else ""
            notes.append(f"{market.instrument.symbol}: bars of {own} were made into {duration_text(length_ns)}{ends}")
    return made


def _funded(wish: DataWish, markets: Sequence[Market]) -> tuple[list[Market], dict[str, str]]:
    """Return the markets with their funding rates, and the hashes of these files."""
    by_symbol = {market.instrument.symbol: market for market in markets}
    perps = [symbol for symbol, market in by_symbol.items() if market.instrument.is_perp]
    hashes: dict[str, str] = {}
    for path in wish.funding:
        symbol = perps[0] if len(perps) == 1 else name_parts(path.name)[0]
        if symbol not in perps:
            known = ", ".join(perps) or "no perpetual; --symbol NAME_PERP makes one"
            raise SettingsError(f"--funding {path}: is for {symbol}; there is {known}")
        by_symbol[symbol] = load_funding(path, by_symbol[symbol])
        hashes[f"funding {symbol}"] = file_hash(path)
    return list(by_symbol.values()), hashes


def scale_of(text: str, option: str) -> int:
    """Return how many decimals a step such as `1e-8`, `0.01` or `1` has.

    Raises:
        SettingsError: it is no power of ten from 1 down.

    """
    try:
        value = Decimal(text).normalize()
    except InvalidOperation:
        value = Decimal(0)
    sign, digits, exponent = value.as_tuple()
    if sign or digits != (1,) or not isinstance(exponent, int) or not -ATOM_SCALE <= exponent <= 0:
        raise SettingsError(f"{option} {text}: must be a power of ten from 1e-{ATOM_SCALE} to 1, such as 1e-8 or 0.01")
    return -exponent
