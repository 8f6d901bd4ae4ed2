"""The gate's test of itself before live trading: one bad order for each check, through a gate with the real bounds.

A check that the settings switch off is not asked for. Prices are made up, in steps so small that a sound order is worth
twice the exchange's minimum; the quantities' steps and the minimums are the exchange's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import msgspec

from bot.core import messages as m
from bot.core.instrument import ATOM_SCALE, Instrument, Side
from bot.core.messages import SECOND_NS, DenyReason
from bot.core.orders import OrderIntent, OrderRecord, OrderState, client_id
from bot.core.risk.gate import RiskGate
from bot.core.risk.limits import NO_RAMP_BPS, Limits, above_ceiling
from bot.core.risk.pace import ALIKE, REJECTS_LEAST

START_NS: Final = 20_000 * 86_400 * SECOND_NS + 3_600 * SECOND_NS
"""An hour into some day, so that none of the times below is another day."""
TICKS_MIN: Final = 100_000
DEEP: Final = 10**30
"""Lots at the touch that no order empties."""
RICH: Final = 10**9
"""Equity in sound orders, where money must not be what is wrong."""
OWN: Final = "self-test"
Trial = tuple[DenyReason, str, Callable[["_Bench"], Iterable[m.AnyMessage]]]
"""The code expected, what is wrong with the order, and what the gate is told; the last message is the wish."""


def self_test(limits: Limits, instruments: Iterable[Instrument]) -> list[str]:
    """Return what is wrong with a gate of these bounds; empty if it is sound.

    That is each check that let its bad order pass, each bound above its ceiling, and each kind of market in which no
    order could pass.
    """
    wrong = above_ceiling(limits)
    for kind in _one_of_each_kind(instruments):
        sound = _Bench(limits, kind)
        refused = sound.codes([*sound.ready(), sound.wish()])
        if refused:
            wrong.append(f"{kind.symbol}: {', '.join(sorted(refused))} against an order of twice the smallest value")
            continue
        for code, what, trial in _trials(limits, kind):
            bench = _Bench(limits, kind)
            codes = bench.codes(trial(bench))
            if code not in codes:
                wrong.append(f"{kind.symbol}: {code} let pass {what}")
    return wrong


def _one_of_each_kind(instruments: Iterable[Instrument]) -> Iterator[Instrument]:
    """Return one spot market and one perpetual: a rule looks at no other difference."""
    seen: set[bool] = set()
    for instrument in instruments:
        if instrument.is_perp not in seen:
            seen.add(instrument.is_perp)
            scale = ATOM_SCALE - instrument.quantity_scale
            yield msgspec.structs.replace(instrument, is_open=True, is_post_only=False, price_scale=scale)


class _Bench:
    """A fresh gate, and the messages that make it ready."""

    def __init__(self, limits: Limits, instrument: Instrument) -> None:
        self.limits, self.instrument = limits, instrument
        self.lots = max(instrument.qty_lots_min, 1)
        """Of a sound order."""
        unit = instrument.notional_atoms(1, self.lots)
        self.mid = max(-(-2 * instrument.notional_atoms_min // unit), TICKS_MIN)
        """In ticks, so that a basis point is some."""
        self.value = unit * self.mid
        self.gate = RiskGate(limits)

    def replaced(self, gate: RiskGate) -> None:
        self.gate = gate

    def codes(self, messages: Iterable[m.AnyMessage]) -> set[str]:
        """Return every code that the gate names in its answers to `messages`."""
        found: set[str] = set()
        for message in messages:
            for said in self.gate.handle(message):
                if isinstance(said, m.OrderDenied):
                    _, _, also = said.detail.partition("; also: ")
                    found |= {said.reason, *(also.split(", ") if also else ())}
        return found

    def away(self, bps: int) -> int:
        """Return a distance from the middle, in ticks, of at least `bps`."""
        return -(-self.mid * bps // 10_000)

    def ready(self, equity: int | None = None, *, after_ns: int = 0, **recovered: object) -> list[m.AnyMessage]:
        """Return a session, the market and its prices. `equity` is in atoms, None for plenty."""
        known = m.Recovered(
            ts_ns=START_NS,
            epoch=1,
            quote=self.instrument.quote,
            cash_atoms=RICH * self.value if equity is None else equity,
            holdings={},
            orders=(),
            risk_state=m.RiskState.NORMAL,
            risk_cause="",
            equity=None,
        )
        listed = m.InstrumentListed(ts_ns=START_NS, instrument=self.instrument)
        return [msgspec.structs.replace(known, **recovered), listed, *self.prices(after_ns)]

    def prices(self, after_ns: int = 0, spread: int = 1, lots: int = DEEP) -> list[m.AnyMessage]:
        """Return a mark and a quote."""
        bid, ask = self.mid - spread, self.mid + spread
        symbol, ts_ns = self.instrument.symbol, START_NS + after_ns
        quote = m.Quote(
            ts_ns=ts_ns,
            symbol=symbol,
            bid_ticks=bid,
            bid_lots=lots,
            ask_ticks=ask,
            ask_lots=lots,
            bids=((bid, lots),),
            asks=((ask, lots),),
        )
        return [m.MarkPrice(ts_ns=ts_ns, symbol=symbol, price_ticks=self.mid), quote]

    def wish(self, lots: int | None = None, after_ns: int = 0, strategy: str = OWN, **changes: object) -> m.Signal:
        """Return a wish for a sound position, or another one."""
        made = m.Signal(
            ts_ns=START_NS + after_ns,
            strategy=strategy,
            symbol=self.instrument.symbol,
            target_lots=self.lots if lots is None else lots,
            price_ticks=self.mid,
            is_passive=False,
        )
        return msgspec.structs.replace(made, **changes)

    def order(self, number: int, state: OrderState = OrderState.NEW, strategy: str = "other") -> OrderRecord:
        """Return a living order of ours that sells above the market."""
        intent = OrderIntent(
            client_id=client_id(1, 1_000_000 + number),
            strategy=strategy,
            symbol=self.instrument.symbol,
            side=Side.SELL,
            order_type="LIMIT",
            time_in_force="GTC",
            qty_lots=self.lots,
            price_ticks=self.mid + 1,
            reserved_atoms=0,
        )
        return OrderRecord(intent=intent, state=state, filled_lots=0, submitted_ns=START_NS)

    def fill(self, number: int, lots: int, held_lots: int) -> m.FillBooked:
        """Return a buy of a strategy that holds `held_lots` after it."""
        fill = m.Fill(
            ts_ns=START_NS,
            client_id=client_id(1, 2_000_000 + number),
            symbol=self.instrument.symbol,
            trade_id=str(number),
            order_id="",
            side=Side.BUY,
            price_ticks=self.mid,
            qty_lots=lots,
            fee_atoms=0,
            is_maker=False,
        )
        atoms = held_lots * self.instrument.base_atoms_per_lot
        cash_atoms = self.gate.account.cash_atoms
        return m.FillBooked(ts_ns=START_NS, fill=fill, strategy=OWN, strategy_atoms=atoms, cash_atoms=cash_atoms)


def _trials(limits: Limits, instrument: Instrument) -> Iterator[Trial]:
    yield from _trials_of_state(limits)
    yield from _trials_of_price(limits)
    yield from _trials_of_size(limits, instrument)
    yield from _trials_of_pace(limits)
    if instrument.is_perp:
        yield from _trials_of_perpetuals(limits)


def _trials_of_state(limits: Limits) -> Iterator[Trial]:
    R = DenyReason  # noqa: N806 - short, for the columns below
    halt = m.OperatorCommand(ts_ns=START_NS, verb="halt", command_id="")
    reduce = m.OperatorCommand(ts_ns=START_NS, verb="reduce", command_id="")
    yield R.INVALID_INTENT, "a price below 0", lambda b: [*b.ready(), b.wish(limit_ticks=-1)]
    yield R.HALTED, "an order while halted", lambda b: [*b.ready(), halt, b.wish()]
    yield R.REDUCE_ONLY, "growth while reduce-only", lambda b: [*b.ready(), reduce, b.wish()]
    yield R.NOT_LISTED, "an order in a closed market", lambda b: [*b.ready(), _listed(b, is_open=False), b.wish()]
    yield R.SYMBOL_MODE, "a taker in post-only mode", lambda b: [*b.ready(), _listed(b, is_post_only=True), b.wish()]
    yield R.NOT_RECONCILED, "growth before the books were compared", _before_the_books
    yield R.ACCOUNT_MODE, "growth in a wrong account mode", lambda b: [*b.ready(), _wrong_mode(), b.wish()]
    yield R.MARKET_DATA_STALE, "an order without a book", lambda b: [*b.ready()[:2], b.wish()]
    late_ns = limits.stale_ns + 1
    yield R.MARKET_DATA_STALE, "an order on an old book", lambda b: [*b.ready(), b.wish(after_ns=late_ns)]
    ttl_ns = limits.intent_ttl_ns + 1
    yield R.INTENT_EXPIRED, "an old decision", lambda b: [*b.ready(after_ns=ttl_ns), b.wish()]
    if limits.allowed is not None:
        yield R.NOT_ALLOWED, "a symbol that is not on the list", _unlisted
    if limits.account_stale_ns:
        yield R.ACCOUNT_STALE, "growth on an old look at the account", _after_the_books


def _listed(bench: _Bench, **changes: object) -> m.InstrumentListed:
    return m.InstrumentListed(ts_ns=START_NS, instrument=msgspec.structs.replace(bench.instrument, **changes))


def _wrong_mode() -> m.HealthReported:
    return m.HealthReported(ts_ns=START_NS, condition=m.Condition.ACCOUNT_MODE, is_well=False)


def _unlisted(bench: _Bench) -> list[m.AnyMessage]:
    bench.instrument = msgspec.structs.replace(bench.instrument, symbol="SELF_TEST")
    return [*bench.ready(), bench.wish()]


def _before_the_books(bench: _Bench) -> list[m.AnyMessage]:
    bench.replaced(RiskGate(bench.limits, reconciles=("spot",)))
    return [*bench.ready(), bench.wish()]


def _after_the_books(bench: _Bench) -> list[m.AnyMessage]:
    bench.replaced(RiskGate(bench.limits, reconciles=("spot",)))
    late_ns = bench.limits.account_stale_ns + 1
    equal = m.AccountCompared(ts_ns=START_NS, market="spot", differences=())
    return [*bench.ready(), equal, *bench.prices(late_ns), bench.wish(after_ns=late_ns)]


def _trials_of_price(limits: Limits) -> Iterator[Trial]:
    R = DenyReason  # noqa: N806
    dear = limits.collar_bps + 1
    yield (
        R.PRICE_COLLAR,
        "a price far from the middle",
        lambda b: [*b.ready(), *b.prices(spread=b.away(dear)), b.wish()],
    )
    if limits.passive_collar_bps:
        cheap = limits.passive_collar_bps + 1
        yield (
            R.PRICE_COLLAR,
            "a limit far below the middle",
            lambda b: [*b.ready(), b.wish(limit_ticks=b.mid - b.away(cheap))],
        )
    if limits.market_slippage_bps:
        slips = limits.market_slippage_bps + 1
        yield R.SLIPPAGE, "a dear market order", lambda b: [*b.ready(), *b.prices(spread=b.away(slips)), b.wish()]
    if limits.depth_share_bps:
        yield R.DEPTH, "more than the book has", lambda b: [*b.ready(), *b.prices(lots=b.lots), b.wish()]
    yield R.MIN_QTY, "less than the smallest quantity", lambda b: _with(b, qty_lots_min=b.lots + 1)
    yield R.MIN_NOTIONAL, "less than the smallest value", lambda b: _with(b, notional_atoms_min=2 * b.value)
    yield (
        R.MAX_QTY,
        "more than the largest quantity",
        lambda b: [*b.ready(), _listed(b, market_lots_max=b.lots), b.wish(b.lots + 1)],
    )
    yield R.MAX_QTY, "more than the largest value", lambda b: _with(b, notional_atoms_max=b.value // 2)


def _with(bench: _Bench, **changes: object) -> list[m.AnyMessage]:
    """Return a sound order in a market with other bounds."""
    bench.instrument = msgspec.structs.replace(bench.instrument, **changes)
    return [*bench.ready(), bench.wish()]


def _trials_of_size(limits: Limits, instrument: Instrument) -> Iterator[Trial]:
    R = DenyReason  # noqa: N806
    yield R.MAX_ORDER_VALUE, "an order of too much value", lambda b: [*b.ready(), b.wish(_lots_worth_more(b))]
    shares = [(R.MAX_POSITION, True), (R.MAX_GROSS, True), (R.INSUFFICIENT_FUNDS, True)]
    shares += [(R.MAX_ORDER_VALUE, limits.max_order_bps > 0), (R.MAX_NET, limits.max_net_bps > 0)]
    shares += [(R.MAX_STRATEGY, limits.max_strategy_bps > 0)]
    shares += [(R.MAX_GROUP, limits.max_group_bps > 0 and instrument.symbol in limits.groups)]
    for code, is_on in shares:
        if is_on:
            yield code, "more than the account is worth", lambda b: [*b.ready(b.value // 10), b.wish()]
    if limits.ramp_bps < NO_RAMP_BPS:
        yield R.RAMP, "a large order of a new version", _ramped
    if instrument.symbol in limits.max_order_base_atoms:
        atoms = limits.max_order_base_atoms[instrument.symbol]
        lots = atoms // instrument.base_atoms_per_lot + 1
        yield R.MAX_ORDER_QTY, "an order of too many coins", lambda b: [*b.ready(), b.wish(lots)]
    if limits.forbids_self_cross:
        yield R.SELF_CROSS, "an order that meets our own", lambda b: [*b.ready(orders=(b.order(1),)), b.wish()]


def _lots_worth_more(bench: _Bench) -> int:
    return bench.lots * (bench.limits.max_order_value_atoms // bench.value + 1)


def _ramped(bench: _Bench) -> list[m.AnyMessage]:
    bench.replaced(RiskGate(bench.limits, ramp_until_ns=START_NS + SECOND_NS))
    return [*bench.ready(bench.value // 10), bench.wish()]


def _trials_of_pace(limits: Limits) -> Iterator[Trial]:
    R = DenyReason  # noqa: N806
    many = range(limits.max_open_orders)
    yield (
        R.MAX_OPEN_ORDERS,
        "one order too many",
        lambda b: [*b.ready(orders=tuple(b.order(number) for number in many)), b.wish()],
    )
    yield (
        R.UNKNOWN_OUTSTANDING,
        "growth beside an unknown order",
        lambda b: [*b.ready(orders=(b.order(1, OrderState.UNKNOWN),)), b.wish()],
    )
    yield R.RATE_LIMIT, "one message too many in a second", lambda b: _burst(b, b.limits.orders_per_second)
    if limits.duplicate_ns:
        yield R.DUPLICATE_INTENT, "the same order twice", _twice
    if limits.max_repeats:
        yield R.REPEAT_THROTTLE, "a strategy that goes round in circles", _circling
    if limits.max_reject_bps:
        yield R.REJECT_RATIO, "what was refused already", lambda b: _refused(b, ALIKE, lambda _: OWN)
        names = f"{OWN}-{{}}".format
        yield R.REJECT_RATIO, "an order after many refusals", lambda b: _refused(b, REJECTS_LEAST, names)
    if limits.max_trades:
        yield R.MAX_TRADES, "one trade too many today", _traded_out
    if limits.max_turnover_bps:
        yield R.MAX_TURNOVER, "a turnover too large", _turned_over


def _burst(bench: _Bench, number: int) -> Iterator[m.AnyMessage]:
    yield from bench.ready()
    for count in range(number + 1):
        yield bench.wish(strategy=f"{OWN}-{count}")
        yield from _end_all(bench, OrderState.CANCELED)  # fewer may work at a time than are sent in a second


def _twice(bench: _Bench) -> Iterator[m.AnyMessage]:
    yield from bench.ready()
    yield bench.wish()
    yield from _end_all(bench, OrderState.CANCELED)
    yield bench.wish()


def _refused(bench: _Bench, number: int, strategy: Callable[[int], str]) -> Iterator[m.AnyMessage]:
    """Let orders of these strategies be refused, and wish for one more."""
    apart_ns = max(bench.limits.duplicate_ns, SECOND_NS)
    yield from bench.ready()
    for count in range(number + 1):
        yield from bench.prices(count * apart_ns)
        yield bench.wish(after_ns=count * apart_ns, strategy=strategy(count))
        yield from _end_all(bench, OrderState.REJECTED)


def _end_all(bench: _Bench, state: OrderState) -> Iterator[m.AnyMessage]:
    for order in list(bench.gate.account.working):
        symbol = bench.instrument.symbol
        yield m.OrderEvent(ts_ns=START_NS, client_id=order, symbol=symbol, order_id="", state=state, filled_lots=0)


def _traded_out(bench: _Bench) -> Iterator[m.AnyMessage]:
    yield from bench.ready()
    held = bench.limits.max_trades * bench.lots
    for count in range(1, bench.limits.max_trades + 1):
        yield bench.fill(count, bench.lots, count * bench.lots)
    yield bench.wish(2 * held)


def _circling(bench: _Bench) -> Iterator[m.AnyMessage]:
    yield from bench.ready()
    held = bench.lots
    for count in range(bench.limits.max_repeats + 1):
        held += bench.lots
        yield bench.fill(count, bench.lots, held)
    yield bench.wish(2 * held)


def _turned_over(bench: _Bench) -> Iterator[m.AnyMessage]:
    yield from bench.ready(bench.value)
    times = bench.limits.max_turnover_bps // 10_000 + 1
    yield bench.fill(1, times * bench.lots, times * bench.lots)
    yield bench.wish(2 * times * bench.lots)


def _trials_of_perpetuals(limits: Limits) -> Iterator[Trial]:
    R = DenyReason  # noqa: N806
    if limits.mark_stale_ns:
        yield R.MARKET_DATA_STALE, "a perpetual without a mark", lambda b: [*b.ready()[:2], b.prices()[1], b.wish()]
    if limits.max_leverage_bps:
        yield R.MAX_LEVERAGE, "too much leverage", lambda b: [*b.ready(b.value // 10), b.wish()]
    if limits.liquidation_distance_bps:
        yield R.LIQ_DISTANCE, "a position near its liquidation", lambda b: [*b.ready(b.value // 10), b.wish()]
    if limits.max_funding_ppb:
        yield R.FUNDING, "a position that is about to pay", _about_to_pay


def _about_to_pay(bench: _Bench) -> list[m.AnyMessage]:
    rate = m.FundingRate(
        ts_ns=START_NS,
        symbol=bench.instrument.symbol,
        rate_ppb=bench.limits.max_funding_ppb + 1,
        due_ns=START_NS + SECOND_NS,
    )
    return [*bench.ready(), rate, bench.wish()]
