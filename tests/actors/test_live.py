"""The live executor against the simulated exchange, over real sockets, with things going wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

import actors.live
from actors.clock import WallClock
from actors.live import LiveAccess, run_live
from actors.mailbox import Office
from bot.core import messages as m
from bot.core.approvals import Approvals
from bot.core.flow import Stage
from bot.core.instrument import ATOMS, Instrument, Side
from bot.core.orders import OrderIntent, OrderRecord, OrderState, client_id
from bot.core.secret import Secret
from bot.exchange.live.desk import LiveDesk
from bot.exchange.network import INTERNET
from bot.exchange.poloniex import spot_client
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.poloniex.dialects import perpetual
from bot.exchange.poloniex.futures_client import FuturesClient
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.simulated.accounts import AccountType
from bot.exchange.simulated.faults import FaultSchedule, decode_schedule
from bot.exchange.simulated.futures_instruments import generated_markets
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.server import SimulatedExchange, open_exchange
from tests.exchange.simulated.builders import BTC, START_NS
from tests.exchange.simulated.futures_builders import PERP

S = OrderState


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let careful waits be as careful as ever where it matters, and short elsewhere."""
    monkeypatch.setattr(actors.live, "SWEEP_GRACE_S", 0.1)
    monkeypatch.setattr(spot_client, "QUERY_AFTER_S", (0.1, 0.5))


def recovered(*orders: OrderRecord, ts_ns: int = START_NS, epoch: int = 1) -> m.Recovered:
    """Return what a journal says that knows some orders."""
    return m.Recovered(
        ts_ns=ts_ns,
        epoch=epoch,
        quote="USDT",
        cash_atoms=0,
        holdings={},
        orders=orders,
        risk_state=m.RiskState.NORMAL,
        risk_cause="",
        equity=None,
    )


class Listening(Office):
    """An office that remembers what the executor said."""

    def __init__(self) -> None:
        super().__init__((Stage.EXECUTOR,), is_lockstep=False)
        self.said: list[m.AnyMessage] = []

    def post(self, speaker: Stage, message: m.AnyMessage) -> None:
        self.said.append(message)


class Rig:
    """A live executor, its exchange, and what it said."""

    start: Callable[..., None]

    def __init__(self, exchange: SimulatedExchange) -> None:
        self.exchange = exchange
        self.approvals = Approvals(60 * m.SECOND_NS)
        self.office = Listening()
        self.desk = LiveDesk(self.approvals)
        self.session = trio.CancelScope()
        self.epoch = 0
        self.is_healthy = True
        self._numbers = 0
        self.instruments: dict[str, Instrument] = {}

    def post(self, message: m.AnyMessage) -> None:
        self.office.mailboxes[Stage.EXECUTOR].post(message)

    @property
    def now_ns(self) -> int:
        return self.exchange.venue.time_ns

    def intent(self, symbol: str = BTC, **changes: Any) -> OrderIntent:
        self._numbers += 1
        values: dict[str, Any] = {
            "client_id": client_id(1, self._numbers),
            "strategy": "one",
            "symbol": symbol,
            "side": Side.BUY,
            "order_type": "LIMIT",
            "time_in_force": "GTC",
            "qty_lots": 1_000 if symbol == BTC else 10,
            "price_ticks": 100,
            "reserved_atoms": 1_000 * ATOMS,
        }
        return OrderIntent(**values | changes)

    def submit(self, intent: OrderIntent) -> OrderIntent:
        self.approvals.issue(intent, self.now_ns)
        self.post(m.SubmitOrder(ts_ns=self.now_ns, intent=intent))
        return intent

    def cancel(self, intent: OrderIntent) -> None:
        self.post(m.CancelOrder(ts_ns=self.now_ns, client_id=intent.client_id))

    def events(self, intent: OrderIntent) -> list[m.OrderEvent]:
        return [e for e in self.office.said if isinstance(e, m.OrderEvent) and e.client_id == intent.client_id]

    def fills(self, intent: OrderIntent) -> list[m.Fill]:
        return [e for e in self.office.said if isinstance(e, m.Fill) and e.client_id == intent.client_id]

    def health(self, condition: m.Condition) -> list[m.HealthReported]:
        return [e for e in self.office.said if isinstance(e, m.HealthReported) and e.condition is condition]

    def seen(self, wallet: m.Wallet) -> list[m.AccountSeen]:
        return [each for each in self.office.said if isinstance(each, m.AccountSeen) and each.market == wallet]

    async def until(self, is_so: Callable[[], bool], seconds: float = 25) -> None:
        with trio.fail_after(seconds):
            while not is_so():
                await trio.sleep(0.01)

    async def state(self, intent: OrderIntent, *states: OrderState) -> None:
        await self.until(lambda: any(event.state in states for event in self.events(intent)))

    def touch(self, symbol: str = BTC) -> tuple[int, int]:
        window = self.exchange.venue.markets[symbol].book.window
        return window.bids[0][0], window.asks[0][0]


@asynccontextmanager
async def rigged(
    faults: FaultSchedule | None = None,
    *,
    wallets: tuple[m.Wallet, ...] = ("spot",),
    dead_man_s: int = 0,
    is_healthy: bool = True,
) -> AsyncGenerator[Rig]:
    source = generated_markets([BTC, PERP], 1, START_NS)
    async with open_exchange(source, speed=1.0, futures=FuturesWing) as exchange, trio.open_nursery() as nursery:
        account = exchange.clients[0]
        rig = Rig(exchange)
        rig.is_healthy = is_healthy
        async with INTERNET.open_http(
            exchange.rest_url, connect_timeout_s=5, request_timeout_s=5, user_agent="test"
        ) as http:
            rig.instruments = await PublicClient(http).instruments()
            rig.instruments[PERP] = perpetual(await FuturesClient(http).instrument(PERP))
        exchange.start()
        if faults is not None:
            exchange.inject(faults)
        access = LiveAccess(
            credentials=Credentials(Secret(account.key), Secret(account.secret)),
            rest_url=exchange.rest_url,
            private_ws_url=exchange.private_ws_url,
            futures_rest_url=exchange.rest_url,
            futures_ws_url=exchange.futures_private_ws_url,
            wallets=wallets,
            symbols=(BTC, PERP),
            user_agent="test",
            rng=lambda: 0.5,
            request_timeout_s=1.0,
            dead_man_s=dead_man_s,
        )
        clock = WallClock(START_NS)
        rig.start = lambda *orders: _start(rig, access, clock, nursery, orders)
        rig.start()

        async def tick() -> None:
            while True:
                await trio.sleep(0.1)
                rig.post(m.Tick(ts_ns=clock.now_ns()))

        nursery.start_soon(tick)
        await rig.until(lambda: any(isinstance(each, m.AccountSeen) for each in rig.office.said))
        yield rig
        nursery.cancel_scope.cancel()


def _start(
    rig: Rig, access: LiveAccess, clock: WallClock, nursery: trio.Nursery, orders: tuple[OrderRecord, ...]
) -> None:
    """Begin a session that knows of some orders; the one before it is cut off in the middle of whatever it does."""
    rig.session.cancel()
    rig.session = trio.CancelScope()
    rig.epoch += 1
    office, desk = rig.office, rig.desk = Listening(), LiveDesk(rig.approvals)
    for instrument in rig.instruments.values():
        rig.post(m.InstrumentListed(ts_ns=rig.now_ns, instrument=instrument))
    rig.post(recovered(*orders, ts_ns=rig.now_ns, epoch=rig.epoch))

    async def run(scope: trio.CancelScope) -> None:
        with scope:
            mailbox = office.mailboxes[Stage.EXECUTOR]
            await run_live(
                mailbox, office, desk, access, network=INTERNET, clock=clock, is_healthy=lambda: rig.is_healthy
            )

    nursery.start_soon(run, rig.session)


def schedule(*faults: dict[str, Any]) -> FaultSchedule:
    return decode_schedule(msgspec.json.encode(list(faults)), "test")


async def test_an_order_rests_and_is_cancelled() -> None:
    async with rigged() as rig:
        order = rig.submit(rig.intent(price_ticks=rig.touch()[0] // 2))
        await rig.state(order, S.NEW)
        rig.cancel(order)
        await rig.state(order, S.CANCELED)
        assert rig.fills(order) == []


async def test_a_market_order_is_filled_and_its_end_comes_after_its_fills() -> None:
    async with rigged() as rig:
        worst = rig.instruments[BTC].notional_atoms(rig.touch()[1] * 101 // 100, 5_000)
        order = rig.submit(
            rig.intent(order_type="MARKET", time_in_force="IOC", qty_lots=5_000, price_ticks=None, reserved_atoms=worst)
        )
        await rig.state(order, S.FILLED)
        assert sum(fill.qty_lots for fill in rig.fills(order)) == 5_000
        said = [each for each in rig.office.said if isinstance(each, m.Fill | m.OrderEvent)]
        assert isinstance(said[-1], m.OrderEvent)
        assert (said[-1].state, said[-1].filled_lots) == (S.FILLED, 5_000)


def low(rig: Rig, **changes: Any) -> OrderIntent:
    """Return a buy far below the market."""
    return rig.intent(price_ticks=rig.touch()[0] // 2, **changes)


async def test_F01_a_submit_that_never_arrived_is_never_accepted_after_its_fence() -> None:
    lost = {"kind": "lost_request", "method": "POST", "path": "/orders", "count": 1, "ends": "silence"}
    async with rigged(schedule(lost)) as rig:
        order = rig.submit(low(rig))
        await rig.state(order, S.UNKNOWN)
        await rig.state(order, S.NEVER_ACCEPTED)
        assert [event.state for event in rig.events(order)] == [S.UNKNOWN, S.NEVER_ACCEPTED]
        assert [report.is_well for report in rig.health(m.Condition.UNKNOWN_ORDER)] == [False, True]


async def test_F02_a_lost_answer_is_found_by_client_id_and_is_the_only_order() -> None:
    lost = {"kind": "lost_answer", "method": "POST", "path": "/orders", "count": 1, "ends": "silence"}
    async with rigged(schedule(lost)) as rig:
        order = rig.submit(low(rig))
        await rig.state(order, S.NEW)
        rig.cancel(order)
        await rig.state(order, S.CANCELED)
        folder = rig.exchange.spot.desk.folder(rig.exchange.clients[0])
        assert [each.client_id for each in folder.orders.values()] == [order.client_id]


async def test_F06_a_server_error_that_hid_an_order_ends_in_the_order() -> None:
    fault = {
        "kind": "server_error",
        "status": 503,
        "is_executed": True,
        "method": "POST",
        "path": "/orders",
        "count": 1,
    }
    async with rigged(schedule(fault)) as rig:
        order = rig.submit(low(rig))
        await rig.state(order, S.NEW)
        assert S.NEVER_ACCEPTED not in {event.state for event in rig.events(order)}


async def test_F07_an_order_that_was_throttled_is_rejected() -> None:
    fault = {"kind": "too_many_requests", "method": "POST", "path": "/orders", "count": 1, "retry_after_s": 1}
    async with rigged(schedule(fault)) as rig:
        order = rig.submit(low(rig))
        await rig.state(order, S.REJECTED)


async def test_F13_a_cancel_that_was_lost_is_repeated_until_the_order_has_ended() -> None:
    fault = {"kind": "lost_request", "method": "DELETE", "path": "/orders", "count": 2, "ends": "reset"}
    async with rigged(schedule(fault)) as rig:
        order = rig.submit(low(rig))
        await rig.state(order, S.NEW)
        rig.cancel(order)
        await rig.state(order, S.CANCELED)


async def test_F11_a_cancel_that_loses_to_a_fill_ends_as_filled_with_its_fills() -> None:
    async with rigged(schedule({"kind": "fill_during_cancel", "share": 1.0})) as rig:
        order = rig.submit(rig.intent(price_ticks=rig.touch()[0] - 100))
        await rig.state(order, S.NEW)
        rig.cancel(order)
        await rig.state(order, S.FILLED)
        assert sum(fill.qty_lots for fill in rig.fills(order)) == order.qty_lots


async def test_F15_a_cancel_after_a_partial_fill_ends_with_what_was_filled() -> None:
    async with rigged(schedule({"kind": "fill_during_cancel", "share": 0.5})) as rig:
        order = rig.submit(rig.intent(price_ticks=rig.touch()[0] - 100))
        await rig.state(order, S.NEW)
        rig.cancel(order)
        await rig.state(order, S.PARTIALLY_CANCELED)
        last = rig.events(order)[-1]
        assert 0 < last.filled_lots == sum(fill.qty_lots for fill in rig.fills(order)) < order.qty_lots


async def test_F55_while_the_private_stream_is_cut_the_gate_is_told() -> None:
    async with rigged(schedule({"kind": "cut", "path": "/ws/private", "at_s": 3, "for_s": 0.5})) as rig:
        await rig.until(lambda: [r.is_well for r in rig.health(m.Condition.PRIVATE_STREAM)][-2:] == [False, True])


async def test_F29_an_order_that_nobody_approved_is_not_sent() -> None:
    async with rigged() as rig:
        order = rig.intent()
        rig.post(m.SubmitOrder(ts_ns=rig.now_ns, intent=order))
        await rig.state(order, S.REJECTED)
        assert rig.events(order)[-1].reason.startswith("not sent: ")


async def test_contracts_are_traded_and_their_books_shown() -> None:
    async with rigged(wallets=("spot", "futures")) as rig:
        order = rig.submit(rig.intent(PERP, order_type="MARKET", time_in_force="IOC", qty_lots=7, price_ticks=None))
        await rig.state(order, S.FILLED)
        assert sum(fill.qty_lots for fill in rig.fills(order)) == 7
        await rig.until(lambda: {PERP: 7} in [each.positions for each in rig.seen("futures")], 40)


async def test_a_stop_on_coins_waits_at_the_exchange_and_is_cancelled_there() -> None:
    async with rigged() as rig:
        held = rig.submit(
            rig.intent(
                order_type="MARKET",
                time_in_force="IOC",
                qty_lots=5_000,
                price_ticks=None,
                reserved_atoms=rig.instruments[BTC].notional_atoms(rig.touch()[1] * 101 // 100, 5_000),
            )
        )
        await rig.state(held, S.FILLED)
        stop = rig.submit(
            rig.intent(
                side=Side.SELL,
                order_type="STOP",
                qty_lots=4_000,
                price_ticks=None,
                trigger_ticks=rig.touch()[0] // 2,
                reserved_atoms=0,
                is_reduce_only=True,
                role="stop",
            )
        )
        await rig.state(stop, S.NEW)
        assert rig.desk.has_protective
        rig.cancel(stop)
        await rig.state(stop, S.CANCELED)


async def test_a_stop_on_contracts_waits_here_and_is_sent_at_its_trigger() -> None:
    async with rigged(wallets=("spot", "futures")) as rig:
        held = rig.submit(rig.intent(PERP, order_type="MARKET", time_in_force="IOC", qty_lots=7, price_ticks=None))
        await rig.state(held, S.FILLED)
        price = rig.fills(held)[0].price_ticks
        stop = rig.submit(
            rig.intent(
                PERP,
                side=Side.SELL,
                order_type="STOP",
                qty_lots=7,
                price_ticks=None,
                trigger_ticks=price - 10,
                reserved_atoms=0,
                is_reduce_only=True,
                role="stop",
            )
        )
        await rig.state(stop, S.NEW)
        tick = m.TradeTick(
            ts_ns=rig.now_ns, symbol=PERP, trade_id="t", price_ticks=price - 11, qty_lots=1, taker_side=Side.SELL
        )
        rig.post(tick)
        await rig.state(stop, S.FILLED)
        assert sum(fill.qty_lots for fill in rig.fills(stop)) == 7


async def test_F110_the_dead_man_s_switch_is_set_while_all_is_well() -> None:
    async with rigged(dead_man_s=30) as rig:
        folder = rig.exchange.spot.smart.folder(rig.exchange.clients[0])
        await rig.until(lambda: folder.kill_switch is not None)


async def test_F110_the_dead_man_s_switch_is_not_set_by_a_bot_that_is_not_well() -> None:
    async with rigged(dead_man_s=30, is_healthy=False) as rig:
        await trio.sleep(1)
        assert rig.exchange.spot.smart.folder(rig.exchange.clients[0]).kill_switch is None


def record(intent: OrderIntent, state: OrderState, *, order_id: str = "", at_ns: int) -> OrderRecord:
    return OrderRecord(intent=intent, state=state, filled_lots=0, submitted_ns=at_ns, order_id=order_id)


async def test_F93_F77_an_order_that_was_cut_off_in_flight_is_found_by_the_next_session_and_is_the_only_one() -> None:
    slow = {
        "kind": "answer_latency",
        "method": "POST",
        "path": "/orders",
        "count": 1,
        "delay": {"shape": "fixed", "s": 9},
    }
    async with rigged(schedule(slow)) as rig:
        order = rig.submit(low(rig))
        folder = rig.exchange.spot.desk.folder(rig.exchange.clients[0])
        await rig.until(lambda: bool(folder.orders))
        rig.start(record(order, S.SUBMITTED, at_ns=rig.now_ns))
        await rig.state(order, S.NEW)
        assert [event.state for event in rig.events(order)] == [S.UNKNOWN, S.NEW]
        await rig.until(lambda: bool(rig.seen("spot")))
        assert rig.seen("spot")[-1].living == {order.client_id: order.qty_lots}
        assert not rig.health(m.Condition.FOREIGN_ORDER)
        assert len(folder.orders) == 1


async def test_F97_what_rested_before_a_restart_rests_on_and_what_ended_meanwhile_is_told() -> None:
    async with rigged() as rig:
        resting, ended = rig.submit(low(rig)), rig.submit(low(rig))
        for order in (resting, ended):
            await rig.state(order, S.NEW)
        ids = [rig.events(order)[-1].order_id for order in (resting, ended)]
        desk = rig.exchange.spot.desk
        rig.session.cancel()
        desk.cancel(desk.folder(rig.exchange.clients[0]).living[int(ids[1])])
        at_ns = rig.now_ns
        rig.start(
            *(record(each, S.NEW, order_id=i, at_ns=at_ns) for each, i in zip((resting, ended), ids, strict=True))
        )
        await rig.state(ended, S.CANCELED)
        assert rig.events(resting) == []


async def test_F25_F56_orders_of_others_are_told_apart_from_a_second_bot_s() -> None:
    async with rigged() as rig:
        mine = rig.submit(low(rig))
        await rig.state(mine, S.NEW)
        rig.start()  # with a journal that does not know the order
        await rig.until(lambda: bool(rig.health(m.Condition.FOREIGN_ORDER)))
        assert rig.health(m.Condition.FOREIGN_ORDER)[0].severity is m.RiskState.HALTED


async def test_F55_without_its_stream_the_executor_learns_from_the_list_what_ended() -> None:
    cut = {"kind": "cut", "path": "/ws/private", "at_s": 4, "for_s": 60}
    async with rigged(schedule(cut)) as rig:
        order = rig.submit(low(rig))
        await rig.state(order, S.NEW)
        await rig.until(lambda: bool(rig.health(m.Condition.PRIVATE_STREAM)))
        desk = rig.exchange.spot.desk
        desk.cancel(desk.folder(rig.exchange.clients[0]).living[int(rig.events(order)[-1].order_id)])
        await rig.state(order, S.CANCELED)
        assert not rig.health(m.Condition.PRIVATE_STREAM)[-1].is_well


async def test_F73_a_leverage_above_the_settings_is_reported_and_not_changed() -> None:
    async with rigged(wallets=("futures",)) as rig:
        await rig.until(lambda: bool(rig.health(m.Condition.ACCOUNT_MODE)))
        (report,) = rig.health(m.Condition.ACCOUNT_MODE)
        assert (report.is_well, report.scope) == (False, f"symbol:{PERP}")
        assert "leverage 20 > live.leverage 1" in report.detail


async def test_F70_an_amount_is_spent_in_the_steps_of_its_market() -> None:
    async with rigged() as rig:
        atoms = 50 * ATOMS + 123_456_789_012
        order = rig.submit(
            rig.intent(
                order_type="MARKET",
                time_in_force="IOC",
                qty_lots=100_000,
                price_ticks=None,
                amount_atoms=atoms,
                reserved_atoms=atoms,
            )
        )
        await rig.state(order, S.FILLED)
        spent = sum(rig.instruments[BTC].notional_atoms(f.price_ticks, f.qty_lots) for f in rig.fills(order))
        assert 49 * ATOMS < spent <= 50 * ATOMS


async def test_F47_answers_that_drip_or_make_no_sense_are_lived_through() -> None:
    faults = (
        {"kind": "garbage_answer", "method": "POST", "path": "/orders", "count": 1},
        {"kind": "garbage_answer", "method": "GET", "path": "/orders", "count": 2, "form": "half"},
        {"kind": "server_error", "status": 502, "method": "DELETE", "path": "/orders", "count": 1},
    )
    async with rigged(schedule(*faults)) as rig:
        order = rig.submit(low(rig))
        await rig.state(order, S.NEW)
        rig.cancel(order)
        await rig.state(order, S.CANCELED)
        assert len(rig.exchange.spot.desk.folder(rig.exchange.clients[0]).orders) == 1


async def test_a_stop_whose_coins_are_offered_elsewhere_gets_them_at_its_trigger() -> None:
    async with rigged() as rig:
        worst = rig.instruments[BTC].notional_atoms(rig.touch()[1] * 101 // 100, 5_000)
        held = rig.submit(
            rig.intent(order_type="MARKET", time_in_force="IOC", qty_lots=5_000, price_ticks=None, reserved_atoms=worst)
        )
        await rig.state(held, S.FILLED)
        free = rig.exchange.clients[0]
        coins = rig.instruments[BTC].whole_lots(free.wallet(AccountType.SPOT, "BTC").available_atoms)
        guard: dict[str, Any] = {"side": Side.SELL, "reserved_atoms": 0, "is_reduce_only": True, "qty_lots": coins}
        profit = rig.submit(rig.intent(BTC, role="profit", price_ticks=rig.touch()[1] * 2, **guard))
        await rig.state(profit, S.NEW)
        stop = rig.submit(
            rig.intent(role="stop", order_type="STOP", price_ticks=None, trigger_ticks=rig.touch()[1] * 2, **guard)
        )
        await rig.state(stop, S.NEW)
        rig.post(
            m.TradeTick(ts_ns=rig.now_ns, symbol=BTC, trade_id="t", price_ticks=1, qty_lots=1, taker_side=Side.SELL)
        )
        await rig.state(stop, S.FILLED)
        assert rig.events(profit)[-1].state is S.CANCELED
        assert sum(fill.qty_lots for fill in rig.fills(stop)) == coins
