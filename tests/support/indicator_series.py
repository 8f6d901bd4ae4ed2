"""Series for the tests of indicators: one value for each name that an indicator may ask for, by kind and seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.core.indicators.registry import INDICATORS, Indicator

Floats = NDArray[np.float64]
MIDNIGHT_NS: Final = 1_704_067_200 * 10**9
HOUR_NS: Final = 3_600 * 10**9
KINDS: Final = ("walk", "constant", "ticks", "jumps", "huge", "tiny")
SCALES: Final = {"huge": 2.0**300, "tiny": 2.0**-300}


def market(kind: str, seed: int, n: int, start_ns: int = MIDNIGHT_NS) -> dict[str, Floats]:
    """Return hourly bars of `n` rows: open, high, low, close, volume, time, and x, y for any series."""
    draw = np.random.default_rng(seed)
    if kind == "constant":
        close = np.full(n, 1234.5)
    elif kind == "jumps":
        close = 100.0 + np.exp2(draw.integers(-10, 40, n).astype(np.float64))
    else:
        close = 30_000.0 + 40.0 * draw.normal(size=n).cumsum()
    step = 0.0 if kind == "constant" else 30.0
    opens = np.roll(close, 1)
    high = np.maximum(opens, close) + step * draw.random(n)
    low = np.minimum(opens, close) - min(step, 0.1) * draw.random(n)
    if kind == "ticks":
        opens, high, low, close = np.round(opens), np.ceil(high), np.floor(low), np.round(close)
    scale = np.float64(SCALES.get(kind, 1.0))
    series: dict[str, Floats] = {
        "open": opens * scale,
        "high": high * scale,
        "low": low * scale,
        "close": close * scale,
        "volume": draw.integers(0, 1000, n).astype(np.float64),
        "time": (start_ns + HOUR_NS * np.arange(n)).astype(np.float64),
        "x": close * scale,
        "y": np.roll(close, 3) * scale,
    }
    return series


def rows_of(indicator: Indicator, series: dict[str, Floats]) -> Floats:
    """Return what the indicator takes, shape (n, inputs)."""
    return np.column_stack([series[name] for name in indicator.inputs])


def outputs_of(indicator: Indicator, params: Sequence[float], rows: Floats) -> Floats:
    """Return what its column makes of them, shape (n, outputs)."""
    outputs = np.empty((len(rows), len(indicator.outputs)))
    indicator.column(indicator.make_state(indicator.with_defaults(params)), rows, outputs)
    return outputs


def small_params(indicator: Indicator, seed: int) -> tuple[float, ...]:
    """Return parameters drawn within their bounds, windows of at most 12."""
    draw = np.random.default_rng(seed)
    return tuple(
        float(draw.integers(int(param.low), 13)) if param.kind == "int" else float(draw.uniform(param.low, param.high))
        for param in indicator.params
    )


def bits(outputs: Floats) -> bytes:
    """Return the outputs as bytes; a NaN has a sign that nobody reads, so all are made equal."""
    return np.where(np.isnan(outputs), np.nan, outputs).tobytes()


def digests() -> dict[str, str]:
    """Return a digest of the bits that each indicator makes of every kind of series."""
    found: dict[str, str] = {}
    for name, indicator in INDICATORS.items():
        digest = hashlib.sha256()
        for seed, kind in enumerate(KINDS):
            rows = rows_of(indicator, market(kind, seed, 150))
            rows[40, 0] = np.nan
            digest.update(bits(outputs_of(indicator, small_params(indicator, seed), rows)))
        found[name] = digest.hexdigest()
    return found


if __name__ == "__main__":
    print(json.dumps(digests()))
