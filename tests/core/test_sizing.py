"""From a share of a notional to whole lots, never more than asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.instrument import ATOMS
from bot.core.sizing import target_lots
from tests.support.builders import instrument


@pytest.mark.parametrize(
    ("share", "notional", "price", "lots"),
    [(1.0, 1000.0, 100, 10), (0.5, 1000.0, 100, 5), (1.0, 1099.0, 100, 10), (0.0, 1000.0, 100, 0), (1.0, 99.0, 100, 0)],
)
def test_a_share_buys_whole_lots(share: float, notional: float, price: int, lots: int) -> None:
    assert target_lots(instrument(), share, notional, price) == lots


@given(st.floats(0, 1), st.integers(1, 10**6), st.integers(1, 10**7))
def test_a_position_is_never_worth_more_than_was_asked_for(share: float, notional: int, price: int) -> None:
    market = instrument(price_scale=2, quantity_scale=4)
    lots = target_lots(market, share, notional, price)
    wanted = share * notional * ATOMS
    assert market.notional_atoms(price, lots) <= wanted < market.notional_atoms(price, lots + 1) + 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_share_that_nobody_can_have_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"not in 0\.0 to 1\.0"):
        target_lots(instrument(), share, 1000.0, 100)
