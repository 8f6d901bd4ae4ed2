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
from decimal import Decimal
from typing import Final, TypeVar

import trio

from actors.clock import Clock
from actors.mailbox import Mailbox, Office
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.instrument import ATOM_SCALE, Instrument
from bot.core.messages import Condition, RiskState, Wallet
from bot.core.orders import OrderIntent
from bot.errors import ClockSkew, ExchangeError, NotListed, OffGrid, OrderRefusedHere, ReadRefused
from bot.exchange.live.calls import Call, Cancel, CancelSymbol, Look, Place, ReadFills, Resolve, wallet_of
from bot.exchange.live.desk import LiveDesk
from bot.exchange.live.wording import futures_intent, protective_order, protective_report, spot_order
from bot.exchange.network import HttpPort, Network
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.accounts import futures_seen, spot_seen
from bot.exchange.poloniex.futures_client import NOT_FOUND_CODE, FuturesClient, Page
from bot.exchange.poloniex.futures_codec import FuturesInstrument
from bot.exchange.poloniex.limits import Lane, RateLimits
from bot.exchange.poloniex.outcome import Accepted, Outcome, RefusalKind, Refused, Unknown, is_not_found
from bot.exchange.poloniex.private_state import (
    Event,
    Filled,
    Fresh,
    OrderChanged,
    futures_order,
    futures_rest_fill,
    spot_rest_fill,
    spot_rest_order,
)
from bot.exchange.poloniex.server_clock import Reading, ServerClock
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.poloniex.spot_codec import by_client_id
from bot.exchange.poloniex.streams import FuturesAccount, PrivateStream, SpotAccount, StreamSettings
from bot.exchange.transport import Backoff

T = TypeVar("T")

log: Final = logging.getLogger(__name__)

MS_NS: Final = 1_000_000
SWEEP_S: Final = 30.0
"""Between two looks at a wallet; after the first connection one is taken at once."""
SWEEP_AGAIN_S: Final = 2.0
"""The same while something of the wallet is under way, or the stream is down."""
READ_BACKOFF_S: Final = (0.25, 8.0)
CLOCK_REDUCE_MS: Final = 500
CLOCK_HALT_MS: Final = 2_000
DEAD_MAN_PROTECTIVE_S: Final = 600
"""The switch cancels protective orders too: where one rests, it is set as far off as it goes."""
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
        self._billed_ms = 0

    def handle(self, message: m.AnyMessage) -> None:
        """Hand a message of the bot to the desk, and carry out what it asks for."""
        self._heard_s = trio.current_time()
        if isinstance(message, m.InstrumentListed):
            self._instruments[message.instrument.symbol] = message.instrument
        self._say(self._desk.handle(message))

    def _say(self, messages: Iterable[m.AnyMessage]) -> None:
        for message in messages:
            self._office.post(Stage.EXECUTOR, message)
        for call in self._desk.take_calls():
            self._nursery.start_soon(self._carry_out, call)

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
        try:
            if wallet_of(intent.symbol) == "futures":
                return await self._place_contracts(intent, instrument, lane)
            assert self._clients.spot is not None
            if call.is_protective:
                sent = await self._clients.spot.place_smart(protective_order(intent, instrument), lane=lane)
            else:
                sent = await self._clients.spot.place(spot_order(intent, instrument), lane=lane)
        except _SENDING_FAILED as error:
            return Refused(code=0, text=str(error), kind=RefusalKind.NOT_SENT)
        return Accepted(value=str(sent.value.id)) if isinstance(sent, Accepted) else sent

    async def _place_contracts(self, intent: OrderIntent, instrument: Instrument, lane: Lane) -> Outcome[str]:
        client = self._clients.futures
        assert client is not None
        if intent.symbol not in self._rules:
            self._rules[intent.symbol] = await client.instrument(intent.symbol)
        order = futures_intent(intent, instrument, self._access.margin_mode)
        sent = await client.place_order(order, self._rules[intent.symbol], lane)
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

    async def _look(self, call: Look) -> OrderChanged | None:
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
        except (*_READING_FAILED, ValueError) as error:
            log.warning("cannot look at order %s: %s", call.client_id, error)
        return None

    async def _read_fills(self, call: ReadFills) -> list[Filled] | None:
        try:
            if wallet_of(call.symbol) == "futures":
                assert self._clients.futures is not None
                rows = await self._clients.futures.fills(symbol=call.symbol, order_id=call.order_id)
                return [futures_rest_fill(row) for row in rows]
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
            await trio.sleep(SWEEP_S if is_shown and not self._desk.is_stale else SWEEP_AGAIN_S)

    async def _show(self, wallet: Wallet) -> bool:
        """Read one wallet; return whether it could be shown: nothing happened in it meanwhile."""
        desk = self._desk
        version = desk.versions[wallet]
        if not desk.is_quiet(wallet):
            return False
        try:
            if wallet == "futures":
                await self._read_bills()
                seen = await self._read_futures()
            else:
                seen = await self._read_spot()
        except (*_READING_FAILED, OffGrid, ValueError) as error:
            log.warning("cannot read the %s wallet: %s", wallet, error)
            return False
        if desk.versions[wallet] != version or not desk.is_quiet(wallet):
            return False
        for client_id, (symbol, lots) in desk.held_here.items():
            if wallet_of(symbol) == wallet:
                seen.living[client_id] = lots
        self._office.post(Stage.EXECUTOR, seen)
        return True

    async def _read_spot(self) -> m.AccountSeen:
        client = self._clients.spot
        assert client is not None
        orders = await SpotAccount(client).open_orders()
        stops = await client.open_smart_orders()
        balances = await client.balances("SPOT")
        return spot_seen(self._now_ns(), balances, orders, stops, self._instruments)

    async def _read_futures(self) -> m.AccountSeen:
        client = self._clients.futures
        assert client is not None
        orders = await FuturesAccount(client).open_orders()
        positions = await client.positions()
        balance = await client.balance()
        return futures_seen(self._now_ns(), balance, positions, orders)

    async def _read_bills(self) -> None:
        """Say the funding that was settled since the last look; each bill has a time of its own."""
        client = self._clients.futures
        assert client is not None
        rows = await client.bills("FUNDING_FEE", Page(start_ms=self._billed_ms or None))
        for row in sorted(rows, key=lambda row: row.created_ms):
            self._billed_ms = max(self._billed_ms, row.created_ms)
            if row.symbol not in self._instruments:
                continue
            paid = m.FundingPaid(
                ts_ns=row.created_ms * MS_NS,
                symbol=row.symbol,
                rate_ppb=0,
                price_ticks=0,
                paid_atoms=-int(row.amount.scaleb(ATOM_SCALE)),
            )
            self._office.post(Stage.EXECUTOR, paid)

    async def check_modes(self) -> None:
        """Compare leverage, margin mode and position mode with the settings; until they agree nothing grows."""
        client = self._clients.futures
        assert client is not None
        is_read = False
        while not is_read:
            try:
                await self._check_modes(client)
                is_read = True
            except _READING_FAILED as error:
                log.warning("cannot read the modes of the futures account: %s", error)
                await trio.sleep(SWEEP_AGAIN_S)

    async def _check_modes(self, client: FuturesClient) -> None:
        mode = await client.position_mode()
        for symbol in self._access.symbols:
            if wallet_of(symbol) != "futures":
                continue
            rows = await client.leverages(symbol, self._access.margin_mode)
            highest = max((row.leverage for row in rows), default=Decimal(0))
            if mode != "ONE_WAY":
                self._report_mode(symbol, f"the position mode is {mode}, not ONE_WAY")
            elif highest > self._access.leverage:
                self._report_mode(symbol, f"leverage {highest} > live.leverage {self._access.leverage}")

    def _report_mode(self, symbol: str, detail: str) -> None:
        report = m.HealthReported(
            ts_ns=self._now_ns(),
            condition=Condition.ACCOUNT_MODE,
            is_well=False,
            scope=f"symbol:{symbol}",
            detail=f"{symbol}: {detail}",
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


def _trouble(outcome: Outcome[T]) -> Refused | Unknown | None:
    return None if isinstance(outcome, Accepted) else outcome
