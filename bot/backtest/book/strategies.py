"""Strategies on the book that come with the bot."""

from __future__ import annotations

from typing import Annotated

import msgspec
import numpy as np

from bot.backtest.book import player as pl
from bot.backtest.book.replay import BookView, CompiledStrategy, Quotes
from bot.core.jit import pluggable
from bot.strategies.advice import Floats, Ints


class QuoterSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quote on either side of the middle, leaning against what is held."""

    half_spread_ticks: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    """Of our quotes from the touch: 0 joins it, 1 stands a tick behind it."""
    lots: Annotated[int, msgspec.Meta(ge=1, le=10**12)] = 1
    position_lots_max: Annotated[int, msgspec.Meta(ge=1, le=10**15)] = 10
    skew_ticks: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 1
    """Both quotes move this far against a position of `position_lots_max`, and in proportion."""


class Quoter:
    """Buys and sells at its quotes; stops buying, or selling, at its bound."""

    def __init__(self, settings: QuoterSettings) -> None:
        self._settings = settings

    def on_book(self, view: BookView) -> Quotes | None:
        """Return quotes around the touch; None while a side of the book is empty."""
        own = self._settings
        if not (view.bid_lots and view.ask_lots):
            return None
        held, bound = view.position_lots, own.position_lots_max
        lean = -own.skew_ticks * held // bound
        bid = min(view.bid_ticks - own.half_spread_ticks + lean, view.ask_ticks - 1)
        ask = max(view.ask_ticks + own.half_spread_ticks + lean, view.bid_ticks + 1)
        return Quotes(bid, min(own.lots, max(bound - held, 0)), ask, min(own.lots, max(bound + held, 0)))


def compiled_quoter(settings: QuoterSettings) -> CompiledStrategy:
    """Return a `Quoter` that runs without Python: the same quotes."""
    own = settings
    numbers = (own.half_spread_ticks, own.lots, own.position_lots_max, own.skew_ticks)
    return CompiledStrategy(_quote, np.array(numbers, np.float64), np.zeros(1))


@pluggable(pl.DECIDE_SIGNATURE)
def _quote(settings: Floats, memory: Floats, view: Ints, wish: Ints) -> None:
    half_spread, lots = int(settings[0]), int(settings[1])
    bound, skew = int(settings[2]), int(settings[3])
    if view[pl.BID_LOTS] == 0 or view[pl.ASK_LOTS] == 0:
        return
    held = view[pl.POSITION]
    lean = -skew * held // bound
    wish[pl.WISH_BID] = min(view[pl.BID] - half_spread + lean, view[pl.ASK] - 1)
    wish[pl.WISH_BID_LOTS] = min(lots, max(bound - held, 0))
    wish[pl.WISH_ASK] = max(view[pl.ASK] + half_spread + lean, view[pl.BID] + 1)
    wish[pl.WISH_ASK_LOTS] = min(lots, max(bound + held, 0))
    wish[pl.IS_SET] = 1


class ImbalanceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take the side of the heavier touch."""

    lots: Annotated[int, msgspec.Meta(ge=1, le=10**12)] = 1
    ratio: Annotated[float, msgspec.Meta(gt=0.5, lt=1)] = 0.9
    """Share of the lots at the touch that one side must have."""


class Imbalance:
    """Holds `lots` while bids outweigh asks, minus `lots` while asks do."""

    def __init__(self, settings: ImbalanceSettings) -> None:
        self._settings = settings

    def on_book(self, view: BookView) -> Quotes | None:
        """Return a market order towards the side that the touch leans to, or None."""
        total = view.bid_lots + view.ask_lots
        if not (view.bid_lots and view.ask_lots):
            return None
        own = self._settings
        if view.bid_lots >= own.ratio * total:
            wanted = own.lots
        elif view.ask_lots >= own.ratio * total:
            wanted = -own.lots
        else:
            return None
        missing = wanted - view.position_lots - view.pending_lots
        return Quotes(market_lots=missing) if missing else None
