"""The rules of the gate at their bounds, to the atom, and in the words that an operator reads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bot.core import messages as m
from bot.core.instrument import ATOMS, Side
from bot.core.messages import SECOND_NS, Condition, DenyReason
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk import Proposal, RiskGate
from bot.core.risk.rules_market import well_formed
from bot.core.risk.rules_size import liquidation_far
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    all_of,
    book_fill,
    book_lost,
    command,
    event,
    limits,
    listed,
    only,
    quote,
    recovered,
    risk_gate,
    say,
    signal,
)

S = OrderState
PERP = listed(is_perp=True)
WIDE = {"max_position_bps": 10**6, "max_gross_bps": 10**6}


def owner(lots: int = 10, **changes: Any) -> m.Recovered:
    """Return what a journal says where strategy `one` holds coins; equity is 10,000 at a price of 100."""
    return recovered(cash=10_000 - lots * 100, held={"one": {BTC: lots}}, **changes)


def said_of(gate: RiskGate, wish: m.Signal) -> tuple[DenyReason, str] | OrderIntent:
    """Return the order, or the code and the words of its refusal without the market and the other codes."""
    said = say(gate, wish)
    orders = all_of(said, m.OrderApproved)
    if orders:
        return orders[0].intent
    denial = all_of(said, m.OrderDenied)[0]
    return denial.reason, denial.detail.removeprefix(f"{wish.symbol}: ").partition("; also")[0]


def is_approved(gate: RiskGate, wish: m.Signal) -> bool:
    return isinstance(said_of(gate, wish), OrderIntent)


# --- to the atom

EQUITY = 10**20 + 12_347
BPS = 3_333
BOUND = EQUITY * BPS // 10_000
"""Too long for a binary fraction: only whole numbers know it."""
D = DenyReason


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        ({"max_order_bps": BPS}, D.MAX_ORDER_VALUE),
        ({"max_order_value_atoms": BOUND}, D.MAX_ORDER_VALUE),
        ({"max_position_bps": BPS}, D.MAX_POSITION),
        ({"max_gross_bps": BPS}, D.MAX_GROSS),
        ({"max_net_bps": BPS}, D.MAX_NET),
        ({"max_strategy_bps": BPS}, D.MAX_STRATEGY),
        ({"max_group_bps": BPS, "groups": {BTC: "majors"}}, D.MAX_GROUP),
        ({"max_turnover_bps": BPS}, D.MAX_TURNOVER),
        ({"ramp_bps": BPS, "max_order_value_atoms": EQUITY}, D.RAMP),
        ({"ramp_bps": BPS, "max_gross_bps": 10**5}, D.RAMP),
        ({"ramp_bps": BPS, "max_position_bps": 10**5}, D.RAMP),
        ({"max_leverage_bps": BPS}, D.MAX_LEVERAGE),
    ],
)
def test_a_bound_on_value_is_exact_to_the_atom(bounds: dict[str, Any], code: DenyReason) -> None:
    is_perp = code is D.MAX_LEVERAGE
    known = msgspec.structs.replace(recovered(), cash_atoms=EQUITY)
    for value, is_allowed in ((BOUND, True), (BOUND + 1, False)):
        gate = RiskGate(limits(**bounds), ramp_until_ns=NOW_NS + 1)
        market = listed(is_perp=is_perp, price_scale=16, notional_atoms_min=1)  # a tick of a coin is one atom
        say(gate, known, market, quote(value, value + 1))
        said = said_of(gate, signal(1, limit_ticks=value))
        assert isinstance(said, OrderIntent) if is_allowed else not isinstance(said, OrderIntent) and said[0] is code


@pytest.mark.parametrize(("fee_headroom_bps", "needs"), [(0, 1_000), (1, 1_001), (30, 1_003), (31, 1_004)])
def test_C12_a_buy_needs_its_cost_and_what_is_left_for_fees_rounded_up(fee_headroom_bps: int, needs: int) -> None:
    market = listed(price_scale=16, notional_atoms_min=1)
    for cash, is_allowed in ((needs, True), (needs - 1, False)):
        known = msgspec.structs.replace(recovered(), cash_atoms=cash)
        gate = RiskGate(limits(fee_headroom_bps=fee_headroom_bps, **WIDE))
        say(gate, known, market, quote(1_000, 1_001))
        assert is_approved(gate, signal(1, limit_ticks=1_000)) is is_allowed


def test_C12_what_is_left_for_fees_is_exact_to_the_atom() -> None:
    price = 10**20 + 1
    needs = price + 10**16 + 1  # a hundredth of a percent, rounded up
    for cash, is_allowed in ((needs, True), (needs - 1, False)):
        known = msgspec.structs.replace(recovered(), cash_atoms=cash)
        gate = RiskGate(limits(fee_headroom_bps=1, **WIDE))
        say(gate, known, listed(price_scale=16, notional_atoms_min=1), quote(price, price + 1))
        assert is_approved(gate, signal(1, limit_ticks=price)) is is_allowed


# --- in words


def test_C11_a_repeated_order_says_how_long_ago() -> None:
    gate = risk_gate(duplicate_ns=SECOND_NS)
    first = said_of(gate, signal(10))
    assert isinstance(first, OrderIntent)
    later_ns = NOW_NS + 300_999_999
    say(gate, event(first, S.CANCELED), quote(at_ns=later_ns))
    assert said_of(gate, signal(10, at_ns=later_ns)) == (
        D.DUPLICATE_INTENT,
        "the same was sent 300 ms ago < duplicate_ms 1000",
    )


def test_C11_a_smaller_position_is_asked_for_as_often_as_one_likes() -> None:
    gate = risk_gate(known=owner(20), duplicate_ns=SECOND_NS)
    for _ in range(2):
        order = said_of(gate, signal(10))
        assert isinstance(order, OrderIntent)
        say(gate, event(order, S.CANCELED))


def test_C11_an_exit_may_look_like_the_entry_before_it() -> None:
    gate = risk_gate(PERP, duplicate_ns=SECOND_NS)
    for target, lots in ((-5, -5), (5, 10)):
        order = said_of(gate, signal(target))
        assert isinstance(order, OrderIntent)
        assert order.signed_lots == lots
        say(gate, book_fill(gate, order, abs(lots)), event(order, S.FILLED, abs(lots)))
    exit_order = said_of(gate, signal(0))
    assert isinstance(exit_order, OrderIntent)
    assert exit_order.signed_lots == -5


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"max_order_value_atoms": 2_000 * ATOMS}, "order 1040 > 1000, which is ramp_pct of what is usual"),
        ({"max_position_bps": 2_000}, "position 1040 > 1000, which is ramp_pct of what is usual"),
        ({"max_gross_bps": 2_000}, "all positions 1040 > 1000, which is ramp_pct of what is usual"),
    ],
)
def test_C22_a_ramped_bound_says_which_it_is(bounds: dict[str, Any], words: str) -> None:
    gate = RiskGate(limits(ramp_bps=5_000, **bounds), ramp_until_ns=NOW_NS + 1)
    say(gate, recovered(), listed(), quote())
    assert said_of(gate, signal(10)) == (D.RAMP, words)
    assert is_approved(gate, signal(9))


@pytest.mark.parametrize(("ramp_bps", "until_ns"), [(5_000, NOW_NS), (10_000, NOW_NS + 1)])
def test_C22_without_a_ramp_what_is_usual_is_allowed(ramp_bps: int, until_ns: int) -> None:
    gate = RiskGate(limits(ramp_bps=ramp_bps, max_order_value_atoms=1_100 * ATOMS), ramp_until_ns=until_ns)
    say(gate, recovered(), listed(), quote())
    assert is_approved(gate, signal(10))


def test_C22_an_exit_is_not_ramped() -> None:
    gate = RiskGate(limits(ramp_bps=1), ramp_until_ns=NOW_NS + 1)
    say(gate, owner(50), listed(), quote())
    assert is_approved(gate, signal(0))


def test_C10_ten_times_the_usual_is_allowed_and_no_lot_more() -> None:
    gate = risk_gate(max_order_multiple=10)
    for strategy in "abcde":
        assert is_approved(gate, signal(2, strategy=strategy))
    words = "quantity 21 > 10 x 2, the median of the last orders"
    assert said_of(gate, signal(21, strategy="f")) == (D.MAX_ORDER_QTY, words)
    assert is_approved(gate, signal(20, strategy="g"))
    off = risk_gate()
    for strategy in "abcdef":
        assert is_approved(off, signal(2 if strategy < "f" else 50, strategy=strategy))


@pytest.mark.parametrize(
    ("is_on", "target", "own", "wish", "is_refused"),
    [
        (True, -10, 99, {}, True),
        (True, -10, 98, {}, False),
        (False, -10, 99, {}, False),
        (True, -10, 99, {"is_passive": True}, False),
        (True, -10, 101, {"is_passive": True}, False),  # a maker trades with nobody that is there
        (True, -10, 99, {"limit_ticks": 99}, True),
        (True, -10, 99, {"limit_ticks": 100}, False),
    ],
)
def test_C11_a_sale_that_would_meet_our_own_bid_is_refused(
    is_on: bool, target: int, own: int, wish: dict[str, Any], is_refused: bool
) -> None:
    gate = risk_gate(PERP, known=recovered(cash=100_000), forbids_self_cross=is_on)
    bid = said_of(gate, signal(5, strategy="two", limit_ticks=own))
    assert isinstance(bid, OrderIntent)
    said = said_of(gate, signal(target, **wish))
    words = (D.SELF_CROSS, f"would trade with our own order {bid.client_id}")
    assert said == words if is_refused else isinstance(said, OrderIntent)


def test_C11_an_exit_may_meet_our_own_order() -> None:
    gate = risk_gate(known=owner(10), forbids_self_cross=True)
    assert is_approved(gate, signal(5, strategy="two", limit_ticks=99))
    assert is_approved(gate, signal(0))


def test_a_code_is_named_once() -> None:
    gate = risk_gate(listed(notional_atoms_min=5_000 * ATOMS), notional_headroom_bps=200)
    assert only(say(gate, signal(10)), m.OrderDenied).detail == f"{BTC}: notional 1010 < 5000"


# --- what is wrong with the account


@pytest.mark.parametrize(
    ("scope", "detail", "words"),
    [
        ("", "hedge mode", "hedge mode"),
        (f"symbol:{BTC}", "leverage 3", "leverage 3"),
        ("", "", "not as in the settings"),
        (f"symbol:{ETH}", "leverage 3", None),
    ],
)
def test_C21_a_wrong_account_mode_stops_growth_where_it_is_wrong(scope: str, detail: str, words: str | None) -> None:
    report = m.HealthReported(ts_ns=NOW_NS, condition=Condition.ACCOUNT_MODE, is_well=False, scope=scope, detail=detail)
    said = said_of(risk_gate(report, known=owner(10)), signal(20))
    assert said == (D.ACCOUNT_MODE, words) if words else isinstance(said, OrderIntent)
    assert is_approved(risk_gate(report, known=owner(10)), signal(5))


@pytest.mark.parametrize(("detail", "words"), [("", "private stream: not well"), ("gone", "private stream: gone")])
def test_C3_while_the_private_stream_is_down_nothing_grows_though_the_books_are_equal(detail: str, words: str) -> None:
    gate = RiskGate(limits(), reconciles=("spot",))
    equal = m.AccountCompared(ts_ns=NOW_NS, market="spot", differences=())
    down = m.HealthReported(ts_ns=NOW_NS, condition=Condition.PRIVATE_STREAM, is_well=False, detail=detail)
    say(gate, owner(10), listed(), quote(), down, equal)
    assert said_of(gate, signal(20)) == (D.NOT_RECONCILED, words)


def test_C3_each_wallet_that_was_not_compared_is_named() -> None:
    gate = RiskGate(limits(), reconciles=("spot", "futures"))
    say(gate, owner(10), listed(), quote())
    words = "no new exposure until the {} wallet was reconciled"
    assert said_of(gate, signal(20)) == (D.NOT_RECONCILED, words.format("spot and futures"))
    say(gate, m.AccountCompared(ts_ns=NOW_NS, market="spot", differences=()))
    assert said_of(gate, signal(21)) == (D.NOT_RECONCILED, words.format("futures"))


def test_C3_the_look_that_is_longest_ago_counts() -> None:
    gate = RiskGate(limits(account_stale_ns=30 * SECOND_NS), reconciles=("spot", "futures"))
    say(gate, owner(10), listed())
    for seconds, wallet in ((0, "spot"), (20, "futures")):
        equal = m.AccountCompared(ts_ns=NOW_NS + seconds * SECOND_NS, market="spot", differences=())
        say(gate, msgspec.structs.replace(equal, market=wallet))
    for seconds, is_allowed in ((30, True), (31, False)):
        at_ns = NOW_NS + seconds * SECOND_NS
        say(gate, quote(at_ns=at_ns))
        said = said_of(gate, signal(10, strategy=f"at-{seconds}", at_ns=at_ns))
        words = (D.ACCOUNT_STALE, "account 31 s old > account_stale_s 30")
        assert isinstance(said, OrderIntent) if is_allowed else said == words


# --- words


@pytest.mark.parametrize(
    ("gate", "wish", "code", "words"),
    [
        ([listed(is_open=False)], signal(10), D.NOT_LISTED, "the exchange does not trade it now"),
        ([book_lost()], signal(10), D.MARKET_DATA_STALE, "no whole book"),
        ([listed(qty_lots_min=11)], signal(10), D.MIN_QTY, "quantity 10 < minimum 11"),
        ([], signal(10, limit_ticks=88), D.PRICE_COLLAR, "price 1200 bps on the cheap side > passive collar 1000 bps"),
        ([quote(90, 110)], signal(10), D.PRICE_COLLAR, "price 1000 bps from the middle > collar 200 bps"),
        (
            [quote(90, 110)],
            signal(10, is_passive=True),
            D.PRICE_COLLAR,
            "price 1000 bps from the middle > collar 200 bps",
        ),
        ([], signal(10, symbol=ETH), D.NOT_ALLOWED, "not in risk.allowed, which is BTC_USDT, LTC_USDT"),
        ([command("halt")], signal(10), D.HALTED, "halted by operator"),
        ([command("reduce")], signal(10), D.REDUCE_ONLY, "reduce-only by operator"),
    ],
)
def test_a_refusal_in_full(gate: list[m.AnyMessage], wish: m.Signal, code: DenyReason, words: str) -> None:
    before = listed(ETH), quote(symbol=ETH), *gate
    made = risk_gate(*before, allowed=(BTC, "LTC_USDT"), passive_collar_bps=1_000)
    assert said_of(made, wish) == (code, words)


def test_C4_what_a_perpetual_and_an_unpriced_coin_are_refused_for() -> None:
    gate = risk_gate(PERP, mark_stale_ns=2 * SECOND_NS)
    assert said_of(gate, signal(10)) == (D.MARKET_DATA_STALE, "no mark price")
    at_ns = NOW_NS + 3_500_000_000
    say(gate, m.MarkPrice(ts_ns=NOW_NS, symbol=BTC, price_ticks=100), quote(at_ns=at_ns))
    words = "mark 3500 ms old > mark_stale_ms 2000"
    assert said_of(gate, signal(11, at_ns=at_ns)) == (D.MARKET_DATA_STALE, words)
    blind = risk_gate(listed(ETH), known=recovered(held={"two": {ETH: 1}}))
    assert said_of(blind, signal(10)) == (D.MARKET_DATA_STALE, "equity unknown: a held coin has no price")


def test_C17_orders_of_which_nobody_knows_are_named() -> None:
    gate = risk_gate(listed(ETH), quote(symbol=ETH), max_unknown_orders=1)
    orders = [said_of(gate, signal(5, strategy=name)) for name in ("one", "two")]
    for order in orders:
        assert isinstance(order, OrderIntent)
        say(gate, event(order, S.UNKNOWN))
    ids = [order.client_id for order in orders if isinstance(order, OrderIntent)]
    words = f"2 unknown orders > max_unknown_orders 1: {ids[0]}, {ids[1]}"
    assert said_of(gate, signal(5, symbol=ETH)) == (D.UNKNOWN_OUTSTANDING, words)
    assert said_of(gate, signal(7, strategy="three")) == (D.UNKNOWN_OUTSTANDING, f"resolve {ids[0]} first")


def test_F30_a_refusal_without_a_reason_is_told_as_one() -> None:
    gate = risk_gate(max_reject_bps=5_000)
    for _ in range(2):
        order = said_of(gate, signal(10))
        assert isinstance(order, OrderIntent)
        say(gate, event(order, S.REJECTED))
    assert said_of(gate, signal(10)) == (D.REJECT_RATIO, "the exchange refused 2 in a row: no reason")


def test_C18_every_trade_allows_so_many_orders_more() -> None:
    gate = risk_gate(max_orders_per_trade=3)
    for count in range(6):
        order = said_of(gate, signal(1, strategy=f"s{count}"))
        assert isinstance(order, OrderIntent)
        if count < 2:
            say(gate, book_fill(gate, order, 1))
        say(gate, event(order, S.FILLED if count < 2 else S.CANCELED, 1 if count < 2 else 0))
    words = "6 orders for 2 trades in 5 min, max_orders_per_trade 3"
    assert said_of(gate, signal(1, strategy="last")) == (D.OTR, words)


# --- an order at the very bound, and one that no honest computation makes


def test_C6_the_smallest_value_and_its_headroom_are_enough() -> None:
    assert is_approved(risk_gate(listed(notional_atoms_min=1_010 * ATOMS)), signal(10))
    assert not is_approved(risk_gate(listed(notional_atoms_min=1_010 * ATOMS + 1)), signal(10))
    market = listed(price_scale=2, notional_atoms_min=100 * ATOMS)
    for limit, is_allowed in ((10_100, True), (10_099, False)):
        gate = RiskGate(limits(notional_headroom_bps=100))
        say(gate, recovered(), market, quote(10_050, 10_150))
        assert is_approved(gate, signal(1, limit_ticks=limit)) is is_allowed


def test_C6_what_is_held_may_go_without_headroom() -> None:
    gate = risk_gate(listed(notional_atoms_min=980 * ATOMS), known=owner(10), notional_headroom_bps=1_000)
    assert is_approved(gate, signal(0))


def made(lots: int = 10, price: int = 100, value: int = 1_000, book: m.Quote | None = None) -> Proposal:
    return Proposal(
        strategy="one",
        instrument=listed().instrument,
        side=Side.BUY,
        qty_lots=lots,
        order_type="MARKET",
        price_ticks=price,
        increase_lots=lots,
        value_atoms=value * ATOMS,
        closes_atoms=0,
        amount_atoms=0,
        decided_ns=NOW_NS,
        now_ns=NOW_NS,
        quote=book,
        equity_atoms=None,
    )


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (made(), None),
        (made(lots=1, price=1, value=0, book=quote()), None),
        (made(price=0), None),  # a market order without a book: another rule says so
        (made(lots=0), "quantity of 0 lots is not valid"),
        (made(lots=-1), "quantity of -1 lots is not valid"),
        (made(price=0, book=quote()), "price of 0 ticks is not valid"),
        (made(price=-1), "price of -1 ticks is not valid"),
        (made(value=-1), "value -1 is not valid"),
    ],
)
def test_C1_an_order_is_well_formed(order: Proposal, words: str | None) -> None:
    denial = well_formed(risk_gate(), order)
    assert denial == (None if words is None else (D.INVALID_INTENT, words))


# --- exits


def test_R8_an_exit_passes_where_growth_is_far_beyond_its_bounds() -> None:
    bounds = {
        "max_leverage_bps": 1,
        "liquidation_distance_bps": 10_000,
        "max_funding_ppb": 1,
        "max_reject_bps": 1,
        "max_orders_per_trade": 1,
        "max_trades": 1,
        "max_turnover_bps": 1,
        "duplicate_ns": 60 * SECOND_NS,
        "max_group_bps": 1,
        "groups": {BTC: "majors"},
        "max_open_orders_symbol": 1,
        "max_unknown_orders": 1,
        "max_order_bps": 1,
        "max_net_bps": 1,
        "max_strategy_bps": 1,
    }
    known = recovered(cash=10_000, held={"one": {BTC: 500}}, costs={BTC: 50_000 * ATOMS})
    rates = (m.FundingRate(ts_ns=NOW_NS, symbol=BTC, rate_ppb=rate, due_ns=NOW_NS) for rate in (-100,))
    gate = risk_gate(PERP, *rates, known=known, **bounds)
    for count in range(12):
        order = said_of(gate, signal(400 - count, strategy="one"))
        assert isinstance(order, OrderIntent)
        assert order.side is Side.SELL
        say(gate, event(order, S.REJECTED, at_ns=NOW_NS), signal(500))
        gate.pace.forgive("one", BTC)
    growth = said_of(gate, signal(600))
    assert not isinstance(growth, OrderIntent)


@pytest.mark.parametrize(
    ("bounds", "code"), [({"max_trades": 1}, D.MAX_TRADES), ({"max_turnover_bps": 1}, D.MAX_TURNOVER)]
)
def test_C19_when_the_day_is_spent_what_is_held_may_still_go(bounds: dict[str, int], code: DenyReason) -> None:
    gate = risk_gate(known=owner(20), **bounds)
    first = said_of(gate, signal(15))
    assert isinstance(first, OrderIntent)
    say(gate, book_fill(gate, first, 5), event(first, S.FILLED, 5))
    growth = said_of(gate, signal(25))
    assert not isinstance(growth, OrderIntent)
    assert growth[0] is code
    assert is_approved(gate, signal(0))


def test_C13_what_comes_out_at_nothing_has_no_liquidation() -> None:
    gate = risk_gate(PERP, liquidation_distance_bps=1)
    assert liquidation_far(gate, made(value=0)._replace(instrument=PERP.instrument)) is None


def test_C13_a_symbol_without_a_group_has_no_group_s_bound() -> None:
    assert is_approved(risk_gate(max_group_bps=1, groups={ETH: "majors"}), signal(10))
    assert is_approved(risk_gate(groups={BTC: "majors"}), signal(10))


def test_C12_an_amount_is_spent_with_its_fees_and_needs_no_more() -> None:
    for cash, is_allowed in ((1_000, True), (999, False)):
        gate = risk_gate(known=recovered(cash=cash), fee_headroom_bps=100, **WIDE)
        assert is_approved(gate, signal(9, amount_atoms=1_000 * ATOMS)) is is_allowed


# --- prices


@pytest.mark.parametrize(
    ("wish", "is_allowed"),
    [
        (signal(10, limit_ticks=10_200), True),
        (signal(10, limit_ticks=10_202), False),
        (signal(10, limit_ticks=9_000), True),
        (signal(10, limit_ticks=8_999), False),
        (signal(-10, limit_ticks=9_800), True),
        (signal(-10, limit_ticks=9_798), False),
        (signal(-10, limit_ticks=11_000), True),
        (signal(-10, limit_ticks=11_001), False),
    ],
)
def test_C7_a_limit_lies_in_the_collar_of_its_side(wish: m.Signal, is_allowed: bool) -> None:
    gate = RiskGate(limits(collar_bps=200, passive_collar_bps=1_000))
    say(gate, recovered(cash=10**6), PERP, quote(9_999, 10_001))
    assert is_approved(gate, wish) is is_allowed


@pytest.mark.parametrize(("target", "is_allowed"), [(10, True), (11, False), (-10, True), (-11, False)])
@pytest.mark.parametrize("has_book", [False, True])
def test_C8_a_market_order_takes_its_share_of_the_side_that_it_meets(
    target: int, is_allowed: bool, has_book: bool
) -> None:
    ask, bid = (101, 50 if target > 0 else 500), (99, 50 if target < 0 else 500)
    book = msgspec.structs.replace(
        quote(),
        ask_lots=ask[1],
        bid_lots=bid[1],
        asks=((101, ask[1] - 10), (102, 10)) if has_book else (),
        bids=((99, bid[1] - 10), (98, 10)) if has_book else (),
    )
    gate = RiskGate(limits(depth_share_bps=2_000))
    say(gate, recovered(cash=10**6), PERP, book)
    assert is_approved(gate, signal(target)) is is_allowed
    assert is_approved(gate, signal(target, strategy="two", limit_ticks=100))


@pytest.mark.parametrize(("target", "is_allowed"), [(20, True), (21, False), (-20, True), (-21, False)])
def test_C8_the_mean_price_is_that_of_the_levels_that_it_takes(target: int, is_allowed: bool) -> None:
    book = msgspec.structs.replace(
        quote(9_990, 10_010),
        asks=((10_010, 10), (10_030, 10), (10_900, 90)),
        bids=((9_990, 10), (9_970, 10), (9_100, 90)),
    )
    gate = RiskGate(limits(market_slippage_bps=20, collar_bps=500))
    say(gate, recovered(cash=10**7), PERP, book)
    assert is_approved(gate, signal(target)) is is_allowed


@pytest.mark.parametrize(("spread", "is_allowed"), [(60_000, True), (60_198, True), (60_200, False)])
def test_C8_a_mean_price_is_refused_from_a_whole_point_above_its_bound(spread: int, is_allowed: bool) -> None:
    gate = RiskGate(limits(market_slippage_bps=300, collar_bps=500))
    say(gate, recovered(cash=10**7), PERP, quote(1_000_000 - spread // 2, 1_000_000 + spread // 2))
    assert is_approved(gate, signal(1)) is is_allowed


@pytest.mark.parametrize(
    ("rate_ppb", "due_s", "target", "is_allowed"),
    [
        (101, 600, 10, False),
        (100, 600, 10, True),
        (101, 601, 10, True),
        (101, 0, 10, False),
        (101, -1, 10, True),
        (101, 600, -10, True),
        (-101, 600, -10, False),
        (-100, 600, -10, True),
    ],
)
def test_C20_who_would_pay_a_high_funding_soon_does_not_grow(
    rate_ppb: int, due_s: int, target: int, is_allowed: bool
) -> None:
    rate = m.FundingRate(ts_ns=NOW_NS, symbol=BTC, rate_ppb=rate_ppb, due_ns=NOW_NS + due_s * SECOND_NS)
    said = said_of(risk_gate(PERP, rate, max_funding_ppb=100), signal(target))
    words = (D.FUNDING, f"funding of 101 ppb due in {due_s} s > 100 ppb")
    assert isinstance(said, OrderIntent) if is_allowed else said == words


@pytest.mark.parametrize(("age_ms", "is_allowed"), [(5_000, True), (5_001, False)])
def test_C4_C5_a_book_and_a_decision_are_good_for_their_time(age_ms: int, is_allowed: bool) -> None:
    at_ns = NOW_NS + age_ms * 1_000_000
    said = said_of(risk_gate(), signal(10, at_ns=at_ns))
    assert (
        isinstance(said, OrderIntent)
        if is_allowed
        else said == (D.MARKET_DATA_STALE, "book 5001 ms old > stale_ms 5000")
    )
    gate = risk_gate(quote(at_ns=at_ns))
    said = said_of(gate, signal(10))
    words = (D.INTENT_EXPIRED, "decided 5001 ms ago > intent_ttl_ms 5000")
    assert isinstance(said, OrderIntent) if is_allowed else said == words


@pytest.mark.parametrize(("maintenance_bps", "distance_bps"), [(0, 4_807), (100, 4_660), (500, 4_101)])
@pytest.mark.parametrize("side", Side)
def test_C13_the_liquidation_after_an_order_is_far_enough(maintenance_bps: int, distance_bps: int, side: Side) -> None:
    for bound_bps, is_allowed in ((distance_bps, True), (distance_bps + 1, False)):
        bounds = {"liquidation_distance_bps": bound_bps, "maintenance_bps": maintenance_bps, "leverage": 5}
        gate = risk_gate(PERP, known=recovered(cash=500), **WIDE, **bounds)
        # 10 lots at 101 and 3 % more are 1,040: 500 of it is 4,807 hundredths of a percent.
        said = said_of(gate, signal(10 * side.sign))
        if side is Side.SELL:
            assert isinstance(said, OrderIntent) or said[0] is D.LIQ_DISTANCE
            continue
        words = (D.LIQ_DISTANCE, f"liquidation {distance_bps} bps away < liquidation_distance {bound_bps} bps")
        assert isinstance(said, OrderIntent) if is_allowed else said == words
