"""How much of a result may be luck: bootstrap intervals, shuffled trades, and Sharpe ratios that own up to the trials.

Every draw comes from a numpy Generator made of the seed that is given, so the same question has the same answer.
Memory stays bounded: samples are drawn in batches. Sharpe ratios in this file are *per period*, that is, not
annualised, unless a name says otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from bot.errors import SettingsError
from bot.strategies.advice import Floats

_NORMAL: Final = NormalDist()
_BATCH: Final = 1 << 20
"""Numbers in one batch of draws."""
_SHUFFLED: Final = 1 << 15
"""The same of trades, which are gone over several times: so many stay in the cache."""
EULER: Final = 0.5772156649015329


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A value and where it may as well lie."""

    value: float | None
    low: float | None
    high: float | None
    confidence: float


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """What resampled blocks of returns say."""

    sharpe: Interval
    """Annualised."""
    total_return: Interval
    loss_probability: float
    """Share of samples with a total return below 0."""
    block: float
    samples: int
    seed: int


class TradeLuck(msgspec.Struct, frozen=True, kw_only=True):
    """What the same trades in another order, or drawn with replacement, would have given."""

    method: Literal["reshuffle", "resample"]
    final_growth: tuple[float, ...]
    """Quantiles of final / starting equity, at `LUCK_QUANTILES`."""
    max_drawdown: tuple[float, ...]
    """Quantiles of the max drawdown, at `LUCK_QUANTILES`, seen at the ends of trades."""
    ruin_probability: float
    """Share of samples whose equity falls to `ruin_level` of the start or below."""
    ruin_level: float
    samples: int
    seed: int


LUCK_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


class Moments(NamedTuple):
    """What the Sharpe ratio's error depends on."""

    periods: int
    sharpe: float | None
    """Mean / standard deviation (ddof=1) of a period; None if returns do not vary."""
    skewness: float
    kurtosis: float
    """3 for a normal distribution."""


# --- bootstrap


def block_length(count: int) -> int:
    """Return the usual length of a block for `count` returns: the cube root of their number, at least 1.

    Source: Hall, Horowitz and Jing, "On blocking rules for the bootstrap with dependent data", Biometrika 82, 1995.
    """
    return max(1, round(count ** (1 / 3)))


def bootstrap(
    returns: Floats,
    periods_a_year: float,
    *,
    seed: int,
    samples: int = 2_000,
    block: float | None = None,
    is_stationary: bool = True,
    confidence: float = 0.95,
) -> Bootstrap:
    """Return percentile intervals of the Sharpe ratio and the total return of `returns`.

    `returns` has shape (n,), n >= 2, all > -1. Blocks start anywhere and go on at the beginning after the end; with
    `is_stationary` their lengths are geometric with mean `block` (Politis and Romano, "The stationary bootstrap",
    JASA 89, 1994), otherwise all of length `block` (moving blocks: Künsch, Annals of Statistics 17, 1989).
    A block costs the same however long it is: sums come out of prefix sums.

    Raises:
        SettingsError: fewer than 2 returns, one that loses everything, a block shorter than 1 or longer than all, fewer
            than 100 samples, or a confidence outside of 0 to 1.

    """
    block = float(block_length(len(returns)) if block is None else block)
    _check(returns, samples, confidence)
    if not 1 <= block <= len(returns):
        raise SettingsError(f"block of {block:g} returns is not in 1 to {len(returns)}, the number of returns")
    columns = np.stack([returns, returns * returns, np.log1p(returns)])
    batches = _block_sums(columns, samples, block, is_stationary, np.random.default_rng(seed))
    sums = np.concatenate(list(batches), axis=1)
    scale = math.sqrt(periods_a_year)
    growth = np.expm1(sums[2])
    total = math.expm1(float(np.sum(columns[2])))
    sharpe = moments(returns).sharpe
    return Bootstrap(
        sharpe=_interval(None if sharpe is None else sharpe * scale, _sharpes(sums, len(returns)) * scale, confidence),
        total_return=_interval(total, growth, confidence),
        loss_probability=int(np.count_nonzero(growth < 0)) / samples,
        block=block,
        samples=samples,
        seed=seed,
    )


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Whether one series of returns is better than another on the same days."""

    mean: Interval
    """Of the difference of returns of a period."""
    p_value: float
    """Two-sided: how often resampled differences, shifted to mean 0, are as far from 0 as the one observed."""
    periods: int
    block: float
    samples: int
    seed: int


def paired_difference(
    first: Floats, second: Floats, *, seed: int, samples: int = 2_000, confidence: float = 0.95
) -> Difference:
    """Return how much higher the returns of `first` are than those of `second` in the same periods, both (n,).

    The stationary bootstrap of the differences; p-value with one added to both counts, so that it is never 0
    (Davison and Hinkley, "Bootstrap Methods and their Application", 1997). Raises as `bootstrap` does.
    """
    if len(first) != len(second):
        raise SettingsError(f"{len(first)} and {len(second)} returns cannot be paired")
    gaps = first - second
    _check(gaps, samples, confidence, lowest=-math.inf)
    block = float(block_length(len(gaps)))
    batches = _block_sums(gaps[None, :], samples, block, True, np.random.default_rng(seed))
    means = np.concatenate([batch[0] for batch in batches]) / len(gaps)
    mean = float(np.mean(gaps))
    # A mean that is 0 but for rounding is as near to 0 as any.
    beyond = int(np.count_nonzero(np.abs(means - mean) >= abs(mean) * (1 - 1e-12)))
    return Difference(
        mean=_interval(mean, means, confidence),
        p_value=(beyond + 1) / (samples + 1),
        periods=len(gaps),
        block=block,
        samples=samples,
        seed=seed,
    )


def _check(returns: Floats, samples: int, confidence: float, lowest: float = -1.0) -> None:
    if len(returns) < 2:
        raise SettingsError(f"{len(returns)} returns are too few to be resampled; at least 2")
    if not np.all(np.isfinite(returns)) or float(np.min(returns)) <= lowest:
        raise SettingsError("a return of -1 or less, or one that is no number, cannot be resampled")
    if samples < 100:
        raise SettingsError(f"{samples} samples are too few; at least 100")
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence {confidence} is not between 0 and 1")


def _block_sums(
    columns: Floats, samples: int, block: float, is_stationary: bool, generator: np.random.Generator
) -> Iterator[Floats]:
    """Yield, in batches of shape (columns, samples of the batch), the sums of each column over resampled blocks."""
    count = columns.shape[1]
    prefix = np.zeros((len(columns), 2 * count + 1))
    np.cumsum(np.concatenate((columns, columns), axis=1), axis=1, out=prefix[:, 1:])
    rows = max(1, int(_BATCH / (count / block + 1)))
    for begin in range(0, samples, rows):
        height = min(rows, samples - begin)
        lengths = _lengths(height, count, block, is_stationary, generator)
        starts = generator.integers(0, count, lengths.shape)
        yield np.stack([np.sum(line[starts + lengths] - line[starts], axis=1) for line in prefix])


def _lengths(
    height: int, count: int, block: float, is_stationary: bool, generator: np.random.Generator
) -> np.typing.NDArray[np.int64]:
    """Return lengths of blocks, each row of which adds up to `count`; those that are not needed are 0."""
    width = math.ceil(count / block)
    lengths = np.zeros((height, 0), np.int64)
    while not lengths.shape[1] or int(np.min(np.sum(lengths, axis=1))) < count:
        shape = (height, width)
        more = generator.geometric(1 / block, shape) if is_stationary else np.full(shape, round(block), np.int64)
        lengths = np.concatenate((lengths, np.minimum(more, count)), axis=1)
        width = max(4, width // 4)
    ends = np.minimum(np.cumsum(lengths, axis=1), count)
    return np.diff(ends, axis=1, prepend=0)


def _sharpes(sums: Floats, count: int) -> Floats:
    """Return the Sharpe ratio of each sample; NaN where it does not vary."""
    mean = sums[0] / count
    variance = (sums[1] - sums[0] * mean) / (count - 1)
    varies = variance > 1e-12 * sums[1] / count
    return np.divide(mean, np.sqrt(np.where(varies, variance, 1.0)), out=np.full(len(mean), np.nan), where=varies)


def _interval(value: float | None, samples: Floats, confidence: float) -> Interval:
    known = samples[np.isfinite(samples)]
    if not len(known):
        return Interval(value=value, low=None, high=None, confidence=confidence)
    low, high = np.quantile(known, ((1 - confidence) / 2, (1 + confidence) / 2))
    return Interval(value=value, low=float(low), high=float(high), confidence=confidence)


# --- trades


def trade_luck(
    growth: Floats,
    *,
    seed: int,
    method: Literal["reshuffle", "resample"] = "resample",
    samples: int = 2_000,
    ruin_level: float = 0.5,
) -> TradeLuck:
    """Return what chance does to final equity, drawdown and ruin.

    `growth` has shape (n,): each trade's net profit as a fraction of the equity that it began with, > -1.
    `reshuffle` keeps every trade, in another order: the final equity is always the same, drawdowns are not.
    `resample` draws as many trades with replacement.

    Raises:
        SettingsError: no trade, one that lost everything, fewer than 100 samples, or `ruin_level` outside of 0 to 1.

    """
    if not len(growth):
        raise SettingsError("no trades: there is nothing to reshuffle")
    if not np.all(np.isfinite(growth)) or float(np.min(growth)) <= -1:
        raise SettingsError("a trade that lost all equity, or more, cannot be reshuffled")
    if samples < 100:
        raise SettingsError(f"{samples} samples are too few; at least 100")
    if not 0 < ruin_level < 1:
        raise SettingsError(f"ruin level {ruin_level} is not between 0 and 1")
    generator, logs = np.random.default_rng(seed), np.log1p(growth)
    finals, drawdowns, ruined = np.zeros(samples), np.zeros(samples), 0
    rows = max(1, _SHUFFLED // len(logs))
    for begin in range(0, samples, rows):
        end = min(begin + rows, samples)
        shape = (end - begin, len(logs))
        drawn = (
            generator.permuted(np.broadcast_to(logs, shape), axis=1)
            if method == "reshuffle"
            else logs[generator.integers(0, len(logs), shape)]
        )
        curves = np.cumsum(drawn, axis=1, out=drawn)
        finals[begin:end] = np.exp(curves[:, -1])
        ruined += int(np.count_nonzero(np.min(curves, axis=1) <= math.log(ruin_level)))
        peaks = np.maximum.accumulate(curves, axis=1)
        np.maximum(peaks, 0.0, out=peaks)
        np.subtract(curves, peaks, out=curves)
        drawdowns[begin:end] = -np.expm1(np.min(curves, axis=1))
    return TradeLuck(
        method=method,
        final_growth=tuple(float(value) for value in np.quantile(finals, LUCK_QUANTILES)),
        max_drawdown=tuple(float(value) for value in np.quantile(drawdowns, LUCK_QUANTILES)),
        ruin_probability=ruined / samples,
        ruin_level=ruin_level,
        samples=samples,
        seed=seed,
    )


def trade_growth(net: Floats, cash: float) -> Floats:
    """Return each trade's net profit as a fraction of cash and the profits of the trades that ended before it.

    `net` has shape (n,), in the order of the trades' ends. Trades after the money is gone count as 0.
    """
    before = cash + np.concatenate(([0.0], np.cumsum(net)[:-1])) if len(net) else np.zeros(0)
    return np.divide(net, before, out=np.zeros(len(net)), where=before > 0)


# --- Sharpe ratios


def moments(returns: Floats) -> Moments:
    """Return the moments of `returns`, shape (n,): Sharpe ratio, skewness and kurtosis (not the excess), biased."""
    count = len(returns)
    if count < 2:
        return Moments(count, None, 0.0, 3.0)
    mean = float(np.mean(returns))
    off = returns - mean
    second = float(np.mean(off * off))
    if second <= 1e-24 * max(mean * mean, float(np.mean(returns * returns))):
        return Moments(count, None, 0.0, 3.0)
    return Moments(
        periods=count,
        sharpe=mean / math.sqrt(second * count / (count - 1)),
        skewness=float(np.mean(off**3)) / second**1.5,
        kurtosis=float(np.mean(off**4)) / second**2,
    )


def sharpe_error(sample: Moments) -> float | None:
    """Return the standard error of the Sharpe ratio when returns are not normal; None where there is none.

    sqrt((1 - skewness x SR + (kurtosis - 1) / 4 x SR^2) / (n - 1)).
    Source: Mertens 2002; Bailey and López de Prado, "The Sharpe ratio efficient frontier", J. of Risk 15(2), 2012.
    """
    if sample.sharpe is None:
        return None
    spread = 1 - sample.skewness * sample.sharpe + (sample.kurtosis - 1) / 4 * sample.sharpe**2
    return math.sqrt(spread / (sample.periods - 1)) if spread > 0 else None


def probabilistic_sharpe(sample: Moments, benchmark: float = 0.0) -> float | None:
    """Return the probability that the true Sharpe ratio is above `benchmark`, both of a period.

    Source: Bailey and López de Prado 2012.
    """
    error = sharpe_error(sample)
    return None if error is None or sample.sharpe is None else _NORMAL.cdf((sample.sharpe - benchmark) / error)


def expected_max_sharpe(trials: int, variance: float) -> float:
    """Return the highest Sharpe ratio to be expected of so many trials without skill, whose ratios vary that much.

    `variance` is that of the trials' Sharpe ratios of a period.
    Source: Bailey and López de Prado, "The deflated Sharpe ratio", J. of Portfolio Management 40(5), 2014.

    Raises:
        SettingsError: fewer than 1 trial, or a variance below 0.

    """
    if trials < 1:
        raise SettingsError(f"{trials} trials; at least 1")
    if variance < 0:
        raise SettingsError(f"variance {variance} of the trials' Sharpe ratios is below 0")
    if trials == 1:
        return 0.0
    first, second = _NORMAL.inv_cdf(1 - 1 / trials), _NORMAL.inv_cdf(1 - 1 / (trials * math.e))
    return math.sqrt(variance) * ((1 - EULER) * first + EULER * second)


def deflated_sharpe(sample: Moments, trials: int, variance: float) -> float | None:
    """Return the probability that the true Sharpe ratio is above what the best of `trials` without skill would show.

    The trials are all that were tried, not only those that were kept. Raises as `expected_max_sharpe` does.
    Source: Bailey and López de Prado 2014.
    """
    return probabilistic_sharpe(sample, expected_max_sharpe(trials, variance))


def track_record_min(sample: Moments, benchmark: float = 0.0, confidence: float = 0.95) -> float | None:
    """Return how many periods it takes to be so sure that the Sharpe ratio is above `benchmark`.

    None if it is not above it at all. Source: Bailey and López de Prado 2012.

    Raises:
        SettingsError: `confidence` is not between 0 and 1.

    """
    if not 0 < confidence < 1:
        raise SettingsError(f"confidence {confidence} is not between 0 and 1")
    error = sharpe_error(sample)
    if error is None or sample.sharpe is None or sample.sharpe <= benchmark:
        return None
    spread = error * error * (sample.periods - 1)
    return 1 + spread * (_NORMAL.inv_cdf(confidence) / (sample.sharpe - benchmark)) ** 2


# --- all of it for one run


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """What chance may have done to one run; None where there is too little to tell."""

    bootstrap: Bootstrap | None
    """Of daily returns."""
    reshuffled: TradeLuck | None
    resampled: TradeLuck | None
    probabilistic_sharpe: float | None
    """Probability that the true Sharpe ratio of days is above 0."""
    deflated_sharpe: float | None
    """The same, above what the best of `trials` without skill would show; None if the trials were not counted."""
    trials: int | None
    track_record_days_min: float | None
    """Days that it takes to be 95 % sure that it is above 0."""


def assess(
    day_returns: Floats,
    net: Floats,
    cash: float,
    *,
    seed: int,
    trials: int | None = None,
    trials_variance: float = 0.0,
    samples: int = 2_000,
) -> Assessment:
    """Return what chance may have done to a run with these daily returns and net profits of trades.

    `trials` counts every variant that was tried, this one included; `trials_variance` is the variance of their Sharpe
    ratios of a day.
    """
    sample = moments(day_returns)
    can_resample = len(day_returns) >= 2 and float(np.min(day_returns)) > -1
    growth = trade_growth(net, cash)
    can_shuffle = len(growth) > 0 and float(np.min(growth)) > -1
    return Assessment(
        bootstrap=bootstrap(day_returns, 365.25, seed=seed, samples=samples) if can_resample else None,
        reshuffled=trade_luck(growth, seed=seed, method="reshuffle", samples=samples) if can_shuffle else None,
        resampled=trade_luck(growth, seed=seed, method="resample", samples=samples) if can_shuffle else None,
        probabilistic_sharpe=probabilistic_sharpe(sample),
        deflated_sharpe=None if trials is None else deflated_sharpe(sample, trials, trials_variance),
        trials=trials,
        track_record_days_min=track_record_min(sample),
    )
