"""From the share that a strategy wants to hold to whole lots."""

from __future__ import annotations

from bot.core.instrument import ATOMS, Instrument


def target_lots(instrument: Instrument, share: float, notional: float, price_ticks: int) -> int:
    """Return how many lots `share` (0.0 to 1.0) of `notional` quote currency buys at a price, rounded down.

    Raises:
        ValueError: `share` is not in 0.0 to 1.0 (nor is NaN): a strategy asked for what it cannot have.

    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{instrument.symbol}: a strategy wants a share of {share}, which is not in 0.0 to 1.0")
    wanted_atoms = int(share * notional * ATOMS)
    return wanted_atoms // instrument.notional_atoms(price_ticks, 1)
