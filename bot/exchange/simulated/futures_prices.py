"""Index price, mark price and funding rate of one contract, from the middles of its book and of its coin's spot book.

The exchange does not publish its formulas. Ours: the index is the spot middle (the contract's own, where no spot
market is listed); the mark is the index plus the slow average of how far the contract's middle lies from it; the
funding rate is the average premium, pulled to a fixed interest rate and bounded, as is usual elsewhere (BitMEX,
KuCoin: premium + clamp(interest - premium)). All may be injected instead. Integers only; time comes in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from bot.exchange.simulated.candles import HOUR_NS, INTERVALS, SECOND_NS, CandleSeries, Interval
from bot.exchange.simulated.events import MarketTrade
from bot.exchange.simulated.futures_instruments import PPM
from bot.exchange.simulated.futures_positions import RATE

CONTRACT_INTERVALS: Final = (*INTERVALS, Interval("HOUR_8", 8 * HOUR_NS))
"""Of REST; one source knows a candle of 8 hours, and no channel for it."""
FUNDING_NS: Final = 8 * HOUR_NS
"""00, 08 and 16 o'clock UTC."""
SAMPLE_NS: Final = SECOND_NS
"""Mark and index are taken at most this often."""
AVERAGING_NS: Final = 60 * SECOND_NS
"""In this time the mark's distance from the index follows that of the book."""
BASIS_MAX_PPM: Final = 5_000
"""The mark never lies further than this from the index."""
INTEREST_RATE: Final = RATE // 10_000
INTEREST_PULL: Final = RATE // 2_000
"""A premium nearer than this to the interest rate funds at the interest rate."""
RATE_MAX: Final = RATE * 3 // 400
HISTORY_KEPT: Final = 1_000
_FINE: Final = 1 << 20
"""Parts of a tick in which the average distance is kept."""


class Funding(NamedTuple):
    """One funding moment: longs pay shorts `rate` / 10**8 of their value at `mark_ticks`, when positive."""

    ts_ns: int
    rate: int
    mark_ticks: int


class ContractPrices:
    """What one contract is valued at, and what holding it costs."""

    def __init__(self, symbol: str, first_ns: int) -> None:
        self.index_ticks: int | None = None
        """None before the first sample."""
        self.mark_ticks: int | None = None
        self.sampled_ns = first_ns - SAMPLE_NS
        self.next_funding_ns = (first_ns // FUNDING_NS + 1) * FUNDING_NS
        self.fundings: deque[Funding] = deque(maxlen=HISTORY_KEPT)
        """Settled ones, oldest first."""
        self.injected_mark_ticks: int | None = None
        """Overrules the formula from the next sample on; None lets it rule."""
        self.injected_rate: int | None = None
        self.mark_series = tuple(CandleSeries(interval) for interval in CONTRACT_INTERVALS)
        self.index_series = tuple(CandleSeries(interval) for interval in CONTRACT_INTERVALS)
        self.premium_series = tuple(CandleSeries(interval) for interval in CONTRACT_INTERVALS)
        """Of (middle - index) / index, in 10**-8."""
        self._symbol = symbol
        self._basis = 0
        self._premiums = 0
        self._premium_count = 0

    def sample(self, now_ns: int, mid_ticks: int | None, spot_mid_ticks: int | None) -> bool:
        """Look at the middles, None where there is none; return whether mark and index were taken anew."""
        if mid_ticks is None or now_ns < self.sampled_ns + SAMPLE_NS:
            return False
        index = spot_mid_ticks if spot_mid_ticks is not None else mid_ticks
        is_first = self.mark_ticks is None
        passed_ns = AVERAGING_NS if is_first else min(now_ns - self.sampled_ns, AVERAGING_NS)
        self._basis += ((mid_ticks - index) * _FINE - self._basis) * passed_ns // AVERAGING_NS
        basis_max = index * BASIS_MAX_PPM // PPM
        formula = index + min(max(self._basis // _FINE, -basis_max), basis_max)
        self.mark_ticks = max(formula, 1) if self.injected_mark_ticks is None else self.injected_mark_ticks
        self.index_ticks = index
        self.sampled_ns = now_ns
        premium = (mid_ticks - index) * RATE // index
        self._premiums += premium
        self._premium_count += 1
        self._draw(self.mark_series, now_ns, self.mark_ticks)
        self._draw(self.index_series, now_ns, index)
        self._draw(self.premium_series, now_ns, premium)
        return True

    @property
    def rate(self) -> int:
        """Return the rate that the next funding would have now, in 10**-8."""
        if self.injected_rate is not None:
            return self.injected_rate
        premium = self._premiums // max(self._premium_count, 1)
        pull = min(max(INTEREST_RATE - premium, -INTEREST_PULL), INTEREST_PULL)
        return min(max(premium + pull, -RATE_MAX), RATE_MAX)

    def fundings_due(self, now_ns: int) -> Iterator[Funding]:
        """Yield each funding moment until `now_ns` that has not been yet, once; those before any price are left out."""
        while self.next_funding_ns <= now_ns:
            ts_ns = self.next_funding_ns
            self.next_funding_ns += FUNDING_NS
            if self.mark_ticks is None:
                continue
            funding = Funding(ts_ns, self.rate, self.mark_ticks)
            self._premiums = self._premium_count = 0
            self.fundings.append(funding)
            yield funding

    def _draw(self, all_series: tuple[CandleSeries, ...], now_ns: int, value: int) -> None:
        tick = MarketTrade(now_ns, self._symbol, "", value, 0, "buy")
        for series in all_series:
            series.add(tick, 0)
