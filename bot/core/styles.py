"""How a position is reached: at once, in slices over a time, or resting at the touch and moved after it.

A wish says where to go; its style says how. This turns the wish into what it asks for at one moment. Guards are never
slowed down: what protects a position is not a style.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from bot.core import messages as m

SLICES: Final = 10
"""Equal parts of a `twap`: the first at once, the last a slice before the time is over."""


class _Way(NamedTuple):
    target_lots: int
    from_lots: int
    began_ns: int


class Styles:
    """The ways that wishes are on. A wish that is repeated goes on; one with another target sets out anew."""

    def __init__(self) -> None:
        self._ways: dict[tuple[str, str], _Way] = {}

    def at(self, wish: m.Signal, held_lots: int, now_ns: int) -> m.Signal:
        """Return what `wish` asks for at `now_ns`, where its strategy holds `held_lots`."""
        key = wish.strategy, wish.symbol
        if wish.style == "now" or wish.style_ns <= 0:
            if self._ways:
                self._ways.pop(key, None)
            return wish
        way = self._ways.get(key)
        if way is None or way.target_lots != wish.target_lots:
            way = self._ways[key] = _Way(wish.target_lots, held_lots, now_ns)
        elapsed_ns = max(now_ns - way.began_ns, 0)
        if wish.style == "twap":
            return _slice(wish, way, min(elapsed_ns * SLICES // wish.style_ns + 1, SLICES))
        is_patient = elapsed_ns < wish.style_ns
        return msgspec.structs.replace(wish, is_passive=is_patient, amount_atoms=0, limit_ticks=0)

    @property
    def are_any(self) -> bool:
        """Return whether some wish is on its way, so that time alone changes what is asked for."""
        return bool(self._ways)


def is_behind(wish: m.Signal, side_sign: int, price_ticks: int, quote: m.Quote) -> bool:
    """Return whether an order that chases rests behind the touch of its own side."""
    touch_ticks = quote.bid_ticks if side_sign > 0 else quote.ask_ticks
    return wish.style == "chase" and side_sign * (touch_ticks - price_ticks) > 0


def _slice(wish: m.Signal, way: _Way, slices: int) -> m.Signal:
    distance = way.target_lots - way.from_lots
    done = abs(distance) * slices // SLICES
    target = way.from_lots + (done if distance > 0 else -done)
    return msgspec.structs.replace(wish, target_lots=target, amount_atoms=0)
