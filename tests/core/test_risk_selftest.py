"""The self-test: it is content with a sound gate, and names the check that is not there."""

from __future__ import annotations

import msgspec
import pytest

from bot.assembly import limits_of
from bot.config import load_settings
from bot.core.risk import Limits, rules
from bot.core.risk import gate as gate_module
from bot.core.risk.rule import Rule
from bot.core.risk.selftest import self_test
from tests.support.builders import BTC, ETH, instrument

MARKETS = (instrument(), instrument("ETH_USDT_PERP", is_perp=True), instrument(ETH))


def bounds(*sets: str) -> Limits:
    symbols = tuple(market.symbol for market in MARKETS)
    exchange = f"exchange.symbols={list(symbols)!r}".replace("'", '"')
    return limits_of(load_settings([], {}, [exchange, *sets]).risk, symbols)


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ('risk.groups=["majors=BTC_USDT,ETH_USDT_PERP"]', 'risk.max_order_qty=["BTC_USDT=2.5"]'),
        ("risk.max_order_value=50", "risk.orders_per_second=1", "risk.orders_per_minute=20", "risk.max_open_orders=5"),
    ],
)
def test_a_sound_gate_passes(sets: tuple[str, ...]) -> None:
    assert self_test(bounds(*sets), MARKETS) == []


def test_a_bound_above_its_ceiling_is_found() -> None:
    assert self_test(msgspec.structs.replace(bounds(), max_order_bps=9_999), MARKETS) == [
        "max_order_bps is 9999, its ceiling is 2500"
    ]


NEEDLESS = {
    "notional_headroom": "its code is that of the minimum itself, which is tried",
    "notional_min": "its code is that of the headroom above it, which refuses the same",
    "trades_enough": "five minutes of orders are needed, which the bounds may not allow",
}
"""Rules that the self-test does not try."""


TRIED = [each for each in rules.RULES if each.__name__ not in NEEDLESS]


@pytest.mark.parametrize("missing", TRIED, ids=lambda each: each.__name__)
def test_a_check_that_is_not_asked_is_found(missing: Rule, monkeypatch: pytest.MonkeyPatch) -> None:
    def agrees(*_: object) -> None:
        return None

    # In its place, so that no other rule meets what it was kept from.
    left = tuple(agrees if each is missing else each for each in rules.RULES)
    monkeypatch.setattr(gate_module, "RULES", left)
    sets = ('risk.groups=["majors=BTC_USDT,ETH_USDT_PERP"]', 'risk.max_order_qty=["BTC_USDT=2.5"]')
    if missing.__name__ == "data_fresh":
        with pytest.raises(AssertionError):
            self_test(bounds(*sets), MARKETS)
        return
    assert self_test(bounds(*sets), MARKETS) != []


def test_bounds_that_let_nothing_through_are_found() -> None:
    assert self_test(bounds("risk.max_order_value=1"), MARKETS[:1]) == [
        "BTC_USDT: MAX_ORDER_VALUE against an order of twice the smallest value"
    ]


def test_it_takes_one_market_of_each_kind() -> None:
    assert MARKETS[0].symbol == BTC
    assert self_test(bounds(), MARKETS[:1]) == []
