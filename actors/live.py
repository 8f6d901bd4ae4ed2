"""The live executor: carries out what its desk asks of the exchange, and brings back what the exchange says.

One task reads the mailbox. Every call runs in a task of its own, and its answer goes into the desk in the turn in which
it comes; the desk never waits. A call that is cut off was perhaps carried out: the journal knows its order, and the
next session asks for it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal
from typing import Final, TypeVar

import msgspec
import trio

from actors.clock import Clock
from actors.mailbox import Mailbox, Office
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.instrument import Instrument
from bot.core.latches import symbol_scope
from bot.core.messages import Condition, RiskState, Wallet
from bot.core.orders import OrderIntent
from bot.core.text import safe_text
from bot.errors import BadReply, ClockSkew, ExchangeError, NotListed, OffGrid, OrderRefusedHere, ReadRefused
from bot.exchange.live.calls import Call, Cancel, CancelSymbol, Look, Place, ReadFills, Resolve, wallet_of
from bot.exchange.live.desk import LiveDesk
from bot.exchange.live.payments import OVERLAP_MS, Payments, liquidated, since_ms
from bot.exchange.live.wording import futures_intent, protective_order, protective_report, spot_order
from bot.exchange.network import HttpPort, Network
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.accounts import futures_seen, spot_seen
from bot.exchange.poloniex.codec import TEXT_LENGTH_MAX
from bot.exchange.poloniex.futures_client import NOT_FOUND_CODE, ROWS_MAX, FuturesClient, Page
from bot.exchange.poloniex.futures_codec import FuturesInstrument
from bot.exchange.poloniex.limits import Lane, RateLimits
from bot.exchange.poloniex.outcome import Accepted, Outcome, RefusalKind, Refused, Unknown, is_not_found
from bot.exchange.poloniex.private_state import (
    Event,
    Filled,
    Fresh,
    OrderChanged,
    Stale,
    futures_order,
    futures_rest_fill,
    spot_rest_fill,
    spot_rest_order,
)
from bot.exchange.poloniex.server_clock import Reading, ServerClock
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.poloniex.spot_codec import by_client_id
from bot.exchange.poloniex.spot_wire import OrderIds, SpotMarket
from bot.exchange.poloniex.streams import FuturesAccount, PrivateStream, SpotAccount, StreamSettings
from bot.exchange.transport import Backoff

T = TypeVar("T")

log: Final = logging.getLogger(__name__)

MS_NS: Final = 1_000_000
SWEEP_S: Final = 30.0
"""Between two looks at a wallet; after the first connection one is taken at once."""
SWEEP_AGAIN_S: Final = 2.0
"""The same while something of the wallet is under way, or the stream is down."""
SWEEP_GRACE_S: Final = 1.0
"""How much later than an answer the news may come that belongs to it."""
MODES_S: Final = 300.0
RESOLVE_AGAIN_S: Final = 30.0
"""An order that is looked for for so long may have been found some other way."""
READ_BACKOFF_S: Final = (0.25, 8.0)
CLOCK_REDUCE_MS: Final = 500
CLOCK_HALT_MS: Final = 2_000
DEAD_MAN_PROTECTIVE_S: Final = 600
"""The switch cancels protective orders too: where one rests, it is set as far off as it goes."""
CANCELS_TOGETHER: Final = 20
PROGRESS_S: Final = 5.0
"""The executor is stuck when it has heard nothing for so long; time itself is said four times a second."""
_SENDING_FAILED: Final = (OffGrid, OrderRefusedHere, NotListed, ClockSkew, ExchangeError)
_READING_FAILED: Final = (ExchangeError, ClockSkew)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAccess:
    """Whose account, where it is, and on what terms."""

    credentials: Credentials
    rest_url: str
    private_ws_url: str
    futures_rest_url: str = ""
    futures_ws_url: str = ""
    wallets: tuple[Wallet, ...]
    symbols: tuple[str, ...]
    user_agent: str
    rng: Callable[[], float]
    leverage: int = 1
    margin_mode: fw.MarginMode = "CROSS"
    dead_man_s: int = 60
    """0: the exchange's own switch is not used."""
    connect_timeout_s: float = 10.0
    request_timeout_s: float = 10.0
    stream: StreamSettings = field(default_factory=StreamSettings)


@dataclass(slots=True)
class LiveClients:
    """The clients of one account, and the exchange's clock that all of them sign by."""

    spot: SpotClient | None
    futures: FuturesClient | None
    clock: ServerClock


@asynccontextmanager
async def open_clients(access: LiveAccess, network: Network, now_ns: Callable[[], int]) -> AsyncGenerator[LiveClients]:
    """Open the clients of the wallets in use."""
    async with AsyncExitStack() as stack:

        async def http(url: str) -> HttpPort:
            return await stack.enter_async_context(
                network.open_http(
                    url,
                    connect_timeout_s=access.connect_timeout_s,
                    request_timeout_s=access.request_timeout_s,
                    user_agent=access.user_agent,
                )
            )

        limits, backoff = RateLimits(), Backoff(*READ_BACKOFF_S, access.rng)
        first = await http(access.rest_url)
        asking = SpotClient(first, backoff=backoff)
        clock = ServerClock(asking.server_time_ms, wall_ns=now_ns)
        keys = access.credentials
        spot = futures = None
        if "spot" in access.wallets:
            spot = SpotClient(first, credentials=keys, limits=limits, clock=clock, backoff=backoff)
        if "futures" in access.wallets:
            second = first if access.futures_rest_url == access.rest_url else await http(access.futures_rest_url)
            futures = FuturesClient(second, credentials=keys, limits=limits, clock=clock, backoff=backoff)
        yield LiveClients(spot, futures, clock)


async def run_live(
    mailbox: Mailbox,
    office: Office,
    desk: LiveDesk,
    access: LiveAccess,
    *,
    network: Network,
    clock: Clock,
    is_healthy: Callable[[], bool],
) -> None:
    """Execute live orders for ever.

    Raises:
        AuthRefused: the exchange does not accept the key.

    """
    async with open_clients(access, network, clock.now_ns) as clients, trio.open_nursery() as nursery:
        executor = _Executor(office, desk, access, clients, clock, nursery)
        # What the exchange says of our orders means something only to who knows them.
        while not executor.is_recovered:
            for message in await mailbox.receive():
                executor.handle(message)
            executor.start_calls()
        nursery.start_soon(executor.keep_time)
        for wallet in access.wallets:
            nursery.start_soon(executor.listen, wallet, network)
            nursery.start_soon(executor.sweep, wallet)
        if "futures" in access.wallets:
            nursery.start_soon(executor.check_modes)
        if "spot" in access.wallets and access.dead_man_s:
            nursery.start_soon(executor.feed_dead_man, is_healthy)
        while True:
            for message in await mailbox.receive():
                executor.handle(message)
            executor.start_calls()


class _Executor:
    """The hands of the desk."""

    def __init__(
        self,
        office: Office,
        desk: LiveDesk,
        access: LiveAccess,
        clients: LiveClients,
        clock: Clock,
        nursery: trio.Nursery,
    ) -> None:
        self._office = office
        self._desk = desk
        self._access = access
        self._clients = clients
        self._clock = clock
        self._nursery = nursery
        self._instruments: dict[str, Instrument] = {}
        self._rules: dict[str, FuturesInstrument] = {}
        self._heard_s = trio.current_time()
        self._is_clock_well = True
        self._fresh: dict[Wallet, trio.Event] = {wallet: trio.Event() for wallet in access.wallets}
        self._wakes: dict[Wallet, trio.Event] = {wallet: trio.Event() for wallet in access.wallets}
        """Wakes the sweep of a wallet."""
        self._bills_since_ms = 0
        self._spot_rules: dict[str, SpotMarket] = {}
        self._payments = Payments()
        self._wrong_modes: dict[str, str] = {}
        self.is_recovered = False

    def handle(self, message: m.AnyMessage) -> None:
        """Hand a message of the bot to the desk, and carry out what it asks for."""
        self._heard_s = trio.current_time()
        if isinstance(message, m.InstrumentListed):
            self._instruments[message.instrument.symbol] = message.instrument
        if isinstance(message, m.Recovered):
            self.is_recovered = True
            self._bills_since_ms = since_ms(message)
        self._payments.hear(message)
        self._post(self._desk.handle(message))

    def _say(self, messages: Iterable[m.AnyMessage]) -> None:
        self._post(messages)
        self.start_calls()

    def _post(self, messages: Iterable[m.AnyMessage]) -> None:
        for message in messages:
            self._office.post(Stage.EXECUTOR, message)

    def start_calls(self) -> None:
        """Carry out what the desk asks for. Many cancels go in one request, so that the last of them is not late."""
        together: list[Cancel] = []
        for call in self._desk.take_calls():
            if isinstance(call, Cancel) and not call.is_protective and wallet_of(call.symbol) == "spot":
                together.append(call)
            else:
                self._nursery.start_soon(self._carry_out, call)
        for first in range(0, len(together), CANCELS_TOGETHER):
            some = together[first : first + CANCELS_TOGETHER]
            if len(some) == 1:
                self._nursery.start_soon(self._carry_out, some[0])
            else:
                self._nursery.start_soon(self._cancel_some, some)

    def _now_ns(self) -> int:
        return self._clock.now_ns()

    # --- calls

    async def _carry_out(self, call: Call) -> None:
        desk = self._desk
        match call:
            case Place():
                outcome = await self._place(call)
                self._say(desk.placed(call.intent.client_id, outcome, self._now_ns()))
            case Cancel():
                ended = await self._cancel(call)
                self._say(desk.cancelled(call.client_id, ended, self._now_ns()))
            case CancelSymbol():
                await self._cancel_symbol(call.symbol)
                desk.symbol_cancelled(call.symbol, self._now_ns())
            case Resolve():
                found = await self._resolve(call)
                self._say(desk.resolved(call.unknown.client_id, found, self._now_ns()))
            case Look():
                seen = await self._look(call)
                self._say(desk.looked(call.client_id, seen, self._now_ns()))
            case ReadFills():
                fills = await self._read_fills(call)
                self._say(desk.fills_read(call.client_id, fills, self._now_ns()))

    async def _place(self, call: Place) -> Outcome[str]:
        intent = call.intent
        instrument = self._instruments[intent.symbol]
        lane = Lane.OPEN if intent.reserved_atoms else Lane.CLOSE

        def why_not() -> str:
            return self._desk.why_not(intent.client_id, self._now_ns())

        try:
            if wallet_of(intent.symbol) == "futures":
                return await self._place_contracts(intent, instrument, lane, why_not)
            assert self._clients.spot is not None
            if call.is_protective:
                sent = await self._clients.spot.place_smart(
                    protective_order(intent, instrument), lane=lane, why_not=why_not
                )
            else:
                sent = await self._place_coins(self._clients.spot, intent, instrument, lane, why_not)
        except _SENDING_FAILED as error:
            return Refused(code=0, text=str(error), kind=RefusalKind.NOT_SENT)
        return Accepted(value=str(sent.value.id)) if isinstance(sent, Accepted) else sent

    async def _place_coins(
        self,
        client: SpotClient,
        intent: OrderIntent,
        instrument: Instrument,
        lane: Lane,
        why_not: Callable[[], str],
    ) -> Outcome[OrderIds]:
        order = spot_order(intent, instrument)
        if order.amount is not None:
            if intent.symbol not in self._spot_rules:
                self._spot_rules[intent.symbol] = await client.market(intent.symbol)
            step = Decimal(1).scaleb(-self._spot_rules[intent.symbol].symbol_trade_limit.amount_scale)
            order = msgspec.structs.replace(order, amount=order.amount.quantize(step, ROUND_DOWN))
        return await client.place(order, lane=lane, why_not=why_not)

    async def _place_contracts(
        self, intent: OrderIntent, instrument: Instrument, lane: Lane, why_not: Callable[[], str]
    ) -> Outcome[str]:
        client = self._clients.futures
        assert client is not None
        if intent.symbol not in self._rules:
            self._rules[intent.symbol] = await client.instrument(intent.symbol)
        order = futures_intent(intent, instrument, self._access.margin_mode)
        sent = await client.place_order(order, self._rules[intent.symbol], lane, why_not)
        return Accepted(value=sent.value.order_id) if isinstance(sent, Accepted) else sent

    async def _cancel(self, call: Cancel) -> Refused | Unknown | None:
        """Return what went wrong; None: the exchange took the request."""
        try:
            if wallet_of(call.symbol) == "futures":
                assert self._clients.futures is not None
                return _trouble(await self._clients.futures.cancel_order(call.symbol, client_id=call.client_id))
            assert self._clients.spot is not None
            ref = by_client_id(call.client_id)
            if call.is_protective:
                return _trouble(await self._clients.spot.cancel_smart(ref))
            return _trouble(await self._clients.spot.cancel(ref))
        except _SENDING_FAILED as error:
            return Refused(code=0, text=str(error), kind=RefusalKind.NOT_SENT)

    async def _cancel_some(self, calls: list[Cancel]) -> None:
        """Ask for several orders on spot to be cancelled in one request; each of them has an outcome of its own."""
        assert self._clients.spot is not None
        troubles: list[Refused | Unknown | None]
        try:
            outcomes = await self._clients.spot.cancel_some(client_ids=[call.client_id for call in calls])
            troubles = [_trouble(outcome) for outcome in outcomes]
        except _SENDING_FAILED as error:
            troubles = [Refused(code=0, text=str(error), kind=RefusalKind.NOT_SENT)] * len(calls)
        for call, trouble in zip(calls, troubles, strict=True):
            self._say(self._desk.cancelled(call.client_id, trouble, self._now_ns()))

    async def _cancel_symbol(self, symbol: str) -> None:
        try:
            if wallet_of(symbol) == "futures":
                assert self._clients.futures is not None
                await self._clients.futures.cancel_all_orders(symbol)
            else:
                assert self._clients.spot is not None
                await self._clients.spot.cancel_all([symbol])
        except _SENDING_FAILED as error:
            log.warning("cannot cancel all orders of %s: %s", symbol, error)

    async def _resolve(self, call: Resolve) -> Accepted[OrderChanged] | Refused:
        """Return what became of an order, however long that takes; nobody waits for one that was given up or found."""
        client_id = call.unknown.client_id
        while True:
            with trio.move_on_after(RESOLVE_AGAIN_S):
                try:
                    return await self._search(call)
                except (*_READING_FAILED, ValueError) as error:
                    log.warning("cannot look for order %s: %s", client_id, error)
                    await trio.sleep(SWEEP_AGAIN_S)
            if not self._desk.is_lost(client_id):
                return Refused(code=0, text="it was found or given up meanwhile", kind=RefusalKind.NEVER_ACCEPTED)

    async def _search(self, call: Resolve) -> Accepted[OrderChanged] | Refused:
        if wallet_of(call.symbol) == "futures":
            assert self._clients.futures is not None
            order = await self._clients.futures.resolve_order(call.symbol, call.unknown)
            return Accepted(value=futures_order(order.value)) if isinstance(order, Accepted) else order
        assert self._clients.spot is not None
        if call.is_protective:
            stop = await self._clients.spot.resolve_smart(call.unknown)
            return Accepted(value=protective_report(stop.value)) if isinstance(stop, Accepted) else stop
        found = await self._clients.spot.resolve(call.symbol, call.unknown)
        return Accepted(value=spot_rest_order(found.value)) if isinstance(found, Accepted) else found

    async def _look(self, call: Look) -> OrderChanged | str | None:
        """Return how an order stands; None: it is not there, or nobody answered; a text: the answer makes no sense."""
        try:
            if wallet_of(call.symbol) == "futures":
                assert self._clients.futures is not None
                row = await self._clients.futures.order(symbol=call.symbol, client_id=call.client_id, lane=Lane.CLOSE)
                return futures_order(row)
            assert self._clients.spot is not None
            ref = by_client_id(call.client_id)
            if call.is_protective:
                return protective_report(await self._clients.spot.smart_order(ref))
            return spot_rest_order(await self._clients.spot.order(ref, lane=Lane.CLOSE))
        except ReadRefused as refused:
            if not (is_not_found(refused.code) or refused.code == NOT_FOUND_CODE):
                log.warning("cannot look at order %s: %s", call.client_id, refused)
        except (BadReply, ValueError) as error:
            log.warning("cannot read how order %s stands: %s", call.client_id, error)
            return safe_text(str(error), TEXT_LENGTH_MAX)
        except _READING_FAILED as error:
            log.warning("cannot look at order %s: %s", call.client_id, error)
        return None

    async def _read_fills(self, call: ReadFills) -> list[Filled] | None:
        try:
            if wallet_of(call.symbol) == "futures":
                assert self._clients.futures is not None
                return await _all_contract_fills(self._clients.futures, call)
            assert self._clients.spot is not None
            return [spot_rest_fill(row) for row in await self._clients.spot.order_trades(call.order_id)]
        except _READING_FAILED as error:
            log.warning("cannot read the fills of order %s: %s", call.client_id, error)
            return None

    # --- what the exchange says by itself

    async def listen(self, wallet: Wallet, network: Network) -> None:
        """Hear a private stream, for ever."""
        access = self._access

        def since_ms() -> int | None:
            oldest_ns = self._desk.oldest_living_ns
            return None if oldest_ns is None else oldest_ns // MS_NS

        def say(event: Event) -> None:
            self._say(self._desk.hear(event, self._now_ns()))
            if isinstance(event, Fresh):
                self._fresh[wallet].set()
            elif isinstance(event, Stale):
                self._wakes[wallet].set()  # REST must tell now what the stream does not

        if wallet == "spot":
            assert self._clients.spot is not None
            account, url = SpotAccount(self._clients.spot), access.private_ws_url
        else:
            assert self._clients.futures is not None
            account, url = FuturesAccount(self._clients.futures), access.futures_ws_url
        stream = PrivateStream(
            account,
            url,
            access.credentials,
            say,
            settings=access.stream,
            fills_since_ms=since_ms,
            rng=access.rng,
            network=network,
        )
        await stream.run()

    async def keep_time(self) -> None:
        """Measure the exchange's clock, and tell the gate how far ours is off."""
        while True:
            try:
                await self._clients.clock.keep_measured(self._check_clock)
            except _READING_FAILED as error:
                log.warning("cannot measure the exchange's clock: %s", error)
                await trio.sleep(SWEEP_AGAIN_S)

    def _check_clock(self, reading: Reading) -> None:
        off_ms = abs(reading.offset_ms)
        is_well = off_ms <= CLOCK_REDUCE_MS
        if is_well == self._is_clock_well:
            return
        self._is_clock_well = is_well
        self._office.post(
            Stage.EXECUTOR,
            m.HealthReported(
                ts_ns=self._now_ns(),
                condition=Condition.CLOCK,
                is_well=is_well,
                severity=RiskState.HALTED if off_ms > CLOCK_HALT_MS else RiskState.REDUCE_ONLY,
                detail=f"our clock is {reading.offset_ms:+.0f} ms off",
            ),
        )

    # --- the books

    async def sweep(self, wallet: Wallet) -> None:
        """Show the exchange's books, every so often, when nothing of ours is under way in them."""
        await self._fresh[wallet].wait()
        while True:
            is_shown = await self._show(wallet)
            wait_s = SWEEP_S if is_shown and not self._desk.is_stale else SWEEP_AGAIN_S
            self._wakes[wallet] = trio.Event()
            with trio.move_on_after(wait_s):
                await self._wakes[wallet].wait()

    async def _show(self, wallet: Wallet) -> bool:
        """Read one wallet; return whether it could be shown: nothing happened in it before, meanwhile and just after.

        Money is read before orders: a fill in between shows in the list of orders, and the desk hears of it.
        """
        desk = self._desk
        version = desk.versions[wallet]
        try:
            seen = await (self._read_futures() if wallet == "futures" else self._read_spot())
        except (*_READING_FAILED, OffGrid, ValueError) as error:
            log.warning("cannot read the %s wallet: %s", wallet, error)
            return False
        await trio.sleep(SWEEP_GRACE_S)
        if desk.versions[wallet] != version or not desk.is_quiet(wallet):
            return False
        self._office.post(
            Stage.EXECUTOR,
            msgspec.structs.replace(seen, ts_ns=self._now_ns(), living=desk.living(wallet, seen.living)),
        )
        return True

    async def _read_spot(self) -> m.AccountSeen:
        client = self._clients.spot
        assert client is not None
        balances = await client.balances("SPOT")
        stops = await client.open_smart_orders()
        orders = await SpotAccount(client).open_orders()
        self._say(self._desk.listed("spot", [*orders, *map(protective_report, stops)], self._now_ns()))
        return spot_seen(self._now_ns(), balances, orders, stops, self._instruments)

    async def _read_futures(self) -> m.AccountSeen:
        client = self._clients.futures
        assert client is not None
        await self._read_bills(client)
        balance = await client.balance()
        positions = await client.positions()
        orders = await FuturesAccount(client).open_orders()
        self._say(self._desk.listed("futures", orders, self._now_ns()))
        return futures_seen(self._now_ns(), balance, positions, orders)

    async def _read_bills(self, client: FuturesClient) -> None:
        """Say the funding that was settled, and the liquidations, since the last look."""
        began_ms = self._now_ns() // MS_NS
        funding = await _all_bills(client, "FUNDING_FEE", self._bills_since_ms)
        taken = await _all_bills(client, "LIQ_PNL", self._bills_since_ms)
        for paid in self._payments.funding(funding, self._instruments):
            self._office.post(Stage.EXECUTOR, paid)
        for (symbol, at_ms), bills in self._payments.losses(taken, self._instruments).items():
            closed = [row for row in await client.position_history(symbol=symbol) if row.updated_ms == at_ms]
            self._payments.note(bills)
            for row in closed[:1]:
                self._office.post(Stage.EXECUTOR, liquidated(row, bills, self._instruments[symbol], at_ms))
            self._report(Condition.INTEGRITY, RiskState.HALTED, symbol, f"the position in {symbol} was liquidated")
        self._bills_since_ms = max(self._bills_since_ms, began_ms - OVERLAP_MS)

    async def check_modes(self) -> None:
        """Compare leverage, margin mode and position mode with the settings, for ever; nothing grows where they differ.

        Nothing is set here: a leverage that is lower than the settings allow stays so.
        """
        client = self._clients.futures
        assert client is not None
        while True:
            wait_s = MODES_S
            try:
                await self._check_modes(client)
            except _READING_FAILED as error:
                log.warning("cannot read the modes of the futures account: %s", error)
                wait_s = SWEEP_AGAIN_S
            await trio.sleep(wait_s)

    async def _check_modes(self, client: FuturesClient) -> None:
        mode = await client.position_mode()
        positions = {row.symbol: row for row in await client.positions()}
        for symbol in self._access.symbols:
            if wallet_of(symbol) == "futures":
                rows = await client.leverages(symbol, self._access.margin_mode)
                self._note_mode(symbol, self._wrong_mode(mode, [row.leverage for row in rows], positions.get(symbol)))

    def _wrong_mode(self, mode: fw.PositionMode, leverages: list[Decimal], position: fw.PositionRow | None) -> str:
        """Return what of an account differs from the settings, or ""."""
        access = self._access
        highest = max([*leverages, position.leverage if position is not None else Decimal(0)], default=Decimal(0))
        if mode != "ONE_WAY":
            return f"the position mode is {mode}, not ONE_WAY"
        if highest > access.leverage:
            return f"leverage {highest} > live.leverage {access.leverage}"
        if position is not None and position.margin_mode != access.margin_mode:
            return f"the position is {position.margin_mode}, live.margin_mode is {access.margin_mode}"
        return ""

    def _note_mode(self, symbol: str, wrong: str) -> None:
        if wrong == self._wrong_modes.get(symbol, ""):
            return
        self._wrong_modes[symbol] = wrong
        self._report(Condition.ACCOUNT_MODE, RiskState.REDUCE_ONLY, symbol, f"{symbol}: {wrong}" if wrong else "")

    def _report(self, condition: Condition, severity: RiskState, symbol: str, detail: str) -> None:
        """Tell the gate how a market is; without a detail it is well."""
        report = m.HealthReported(
            ts_ns=self._now_ns(),
            condition=condition,
            is_well=not detail,
            severity=severity,
            scope=symbol_scope(symbol),
            detail=detail,
        )
        self._office.post(Stage.EXECUTOR, report)

    # --- the exchange's own switch

    async def feed_dead_man(self, is_healthy: Callable[[], bool]) -> None:
        """Push the hour back at which the exchange cancels everything, as long as all is well here."""
        client = self._clients.spot
        assert client is not None
        await self._fresh["spot"].wait()
        period_s = self._access.dead_man_s / 3
        while True:
            has_progress = trio.current_time() - self._heard_s < PROGRESS_S
            if has_progress and is_healthy():
                far_s = DEAD_MAN_PROTECTIVE_S if self._desk.has_protective else self._access.dead_man_s
                try:
                    outcome = await client.set_kill_switch(far_s)
                    if not isinstance(outcome, Accepted):
                        log.warning("the dead man's switch was not set: %s", outcome)
                except _SENDING_FAILED as error:
                    log.warning("the dead man's switch was not set: %s", error)
            await trio.sleep(period_s)


async def disarm(access: LiveAccess, network: Network, clock: Clock) -> None:
    """Take the dead man's switch back: nothing rests that it should cancel, or it is wanted to rest."""
    async with open_clients(access, network, clock.now_ns) as clients:
        if clients.spot is not None:
            await clients.spot.set_kill_switch(None)


async def _all_bills(client: FuturesClient, kind: fw.BillType, since_ms: int) -> list[fw.BillRow]:
    """Return all bills of a kind since a time, oldest first."""
    found: dict[str, fw.BillRow] = {}
    from_id: str | None = None
    while True:
        page = Page(start_ms=since_ms, from_id=from_id, direction=None if from_id is None else "NEXT")
        rows = await client.bills(kind, page)
        fresh = [row for row in rows if row.id not in found]
        found |= {row.id: row for row in rows}
        if len(rows) < ROWS_MAX or not fresh:
            return sorted((row for row in found.values() if row.created_ms >= since_ms), key=lambda row: row.created_ms)
        from_id = rows[-1].id


async def _all_contract_fills(client: FuturesClient, call: ReadFills) -> list[Filled]:
    """Return all fills of an order of futures, page by page."""
    found: dict[str, fw.FillRow] = {}
    from_id: str | None = None
    while True:
        page = Page(from_id=from_id, direction=None if from_id is None else "NEXT")
        rows = await client.fills(symbol=call.symbol, order_id=call.order_id, page=page)
        fresh = [row for row in rows if row.trade_id not in found]
        found |= {row.trade_id: row for row in rows}
        if len(rows) < ROWS_MAX or not fresh:
            return [futures_rest_fill(row) for row in found.values() if row.order_id == call.order_id]
        from_id = rows[-1].id


def _trouble(outcome: Outcome[T]) -> Refused | Unknown | None:
    return None if isinstance(outcome, Accepted) else outcome
