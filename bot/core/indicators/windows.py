"""Rolling windows: sums, extremes, moments and slopes of the last values, in amortised O(1) a value.

A window is cut into blocks as long as itself. At any time it is the rest of the block before, of which every suffix
was totalled when that block was complete, and the beginning of the block at hand, which is totalled as it grows. So
nothing is ever subtracted: no error outlives the values that made it, however long the bot runs, and sums of whole
numbers below 2^53 are exact.

Source: the two-stack queue of aggregates, in blocks as in van Herk, "A fast algorithm for local minimum and maximum
filters on rectangular and octagonal kernels", Pattern Recognition Letters 13, 1992; merging as in Chan, Golub and
LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.

A window of `size` values is a slice, zeros at the start, of the state that owns it:
[position in the block, 1.0 once a block is complete, totals of the block at hand…, totals of suffixes…].
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bot.core.jit import bare_kernel

Floats = NDArray[np.float64]

SUM: Final = 3
"""Numbers that a window of sums or extremes has before its `size` suffixes."""
WEIGHTED: Final = 4
"""The same for weighted means."""
MOMENTS: Final = 6
"""The same for moments and slopes, which keep two numbers for each suffix."""
DELAY: Final = 2
"""Numbers that a delay has before its `size` values."""


@bare_kernel
def has_nan(x: Floats) -> bool:
    """Return whether any of the values is missing."""
    is_missing = False
    for index in range(len(x)):
        if math.isnan(x[index]):
            is_missing = True
    return is_missing


@bare_kernel
def blank(out: Floats) -> None:
    """Set every output to NaN."""
    for index in range(len(out)):
        out[index] = math.nan


@bare_kernel
def rolling_sum(window: Floats, value: float) -> float:
    """Take the next value; return the sum of the last `size`, NaN before there are as many."""
    last = len(window) - 1
    here = SUM + int(window[0])
    total = window[2] + value
    window[here] = value
    if here < last:
        window[0] += 1.0
        window[2] = total
        return total + window[here + 1] if window[1] > 0.0 else math.nan
    suffix = 0.0
    for index in range(last, SUM - 1, -1):
        suffix += window[index]
        window[index] = suffix
    window[0] = 0.0
    window[1] = 1.0
    window[2] = 0.0
    return total


@bare_kernel
def blocks_of_means(window: Floats, values: Floats, means: Floats) -> int:
    """Take whole blocks of the next values, up to the first that has a NaN; return how many values those are.

    `values` and `means` have shape (n, 1); the window is at the beginning of a block. Means, and the window after, are
    to the last bit those of `rolling_sum` a value at a time, in a quarter of its time for windows of 20 and more: the
    state is read and written once a block, and several sums are divided at once. What is in `means` after the values
    taken has no meaning.
    """
    size = len(window) - SUM
    end = size
    while end <= len(values):
        block = values[end - size : end]
        mean = means[end - size : end]
        total = 0.0
        for index in range(size):
            total += block[index, 0]
            mean[index, 0] = total
        if math.isnan(total):
            break
        # Of the first block, in vain: inside a branch the compiler would divide them one by one.
        for index in range(size - 1):
            mean[index, 0] = (mean[index, 0] + window[SUM + 1 + index]) / size
        if window[1] == 0.0:
            for index in range(size - 1):
                mean[index, 0] = math.nan
        mean[size - 1, 0] = total / size
        suffix = 0.0
        for index in range(size - 1, -1, -1):
            suffix += block[index, 0]
            window[SUM + index] = suffix
        window[1] = 1.0
        end += size
    return end - size


@bare_kernel
def rolling_max(window: Floats, value: float) -> float:
    """Take the next value; return the highest of the last `size`, NaN before there are as many."""
    last = len(window) - 1
    here = SUM + int(window[0])
    best = window[2]
    if here == SUM or value > best:
        best = value
    window[here] = value
    if here < last:
        window[0] += 1.0
        window[2] = best
        if window[1] == 0.0:
            return math.nan
        rest = window[here + 1]
        return rest if rest > best else best
    suffix = value
    for index in range(last, SUM - 1, -1):
        if window[index] > suffix:
            suffix = window[index]
        window[index] = suffix
    window[0] = 0.0
    window[1] = 1.0
    return best


@bare_kernel
def rolling_min(window: Floats, value: float) -> float:
    """Take the next value; return the lowest of the last `size`, NaN before there are as many."""
    return -rolling_max(window, -value)


@bare_kernel
def weighted_mean(window: Floats, value: float) -> float:
    """Take the next value; return the mean of the last `size` with weights 1 (oldest) to `size`, NaN before.

    Totals: sum, and sum with weights from 1; putting n older values before a block adds n times its sum.
    """
    last = len(window) - 1
    here = WEIGHTED + int(window[0])
    size = len(window) - WEIGHTED
    weights = 0.5 * size * (size + 1)
    total = window[2] + value
    weighted = window[3] + (window[0] + 1.0) * value
    window[here] = value
    if here < last:
        window[0] += 1.0
        window[2] = total
        window[3] = weighted
        return (window[here + 1] + weighted + (last - here) * total) / weights if window[1] > 0.0 else math.nan
    suffix = 0.0
    suffix_weighted = 0.0
    for index in range(last, WEIGHTED - 1, -1):
        suffix += window[index]
        suffix_weighted += suffix
        window[index] = suffix_weighted
    window[0] = 0.0
    window[1] = 1.0
    window[2] = 0.0
    window[3] = 0.0
    return weighted / weights


@bare_kernel
def rolling_moments(window: Floats, value: float) -> tuple[float, float, float]:
    """Take the next value; return mean, value less mean, and sum of squared deviations of the last `size`.

    NaN before there are as many. Totals: mean less anchor, and that sum. The anchor is a value of the totalled ones
    (their first or last), so that what is rounded is no larger than the window's range, whatever the level.
    """
    size = (len(window) - MOMENTS) // 2
    means = window[MOMENTS : MOMENTS + size]
    spreads = window[MOMENTS + size :]
    position = int(window[0])
    if position == 0:
        window[2] = value
        window[3] = 0.0
        window[4] = 0.0
    anchor = window[2]
    offset = value - anchor
    mean = window[3] + (offset - window[3]) / (position + 1)
    spread = window[4] + (offset - window[3]) * (offset - mean)
    means[position] = value
    if position + 1 < size:
        window[0] += 1.0
        window[3] = mean
        window[4] = spread
        if window[1] == 0.0:
            return math.nan, math.nan, math.nan
        rest = size - position - 1
        apart = (means[position + 1] - mean) + (window[5] - anchor)
        shift = apart * (rest / size)
        spread = spreads[position + 1] + spread + apart * shift * (position + 1)
        return anchor + (mean + shift), offset - (mean + shift), spread
    window[5] = value
    suffix_mean = 0.0
    suffix_spread = 0.0
    for count in range(1, size + 1):
        before = (means[size - count] - value) - suffix_mean
        suffix_mean += before / count
        suffix_spread += before * ((means[size - count] - value) - suffix_mean)
        means[size - count] = suffix_mean
        spreads[size - count] = suffix_spread
    window[0] = 0.0
    window[1] = 1.0
    return anchor + mean, offset - mean, spread


@bare_kernel
def rolling_slope(window: Floats, value: float) -> float:
    """Take the next value; return the slope a bar of the least-squares line through the last `size`, NaN before.

    `size` is at least 2. Totals: mean less anchor, and sum of products of the deviations of index and value. Two
    blocks of a and b values that follow each other have their own sums and a x b / 2 times the difference of means.
    """
    size = (len(window) - MOMENTS) // 2
    means = window[MOMENTS : MOMENTS + size]
    products = window[MOMENTS + size :]
    position = int(window[0])
    if position == 0:
        window[2] = value
        window[3] = 0.0
        window[4] = 0.0
    anchor = window[2]
    apart = (value - anchor) - window[3]
    product = window[4] + 0.5 * position * apart
    mean = window[3] + apart / (position + 1)
    squares = size * (size * size - 1.0) / 12.0
    means[position] = value
    if position + 1 < size:
        window[0] += 1.0
        window[3] = mean
        window[4] = product
        if window[1] == 0.0:
            return math.nan
        rest = size - position - 1
        apart = (mean - means[position + 1]) + (anchor - window[5])
        return (products[position + 1] + product + 0.5 * rest * (position + 1) * apart) / squares
    window[5] = value
    suffix_mean = 0.0
    suffix_product = 0.0
    for count in range(size):
        apart = suffix_mean - (means[size - count - 1] - value)
        suffix_product += 0.5 * count * apart
        suffix_mean -= apart / (count + 1)
        means[size - count - 1] = suffix_mean
        products[size - count - 1] = suffix_product
    window[0] = 0.0
    window[1] = 1.0
    return product / squares


@bare_kernel
def delayed(delay: Floats, value: float) -> float:
    """Take the next value; return the one `size` (>= 1) values before it, NaN before there is one.

    A delay is a slice of zeros at the start: [position, 1.0 once full, the last `size` values…].
    """
    here = DELAY + int(delay[0])
    before = delay[here] if delay[1] > 0.0 else math.nan
    delay[here] = value
    if here < len(delay) - 1:
        delay[0] += 1.0
    else:
        delay[0] = 0.0
        delay[1] = 1.0
    return before
