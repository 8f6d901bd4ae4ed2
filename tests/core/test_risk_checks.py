"""The checks before a trade that research does not know: what each refuses, and that it lets exits through."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from bot.assembly import limits_of, research_limits_of
from bot.config import RiskSettings, load_settings
from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.instrument import ATOMS, Side
from bot.core.messages import SECOND_NS, Condition, DenyReason, RiskState
from bot.core.orders import OrderIntent, OrderState
from bot.core.risk import RULES, Limits, RiskGate
from bot.core.risk.limits import CEILINGS, LOOSE, above_ceiling
from bot.core.risk.rate import DAY_NS
from bot.exchange.poloniex.spot_client import OPEN_ORDERS_MAX
from tests.core.test_risk import REFUSALS
from tests.support.builders import (
    BTC,
    ETH,
    NOW_NS,
    all_of,
    book_fill,
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
    tick,
)

S = OrderState
DOCS = Path(__file__).parents[2] / "docs"
WIDE = {"max_position_bps": 10**6, "max_gross_bps": 10**6}
PERP = listed(is_perp=True)


def owner(lots: int = 10, **changes: Any) -> m.Recovered:
    """Return what a journal says where strategy `one` holds coins; equity is 10,000 at a price of 100."""
    return recovered(cash=10_000 - lots * 100, held={"one": {BTC: lots}}, **changes)


def at(message: m.AnyMessage, after_ns: int) -> m.AnyMessage:
    return msgspec.structs.replace(message, ts_ns=NOW_NS + after_ns)


def deep(*levels: tuple[int, int]) -> m.Quote:
    """Return a quote whose asks are given, with as many bids below 100."""
    bids = tuple((200 - price, lots) for price, lots in levels)
    return msgspec.structs.replace(quote(), bids=bids, asks=levels)


def mark(after_ns: int = 0) -> m.MarkPrice:
    return m.MarkPrice(ts_ns=NOW_NS + after_ns, symbol=BTC, price_ticks=100)


def funded(rate_ppb: int, due_ns: int) -> m.FundingRate:
    return m.FundingRate(ts_ns=NOW_NS, symbol=BTC, rate_ppb=rate_ppb, due_ns=NOW_NS + due_ns)


def unwell(condition: Condition, scope: str = "", *, is_well: bool = False) -> m.HealthReported:
    return m.HealthReported(ts_ns=NOW_NS, condition=condition, is_well=is_well, scope=scope, detail="so it is")


def compared(*differences: m.Difference, wallet: m.Wallet = "spot", after_ns: int = 0) -> m.AccountCompared:
    return m.AccountCompared(ts_ns=NOW_NS + after_ns, market=wallet, differences=differences)


def ordered(outputs: list[m.AnyMessage]) -> OrderIntent:
    return only(outputs, m.OrderApproved).intent


def refused(outputs: list[m.AnyMessage]) -> DenyReason:
    return only(outputs, m.OrderDenied).reason


def traded(gate: RiskGate, target: int, *, strategy: str = "one", price: int = 100) -> OrderIntent:
    """Let an order through, fill it and end it."""
    intent = ordered(say(gate, signal(target, strategy=strategy)))
    say(gate, book_fill(gate, intent, intent.qty_lots, price), event(intent, S.FILLED, intent.qty_lots))
    return intent


class Check(NamedTuple):
    """One check: what makes it refuse a wish, and the same wish where nothing speaks against it."""

    id: str
    code: DenyReason
    detail: str
    bounds: dict[str, Any]
    """That the check is on, and has this bound."""
    before: list[m.AnyMessage]
    wish: m.Signal = signal(10)
    known: m.Recovered | None = None
    relief: dict[str, Any] | None = None
    """The bound at which the same is let through; None where only `before` makes it wrong."""


PERPS = {**WIDE, "max_order_value_atoms": 10**9 * ATOMS, "leverage": 5}
CHECKS = [
    Check("C1", DenyReason.INVALID_INTENT, "price of -5 ticks", {}, [], signal(10, limit_ticks=-5)),
    Check("C4", DenyReason.MARKET_DATA_STALE, "no mark price", {**PERPS, "mark_stale_ns": SECOND_NS}, [PERP]),
    Check(
        "C4",
        DenyReason.MARKET_DATA_STALE,
        "mark 2000 ms old > mark_stale_ms 1000",
        {**PERPS, "mark_stale_ns": SECOND_NS},
        [PERP, mark(), at(quote(), 2 * SECOND_NS)],
        signal(10, at_ns=NOW_NS + 2 * SECOND_NS),
        relief={**PERPS, "mark_stale_ns": 2 * SECOND_NS},
    ),
    Check(
        "C6",
        DenyReason.MIN_NOTIONAL,
        "notional 1010 < 1000 and 200 bps",
        {"notional_headroom_bps": 200},
        [listed(notional_atoms_min=1_000 * ATOMS)],
        relief={"notional_headroom_bps": 100},
    ),
    Check("C6", DenyReason.MAX_QTY, "quantity 10 > maximum 9", {}, [listed(market_lots_max=9)]),
    Check(
        "C7",
        DenyReason.PRICE_COLLAR,
        "1100 bps on the cheap side > passive collar 1000 bps",
        {"passive_collar_bps": 1_000},
        [],
        signal(10, limit_ticks=89),
        relief={"passive_collar_bps": 1_100},
    ),
    Check(
        "C8",
        DenyReason.SLIPPAGE,
        "mean price 250 bps from the middle > slippage 249 bps",
        {"market_slippage_bps": 249},
        [deep((101, 5), (104, 5))],
        relief={"market_slippage_bps": 250},
    ),
    Check("C8", DenyReason.SLIPPAGE, "only 1 of 10 lots", {"market_slippage_bps": 300}, [quote()]),
    Check(
        "C8",
        DenyReason.DEPTH,
        "10 lots > 2000 bps of the 49 lots that are seen",
        {"depth_share_bps": 2_000},
        [deep((101, 29), (104, 20))],
        relief={"depth_share_bps": 2_041},
    ),
    Check(
        "C9",
        DenyReason.MAX_ORDER_VALUE,
        "value 1040 > max_order_pct, which is 1039",
        {"max_order_bps": 1_039},
        [],
        relief={"max_order_bps": 1_040},
    ),
    Check(
        "C10",
        DenyReason.MAX_ORDER_QTY,
        "quantity 10 > max_order_qty 9.5",
        {"max_order_base_atoms": {BTC: 95 * ATOMS // 10}},
        [],
        relief={"max_order_base_atoms": {BTC: 10 * ATOMS}},
    ),
    Check(
        "C21",
        DenyReason.NOT_ALLOWED,
        f"not in risk.allowed, which is {ETH}",
        {"allowed": (ETH,)},
        [],
        relief={"allowed": (BTC,)},
    ),
    Check("C21", DenyReason.NOT_ALLOWED, "which is empty", {"allowed": ()}, [], relief={"allowed": None}),
    Check("C21", DenyReason.ACCOUNT_MODE, "so it is", {}, [unwell(Condition.ACCOUNT_MODE, f"symbol:{BTC}")]),
    Check(
        "C12",
        DenyReason.INSUFFICIENT_FUNDS,
        "needs 1043.12 > free cash 1043",
        {**WIDE, "fee_headroom_bps": 30},
        [],
        known=recovered(cash=1_043),
        relief={**WIDE, "fee_headroom_bps": 28},
    ),
    Check(
        "C12",
        DenyReason.INSUFFICIENT_FUNDS,
        "margin of all 228.8 > equity 220",
        {**PERPS, "margin_buffer_bps": 1_000},
        [PERP],
        known=recovered(cash=220),
        relief={**PERPS, "margin_buffer_bps": 500},
    ),
    Check(
        "C13",
        DenyReason.MAX_NET,
        "net position 2040 > max_net_pct, which is 2000",
        {"max_net_bps": 2_000},
        [],
        signal(20),
        owner(10),
        {"max_net_bps": 2_040},
    ),
    Check(
        "C13",
        DenyReason.MAX_STRATEGY,
        "positions of one 2040 > max_strategy_pct, which is 2000",
        {"max_strategy_bps": 2_000},
        [],
        signal(20),
        owner(10),
        {"max_strategy_bps": 2_040},
    ),
    Check(
        "C13",
        DenyReason.MAX_GROUP,
        "positions of group majors 2040 > max_group_pct, which is 2000",
        {"max_group_bps": 2_000, "groups": {BTC: "majors", ETH: "majors"}},
        [listed(ETH), quote(symbol=ETH)],
        signal(10),
        recovered(cash=9_000, held={"two": {ETH: 10}}),
        {"max_group_bps": 2_000, "groups": {BTC: "majors"}},
    ),
    Check(
        "C13",
        DenyReason.MAX_LEVERAGE,
        "perpetuals 20800 > max_leverage, which is 20000",
        {**PERPS, "max_leverage_bps": 20_000},
        [PERP],
        signal(200),
        relief={**PERPS, "max_leverage_bps": 20_800},
    ),
    Check(
        "C13",
        DenyReason.LIQ_DISTANCE,
        "liquidation 4660 bps away < liquidation_distance 4661 bps",
        {**PERPS, "liquidation_distance_bps": 4_661, "maintenance_bps": 100},
        [PERP],
        signal(200),
        relief={**PERPS, "liquidation_distance_bps": 4_660, "maintenance_bps": 100},
    ),
    Check(
        "C14",
        DenyReason.RATE_LIMIT,
        "2 orders today, orders_per_day 2",
        {"orders_per_day": 2},
        [signal(1, strategy="two"), signal(1, strategy="three")],
        relief={"orders_per_day": 3},
    ),
    Check(
        "C16",
        DenyReason.MAX_OPEN_ORDERS,
        f"1 orders of {BTC} work, max_open_orders_symbol 1",
        {"max_open_orders_symbol": 1},
        [signal(1, strategy="two")],
        relief={"max_open_orders_symbol": 2},
    ),
    Check(
        "C20",
        DenyReason.FUNDING,
        "funding of 3000001 ppb due in 600 s > 3000000 ppb",
        {**PERPS, "max_funding_ppb": 3_000_000},
        [PERP, funded(3_000_001, 600 * SECOND_NS)],
        relief={**PERPS, "max_funding_ppb": 3_000_001},
    ),
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: f"{check.id}-{check.code}")
def test_C1_to_C22_a_check_names_its_value_and_its_bound(check: Check) -> None:
    denial = only(say(risk_gate(*check.before, known=check.known, **check.bounds), check.wish), m.OrderDenied)
    assert denial.reason is check.code
    assert check.detail in denial.detail


@pytest.mark.parametrize("check", [check for check in CHECKS if check.relief is not None], ids=lambda check: check.code)
def test_at_its_bound_the_same_is_let_through(check: Check) -> None:
    assert check.relief is not None
    ordered(say(risk_gate(*check.before, known=check.known, **check.relief), check.wish))


BY_STORY = {
    DenyReason.NOT_RECONCILED,
    DenyReason.ACCOUNT_STALE,
    DenyReason.SELF_CROSS,
    DenyReason.DUPLICATE_INTENT,
    DenyReason.UNKNOWN_OUTSTANDING,
    DenyReason.REPEAT_THROTTLE,
    DenyReason.REJECT_RATIO,
    DenyReason.OTR,
    DenyReason.MAX_TRADES,
    DenyReason.MAX_TURNOVER,
    DenyReason.RAMP,
}
"""Those that have a test of their own below."""


def test_every_reason_has_its_refusal() -> None:
    shown = {row[0] for row in REFUSALS} | {check.code for check in CHECKS}
    assert shown | BY_STORY == set(DenyReason)
    assert not shown & BY_STORY


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_R8_an_exit_passes_every_check_on_growth(check: Check) -> None:
    is_perp = PERP in check.before
    known = recovered(held={"one": {BTC: 500}}, costs={BTC: 50_000 * ATOMS}) if is_perp else owner(50)
    gate = risk_gate(*check.before, known=known, **{**check.bounds, "orders_per_day": 0})
    assert ordered(say(gate, at(signal(0), gate._now_ns - NOW_NS))).side is Side.SELL


# --- C3: reconciled


def live_gate(*after: m.AnyMessage, **bounds: Any) -> RiskGate:
    gate = RiskGate(limits(**bounds), reconciles=("spot",))
    say(gate, owner(10), listed(), quote(), *after)
    return gate


def test_C3_nothing_grows_before_our_books_were_equal_to_the_exchange_s() -> None:
    wrong = compared(m.Difference(kind="cash", name="spot", ours=1, theirs=2))
    for before in ([], [wrong], [compared(wallet="futures")]):
        gate = live_gate(*before)
        assert refused(say(gate, signal(20))) is DenyReason.NOT_RECONCILED
        ordered(say(gate, signal(5)))
    ordered(say(live_gate(compared()), signal(20)))


def test_C3_a_lost_private_stream_asks_for_a_new_comparison() -> None:
    gate = live_gate(compared(), unwell(Condition.PRIVATE_STREAM))
    assert refused(say(gate, signal(20))) is DenyReason.NOT_RECONCILED
    say(gate, unwell(Condition.PRIVATE_STREAM, is_well=True))
    assert say(gate, signal(20)) == []  # as before: said once
    say(gate, compared())
    ordered(say(gate, signal(20)))


def test_C3_R6_an_old_look_at_the_account_is_none() -> None:
    gate = live_gate(compared(), at(quote(), 31 * SECOND_NS), account_stale_ns=30 * SECOND_NS)
    assert refused(say(gate, signal(20, at_ns=NOW_NS + 31 * SECOND_NS))) is DenyReason.ACCOUNT_STALE
    say(gate, compared(after_ns=31 * SECOND_NS))
    ordered(say(gate, signal(20, at_ns=NOW_NS + 31 * SECOND_NS)))


def test_on_paper_nothing_is_reconciled() -> None:
    ordered(say(risk_gate(unwell(Condition.PRIVATE_STREAM), account_stale_ns=SECOND_NS), signal(10)))


# --- C10, C11: orders that look like a mistake


def test_C10_an_order_far_larger_than_usual_is_refused_once_there_is_a_usual() -> None:
    gate = risk_gate(max_order_multiple=10)
    for lots in (1, 2, 3, 4):
        traded(gate, lots)
    traded(gate, 30)  # four orders say nothing yet
    traded(gate, 0)
    denial = only(say(gate, signal(11)), m.OrderDenied)
    assert denial.reason is DenyReason.MAX_ORDER_QTY
    assert "quantity 11 > 10 x 1, the median of the last orders" in denial.detail
    ordered(say(gate, signal(10)))


@pytest.mark.parametrize(("own_ticks", "is_refused"), [(101, True), (102, False)])
def test_F26_C11_an_order_that_would_meet_our_own_is_refused(own_ticks: int, is_refused: bool) -> None:
    known = recovered(cash=9_000, held={"two": {BTC: 10}})
    gate = risk_gate(quote(99, own_ticks), known=known, forbids_self_cross=True)
    resting = ordered(say(gate, signal(0, strategy="two", is_passive=True)))
    assert resting.price_ticks == own_ticks
    said = say(gate, quote(99, 101), signal(10))
    assert [denial.reason for denial in all_of(said, m.OrderDenied)] == [DenyReason.SELF_CROSS] * is_refused


def test_F28_C11_the_same_order_is_not_sent_again_at_once() -> None:
    gate = risk_gate(duplicate_ns=SECOND_NS)
    first = ordered(say(gate, signal(10)))
    assert refused(say(gate, event(first, S.CANCELED), signal(10))) is DenyReason.DUPLICATE_INTENT
    ordered(say(gate, at(quote(), SECOND_NS), signal(10, at_ns=NOW_NS + SECOND_NS)))


# --- C14: messages


def test_C14_an_exit_takes_from_the_cancels_what_orders_have_used_up() -> None:
    gate = risk_gate(
        signal(20, strategy="two"), known=owner(10), orders_per_second=1, cancels_per_second=1, cancels_per_minute=9
    )
    assert refused(say(gate, signal(20))) is DenyReason.RATE_LIMIT
    ordered(say(gate, signal(5)))
    assert gate.budget.cancels.full(NOW_NS) is not None
    assert gate.budget.orders.full(NOW_NS) is not None


def test_O9_a_cancel_is_never_held_back() -> None:
    gate = risk_gate(cancels_per_second=1, cancels_per_minute=1)
    for name in ("a", "b", "c"):
        say(gate, signal(10, strategy=name, is_passive=True))
    assert len(all_of(say(gate, command("halt")), m.CancelRequested)) == 3


def test_R5_after_a_restart_the_minute_counts_as_used_up_in_live_trading() -> None:
    gate = RiskGate(limits(orders_per_minute=3), reconciles=("spot",))
    say(gate, owner(10, epoch=2), listed(), quote(), compared())
    assert refused(say(gate, signal(20))) is DenyReason.RATE_LIMIT
    minute_ns = 60 * SECOND_NS
    ordered(say(gate, at(quote(), minute_ns), signal(20, at_ns=NOW_NS + minute_ns)))


def test_C14_the_day_s_count_begins_anew_at_midnight() -> None:
    gate = risk_gate(orders_per_day=1)
    traded(gate, 10)
    assert refused(say(gate, signal(20))) is DenyReason.RATE_LIMIT
    tomorrow_ns = (NOW_NS // DAY_NS + 1) * DAY_NS
    ordered(say(gate, quote(at_ns=tomorrow_ns), signal(20, at_ns=tomorrow_ns)))


# --- C15: going round in circles


def circling(rounds: int, **bounds: Any) -> RiskGate:
    """Return a gate whose strategy bought `rounds` times without ever selling."""
    gate = risk_gate(listed(), known=owner(10), **{"max_repeats": 3, **bounds})
    for count in range(rounds):
        traded(gate, 11 + count)
    return gate


def test_F28_C15_a_strategy_that_trades_one_way_again_and_again_is_halted_until_somebody_looks() -> None:
    said = say(circling(3), signal(20))
    assert refused(said) is DenyReason.REPEAT_THROTTLE
    change = only(said, m.RiskStateChanged)
    assert (change.state, change.cause, change.scope) == (RiskState.HALTED, "repeats", "strategy:one")
    gate = circling(3)
    say(gate, signal(20))
    assert refused(say(gate, signal(21))) is DenyReason.HALTED
    ordered(say(gate, signal(1, strategy="two")))
    say(gate, m.OperatorCommand(ts_ns=NOW_NS, verb="rearm", command_id="", subject="repeats@strategy:one", who="me"))
    ordered(say(gate, signal(22)))


def test_C15_a_position_that_changes_its_sign_is_no_circle() -> None:
    gate = risk_gate(max_repeats=3)
    for _ in range(5):
        traded(gate, 10)
        traded(gate, 0)
    ordered(say(gate, signal(10)))


def test_C15_repetitions_are_forgotten_after_ten_minutes() -> None:
    gate = circling(3)
    later_ns = NOW_NS + 600 * SECOND_NS
    ordered(say(gate, quote(at_ns=later_ns), signal(20, at_ns=later_ns)))


# --- C17: unknown orders


def doubted(gate: RiskGate, *symbols: str) -> list[OrderIntent]:
    """Let an order through in each symbol, whose answer is lost."""
    intents: list[OrderIntent] = []
    for number, symbol in enumerate(symbols):
        say(gate, listed(symbol), quote(symbol=symbol))
        intents.append(ordered(say(gate, signal(5, symbol=symbol, strategy=f"s{number}"))))
        say(gate, event(intents[-1], S.UNKNOWN))
    return intents


def test_C17_nothing_grows_in_a_symbol_with_an_order_of_which_nobody_knows() -> None:
    gate = risk_gate(known=owner(10), max_unknown_orders=2)
    (intent,) = doubted(gate, BTC)
    denial = only(say(gate, signal(20)), m.OrderDenied)
    assert (denial.reason, denial.detail) == (
        DenyReason.UNKNOWN_OUTSTANDING,
        f"{BTC}: resolve {intent.client_id} first",
    )
    ordered(say(gate, signal(5)))
    say(gate, listed(ETH), quote(symbol=ETH), event(intent, S.NEW))
    ordered(say(gate, signal(20, strategy="late")))


def test_C17_nothing_grows_anywhere_while_too_many_are_unknown() -> None:
    for known, is_refused in ((2, False), (3, True)):
        gate = risk_gate(max_unknown_orders=2, max_gross_bps=10**6)
        doubted(gate, *("AAA_USDT", "BBB_USDT", "CCC_USDT")[:known])
        said = say(gate, signal(10))
        assert len(all_of(said, m.OrderDenied)) == is_refused


def test_an_unknown_order_keeps_its_whole_reservation() -> None:
    gate = risk_gate(collar_bps=200)
    (intent,) = doubted(gate, BTC)
    before = gate.account.free_atoms
    say(gate, tick(NOW_NS + 3_600 * SECOND_NS))
    assert before == gate.account.free_atoms == 10_000 * ATOMS - intent.reserved_atoms
    say(gate, event(intent, S.NEVER_ACCEPTED))
    assert gate.account.free_atoms == 10_000 * ATOMS


# --- C18: what the exchange refuses


def rejected(gate: RiskGate, target: int, reason: str, **changes: Any) -> list[m.AnyMessage]:
    intent = ordered(say(gate, signal(target, **changes)))
    return say(gate, msgspec.structs.replace(event(intent, S.REJECTED), reason=reason))


def test_F30_what_was_refused_twice_for_one_reason_is_not_asked_a_third_time() -> None:
    gate = risk_gate(max_reject_bps=2_000)
    rejected(gate, 10, "21322")
    rejected(gate, 10, "21322")
    denial = only(say(gate, signal(10)), m.OrderDenied)
    assert (denial.reason, "refused 2 in a row: 21322" in denial.detail) == (DenyReason.REJECT_RATIO, True)
    ordered(say(gate, signal(11)))  # something else was decided


def test_F30_two_different_refusals_say_nothing() -> None:
    gate = risk_gate(max_reject_bps=2_000)
    rejected(gate, 10, "21322")
    rejected(gate, 10, "21330")
    ordered(say(gate, signal(10)))


def test_F69_an_exit_that_was_refused_twice_waits_a_minute() -> None:
    gate = risk_gate(known=owner(10), max_reject_bps=2_000)
    rejected(gate, 0, "21002")
    rejected(gate, 0, "21002")
    assert refused(say(gate, signal(0))) is DenyReason.REJECT_RATIO
    later_ns = NOW_NS + 60 * SECOND_NS
    ordered(say(gate, quote(at_ns=later_ns), signal(0, at_ns=later_ns)))


def test_what_our_own_send_port_refused_is_not_the_exchange_s_doing() -> None:
    gate = risk_gate(max_reject_bps=2_000)
    for _ in range(4):
        rejected(gate, 10, "not sent: approved 9000 ms ago, which is too long")


@pytest.mark.parametrize(("good", "is_refused"), [(39, True), (40, False)])
def test_C18_too_many_refusals_of_the_last_five_minutes(good: int, is_refused: bool) -> None:
    gate = risk_gate(known=owner(10), max_reject_bps=2_000, **WIDE)
    for count in range(good):
        traded(gate, 9 - count % 2)
    for count in range(10):
        rejected(gate, 11, str(count))
    said = say(gate, signal(20))
    assert [denial.reason for denial in all_of(said, m.OrderDenied)] == [DenyReason.REJECT_RATIO] * is_refused
    later_ns = NOW_NS + 300 * SECOND_NS
    ordered(say(gate, quote(at_ns=later_ns), signal(20, strategy="two", at_ns=later_ns)))


def test_C18_many_orders_for_few_trades() -> None:
    gate = risk_gate(max_orders_per_trade=3)
    for _ in range(3):
        intent = ordered(say(gate, signal(10)))
        say(gate, event(intent, S.CANCELED))
    denial = only(say(gate, signal(10)), m.OrderDenied)
    assert (denial.reason, "3 orders for 0 trades in 5 min" in denial.detail) == (DenyReason.OTR, True)


# --- C19: the day


def test_C19_trades_of_a_day() -> None:
    gate = risk_gate(max_trades=2)
    traded(gate, 10)
    traded(gate, 0)
    assert refused(say(gate, signal(10))) is DenyReason.MAX_TRADES
    tomorrow_ns = (NOW_NS // DAY_NS + 1) * DAY_NS
    ordered(say(gate, quote(at_ns=tomorrow_ns), signal(10, at_ns=tomorrow_ns)))


def test_C19_turnover_of_a_day() -> None:
    gate = risk_gate(max_turnover_bps=3_000)
    traded(gate, 10)
    traded(gate, 0)
    assert refused(say(gate, signal(10))) is DenyReason.MAX_TURNOVER  # 2,000 and 1,040 of 10,000
    ordered(say(gate, signal(9)))


# --- C22: the ramp


@pytest.mark.parametrize(("after_ns", "is_refused"), [(0, True), (SECOND_NS, False)])
def test_C22_bounds_on_value_are_smaller_for_a_while(after_ns: int, is_refused: bool) -> None:
    bounds = limits(max_order_value_atoms=4_000 * ATOMS, ramp_bps=2_500)
    gate = RiskGate(bounds, ramp_until_ns=NOW_NS + SECOND_NS)
    say(gate, recovered(), listed(), quote(at_ns=NOW_NS + after_ns))
    said = say(gate, signal(10, at_ns=NOW_NS + after_ns))
    assert [denial.reason for denial in all_of(said, m.OrderDenied)] == [DenyReason.RAMP] * is_refused


# --- several at once


def test_a_refusal_names_the_other_codes_too() -> None:
    gate = risk_gate(max_order_value_atoms=ATOMS, max_position_bps=1, max_gross_bps=1)
    denial = only(say(gate, signal(10)), m.OrderDenied)
    assert denial.reason is DenyReason.MAX_ORDER_VALUE
    assert denial.detail.endswith("; also: MAX_POSITION, MAX_GROSS")
    lost = m.BookLost(ts_ns=NOW_NS, symbol=BTC, reason="")
    blind = only(say(risk_gate(), command("halt"), lost, signal(10)), m.OrderDenied)
    assert (blind.reason, blind.detail.endswith("; also: MARKET_DATA_STALE")) == (DenyReason.HALTED, True)


# --- wallets


def wallets(cash: int, futures: int) -> m.Recovered:
    return recovered(cash=cash, futures_cash_atoms=futures * ATOMS)


def test_spot_buys_leave_the_futures_wallet_alone() -> None:
    gate = risk_gate(known=wallets(2_000, 1_000), **WIDE)
    assert refused(say(gate, signal(10))) is DenyReason.INSUFFICIENT_FUNDS  # 1,040 > 1,000
    ordered(say(gate, signal(9)))


def test_perpetuals_are_margined_by_the_futures_wallet_and_their_open_profit() -> None:
    known = msgspec.structs.replace(wallets(2_000, 1_000), holdings={"one": {BTC: 5 * ATOMS}}, costs={BTC: 400 * ATOMS})
    gate = risk_gate(PERP, known=known, **WIDE)
    assert gate.account.equity_atoms == 2_100 * ATOMS
    assert gate.account.margin_atoms == 1_100 * ATOMS
    assert refused(say(gate, signal(11))) is DenyReason.INSUFFICIENT_FUNDS  # 500 and 6 x 104 are 1,124
    ordered(say(gate, signal(10)))


def test_a_deposit_is_cash_of_its_wallet() -> None:
    gate = risk_gate(known=wallets(2_000, 1_000))
    each: tuple[m.Wallet, ...] = ("spot", "futures")
    for wallet in each:
        flow = m.ExternalFlow(ts_ns=NOW_NS, wallet=wallet, currency="USDT", atoms=500 * ATOMS, reason="deposit")
        say(gate, flow, msgspec.structs.replace(flow, currency="BTC"))
    assert (gate.account.cash_atoms, gate.account.futures_cash_atoms) == (3_000 * ATOMS, 1_500 * ATOMS)
    assert gate.account.free_atoms == 1_500 * ATOMS
    assert gate.account.equity_atoms == 3_000 * ATOMS


# --- the send port


def sender(*after: m.AnyMessage) -> tuple[RiskGate, Approvals]:
    approvals = Approvals(SECOND_NS)
    gate = RiskGate(limits(), approvals)
    say(gate, owner(10), listed(), quote(), *after)
    return gate, approvals


def test_O6_what_is_let_through_may_be_sent_once_and_in_time() -> None:
    gate, approvals = sender()
    intent = ordered(say(gate, signal(20)))
    assert approvals.take(intent, NOW_NS) == ""
    assert approvals.take(intent, NOW_NS) == "not approved, or no longer"


def test_F29_an_approval_that_waited_too_long_is_none() -> None:
    gate, approvals = sender()
    intent = ordered(say(gate, signal(20)))
    assert "too long" in approvals.take(intent, NOW_NS + SECOND_NS + 1)


@pytest.mark.parametrize(
    ("verb", "target", "is_kept"), [("halt", 20, False), ("reduce", 20, False), ("reduce", 5, True), ("halt", 5, False)]
)
def test_R3_a_trip_takes_back_what_was_not_sent_yet(verb: m.OperatorVerb, target: int, is_kept: bool) -> None:
    gate, approvals = sender()
    intent = ordered(say(gate, signal(target)))
    say(gate, command(verb))
    assert (approvals.take(intent, NOW_NS) == "") is is_kept


# --- bounds and ceilings


def test_F103_R7_every_bound_has_a_finite_ceiling_and_no_settings_go_above_it() -> None:
    fields = set(Limits.__struct_fields__)
    assert set(CEILINGS) | LOOSE == fields
    assert all(isinstance(value, int) and 0 < value < 10**30 for value in CEILINGS.values())
    sets = [f"risk.{key}={value}" for key, value in LARGEST.items()]
    made = limits_of(load_settings([], {}, sets).risk, (BTC,), leverage=5)
    assert above_ceiling(made) == []
    below = [name for name, ceiling in CEILINGS.items() if getattr(made, name) < ceiling and name not in LARGEST_LESS]
    assert below == []


LARGEST = {
    "max_order_value": 10**9,
    "max_position_pct": 100,
    "max_gross_pct": 100,
    "collar_pct": 5,
    "stale_ms": 60_000,
    "intent_ttl_ms": 60_000,
    "orders_per_second": 50,
    "orders_per_minute": 3_000,
    "max_open_orders": 200,
    "passive_ttl_s": 3_600,
    "daily_loss_pct": "99.99",
    "daily_loss_halt_pct": 100,
    "drawdown_pct": "99.99",
    "drawdown_halt_pct": 100,
    "mark_stale_ms": 60_000,
    "account_stale_s": 600,
    "notional_headroom_pct": 10,
    "passive_collar_pct": 50,
    "market_slippage_pct": 3,
    "depth_share_pct": 50,
    "max_order_pct": 25,
    "max_order_multiple": 100,
    "duplicate_ms": 60_000,
    "fee_headroom_pct": 10,
    "margin_buffer_pct": 100,
    "max_net_pct": 100,
    "max_strategy_pct": 100,
    "max_group_pct": 100,
    "max_leverage": 5,
    "liquidation_distance_pct": 100,
    "maintenance_pct": 50,
    "max_funding_pct": 5,
    "orders_per_day": 1_000_000,
    "cancels_per_second": 50,
    "cancels_per_minute": 3_000,
    "max_open_orders_symbol": 200,
    "max_unknown_orders": 10,
    "max_repeats": 1_000,
    "max_orders_per_trade": 1_000,
    "max_reject_pct": 100,
    "max_trades_per_day": 100_000,
    "max_turnover": 10_000,
    "ramp_pct": 100,
}
"""The largest value that the settings take, of every number in [risk]."""
LARGEST_LESS = {"daily_loss_bps", "drawdown_bps"}
"""Bounds that another one keeps below."""


def test_F109_we_stop_long_before_the_exchange_s_bound_on_open_orders() -> None:
    assert 10 * CEILINGS["max_open_orders"] <= OPEN_ORDERS_MAX
    gate = risk_gate(max_open_orders=1)
    ordered(say(gate, signal(1)))
    assert refused(say(gate, signal(1, strategy="two"))) is DenyReason.MAX_OPEN_ORDERS


def test_a_bound_above_its_ceiling_is_named() -> None:
    sound = limits_of(load_settings([], {}, []).risk, (BTC,))
    above = msgspec.structs.replace(sound, max_order_bps=2_501)
    below = msgspec.structs.replace(sound, max_order_bps=-1)
    assert above_ceiling(sound) == []
    assert above_ceiling(above) == ["max_order_bps is 2501, its ceiling is 2500"]
    assert above_ceiling(below) == ["max_order_bps is -1, its ceiling is 2500"]


def test_a_share_too_small_for_a_basis_point_does_not_switch_its_check_off() -> None:
    risk = load_settings([], {}, ["risk.max_net_pct=0.001", "risk.max_strategy_pct=0"]).risk
    made = limits_of(risk, (BTC,))
    assert (made.max_net_bps, made.max_strategy_bps) == (1, 0)


def test_the_settings_name_symbols_groups_and_quantities() -> None:
    sets = [
        'risk.groups=["majors=BTC_USDT,ETH_USDT"]',
        'risk.max_order_qty=["BTC_USDT=0.5"]',
    ]
    risk = load_settings([], {}, sets).risk
    made = limits_of(risk, (BTC, ETH))
    assert made.groups == {BTC: "majors", ETH: "majors"}
    assert made.max_order_base_atoms == {BTC: int(Decimal("0.5") * ATOMS)}
    assert made.allowed == (BTC, ETH)


def test_research_knows_none_of_the_checks_of_trading() -> None:
    made = research_limits_of(load_settings([], {}, []).risk)
    off = Limits(**{name: getattr(made, name) for name in Limits.__struct_fields__[:15]})
    assert made == off
    assert len(RULES) > 30


@pytest.mark.parametrize("code", DenyReason)
def test_the_manual_lists_every_code(code: DenyReason) -> None:
    assert f"`{code}`" in (DOCS / "risk.md").read_text("utf-8")


@pytest.mark.parametrize("key", RiskSettings.__struct_fields__)
def test_the_manuals_list_every_key(key: str) -> None:
    assert any(f"`{key}`" in (DOCS / name).read_text("utf-8") for name in ("risk.md", "breakers.md"))


def test_F70_a_buy_for_an_amount_reserves_the_amount() -> None:
    gate = risk_gate(collar_bps=200)
    intent = ordered(say(gate, signal(10, amount_atoms=1_000 * ATOMS, number=1)))
    assert (intent.amount_atoms, intent.reserved_atoms, intent.qty_lots) == (1_000 * ATOMS, 1_000 * ATOMS, 20)
