"""Every channel of the four sockets, read by our codec and our streams from the simulated exchange.

And the local book through real recordings: it equals the exchange's own window after every update, whatever is lost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from typing import TypeVar

import pytest
import trio

from bot.core.instrument import Side
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex import private_wire as pw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex import wire
from bot.exchange.poloniex.codec import PING, decode_frame, subscribe_text, unsubscribe_text
from bot.exchange.poloniex.dialects import BOOK
from bot.exchange.poloniex.futures_wire import Contracts
from bot.exchange.poloniex.limits import RateLimits
from bot.exchange.poloniex.outcome import Accepted, Outcome
from bot.exchange.poloniex.private_codec import (
    auth_text,
    decode_futures_private,
    decode_futures_public,
    decode_spot_private,
    decode_spot_public,
    subscription_text,
)
from bot.exchange.poloniex.private_state import (
    AccountChanged,
    BalanceChanged,
    Event,
    Filled,
    Fresh,
    OrderChanged,
    PositionChanged,
)
from bot.exchange.poloniex.spot_client import by_id
from bot.exchange.poloniex.streams import FuturesAccount, PrivateStream, SpotAccount, SpotStream
from bot.exchange.transport import WebSocket, open_websocket
from tests.exchange.contract.served import PATIENCE_S, Clients, Served, exchange_thread, open_clients, until

T = TypeVar("T")
Check = Callable[[Clients], Awaitable[None]]
BTC, PERP = "BTC_USDT", "BTC_USDT_PERP"
CONTRACTS: dict[str, Check] = {}
_numbers = count(1)


def contract(*names: str) -> Callable[[Check], Check]:
    """Let a function be the contract test of rows of the table. Each has an account of its own."""

    def keep(check: Check) -> Check:
        for name in names:
            assert name not in CONTRACTS
            CONTRACTS[name] = check
        return check

    return keep


def accepted(outcome: Outcome[T]) -> T:
    assert isinstance(outcome, Accepted), outcome
    return outcome.value


async def heard(socket: WebSocket, decode: Callable[[bytes], object], kind: type[T]) -> T:
    """Return the next frame of a kind; nothing that cannot be read may come before it."""
    with trio.fail_after(PATIENCE_S):
        while True:
            frame = decode(await socket.receive())
            assert not isinstance(frame, wire.Refused), frame.message
            if isinstance(frame, kind):
                return frame


@asynccontextmanager
async def public(clients: Clients, path: str, request: str) -> AsyncGenerator[WebSocket]:
    async with open_websocket(clients.served.ws + path, connect_timeout_s=5.0) as socket:
        await socket.send(request)
        yield socket


# --- spot, public


@contract("/ws/public ping")
async def spot_ping(clients: Clients) -> None:
    async with public(clients, "/ws/public", PING) as socket:
        await heard(socket, decode_frame, wire.Pong)


@contract("/ws/public unsubscribe")
async def spot_unsubscribe(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscribe_text([BOOK], [BTC])) as socket:
        await heard(socket, decode_frame, wire.BookFrame)
        await socket.send(unsubscribe_text([BOOK], [BTC]))
        said = await heard(socket, decode_frame, wire.Unsubscribed)
        assert (said.channel, said.symbols) == (BOOK, (BTC,))
        await socket.send(PING)
        await heard(socket, decode_frame, wire.Pong)


@contract("/ws/public unsubscribe_all", "/ws/public list_subscriptions")
async def spot_subscriptions(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscribe_text(["ticker"], [BTC])) as socket:
        for event in ("list_subscriptions", "unsubscribe_all"):
            await socket.send(f'{{"event":"{event}"}}')
            assert (await heard(socket, decode_frame, wire.Other)).name == event


@contract("/ws/public candles_…")
async def spot_candles(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscribe_text(["candles_minute_1"], [BTC])) as socket:
        (row,) = (await heard(socket, decode_frame, wire.CandlesFrame)).data
        assert (row.symbol, row.start_ms % 60_000) == (BTC, 0)


@contract("/ws/public trades")
async def spot_trades(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscribe_text(["trades"], ["all"])) as socket:
        (row,) = (await heard(socket, decode_frame, wire.TradesFrame)).data
        assert row.taker_side in ("buy", "sell")


@contract("/ws/public ticker")
async def spot_ticker(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscribe_text(["ticker"], [BTC])) as socket:
        (row,) = (await heard(socket, decode_frame, wire.TickerFrame)).data
        assert Decimal(row.mark_price or 0) > 0


@contract("/ws/public book")
async def spot_book(clients: Clients) -> None:
    for depth in (5, 10, 20):
        async with public(clients, "/ws/public", subscription_text(["book"], [BTC], depth=depth)) as socket:
            (row,) = (await heard(socket, decode_spot_public, pw.BookTopFrame)).data
            assert len(row.bids) == len(row.asks) == depth
            assert Decimal(row.bids[0][0]) < Decimal(row.asks[0][0])


@contract("/ws/public book_lv2")
async def spot_book_lv2(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscribe_text([BOOK], [BTC])) as socket:
        first = await heard(socket, decode_frame, wire.BookFrame)
        assert first.action == "snapshot"
        second = await heard(socket, decode_frame, wire.BookFrame)
        assert (second.action, second.data[0].last_id) == ("update", first.data[0].id)


@contract("/ws/public symbols")
async def spot_symbols(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscription_text(["symbols"], [BTC])) as socket:
        frame = await heard(socket, decode_spot_public, pw.SymbolsFrame)
        assert (frame.action, [row.symbol for row in frame.data]) == ("snapshot", [BTC])


@contract("/ws/public currencies")
async def spot_currencies(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscription_text(["currencies"], currencies=["BTC"])) as socket:
        (row,) = (await heard(socket, decode_spot_public, pw.CurrenciesFrame)).data
        assert (row.currency, row.trading_state) == ("BTC", "NORMAL")


@contract("/ws/public exchange")
async def spot_exchange(clients: Clients) -> None:
    async with public(clients, "/ws/public", subscription_text(["exchange"])) as socket:
        (row,) = (await heard(socket, decode_spot_public, pw.ExchangeFrame)).data
        assert (row.maintenance, row.post_only) == ("OFF", "OFF")


# --- futures, public


async def _futures(clients: Clients, channel: str, kind: type[T], depth: int = 0) -> T:
    request = subscription_text([channel], [PERP], depth=depth)
    async with public(clients, "/ws/v3/public", request) as socket:
        return await heard(socket, decode_futures_public, kind)


@contract("/ws/v3/public symbol")
async def futures_symbol(clients: Clients) -> None:
    (row,) = (await _futures(clients, "symbol", pw.FuturesSymbolFrame)).data
    assert row.contract_value == Decimal("0.001")


@contract("/ws/v3/public tickers")
async def futures_tickers(clients: Clients) -> None:
    (row,) = (await _futures(clients, "tickers", pw.FuturesTickersFrame)).data
    assert row.low <= row.close <= row.high


@contract("/ws/v3/public trades")
async def futures_trades(clients: Clients) -> None:
    (row,) = (await _futures(clients, "trades", pw.FuturesTradesFrame)).data
    assert row.symbol == PERP


@contract("/ws/v3/public book")
async def futures_book(clients: Clients) -> None:
    (row,) = (await _futures(clients, "book", pw.FuturesBookTopFrame, 5)).data
    assert len(row.bids) == 5


@contract("/ws/v3/public book_lv2")
async def futures_book_lv2(clients: Clients) -> None:
    async with public(clients, "/ws/v3/public", subscription_text([BOOK], [PERP])) as socket:
        first = await heard(socket, decode_futures_public, pw.FuturesBookFrame)
        assert first.action == "snapshot"
        second = await heard(socket, decode_futures_public, pw.FuturesBookFrame)
        assert (second.action, second.data[0].last_id) == ("update", first.data[0].id)


@contract("/ws/v3/public candles_<interval>")
async def futures_candles(clients: Clients) -> None:
    frame = await _futures(clients, "candles_minute_1", pw.FuturesCandlesFrame)
    assert frame.interval == "MINUTE_1"
    (row,) = frame.data
    assert row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high


async def _price_candles(clients: Clients, channel: str, price: str) -> None:
    frame = await _futures(clients, channel, pw.FuturesPriceCandlesFrame)
    assert (frame.price, frame.interval) == (price, "MINUTE_1")
    (row,) = frame.data
    assert row.low <= min(row.open, row.close) <= max(row.open, row.close) <= row.high


@contract("/ws/v3/public mark_price_candles_<interval>")
async def futures_mark_candles(clients: Clients) -> None:
    await _price_candles(clients, "mark_price_candles_minute_1", "mark")


@contract("/ws/v3/public index_candles_<interval>")
async def futures_index_candles(clients: Clients) -> None:
    await _price_candles(clients, "index_candles_minute_1", "index")


@contract("/ws/v3/public mark_price")
async def futures_mark_price(clients: Clients) -> None:
    assert (await _futures(clients, "mark_price", pw.MarkPriceFrame)).data[0].price > 0


@contract("/ws/v3/public index_price")
async def futures_index_price(clients: Clients) -> None:
    assert (await _futures(clients, "index_price", pw.IndexPriceFrame)).data[0].price > 0


@contract("/ws/v3/public funding_rate")
async def futures_funding_rate(clients: Clients) -> None:
    row = (await _futures(clients, "funding_rate", pw.FundingFrame)).data[0]
    assert row.next_funding_ms % (8 * 3_600_000) == 0


# --- private


class Told:
    """What a stream has said."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def first(self, kind: type[T], is_it: Callable[[T], bool] = lambda _: True) -> T:
        """Return the first event of a kind that `is_it`, once there is one."""

        async def look() -> T | None:
            return next((event for event in self.events if isinstance(event, kind) and is_it(event)), None)

        found = await until(look)
        assert found is not None
        return found


@asynccontextmanager
async def spot_stream(clients: Clients) -> AsyncGenerator[tuple[SpotStream, Told]]:
    """Run the private spot socket; it is fresh."""
    told = Told()
    url = f"{clients.served.ws}/ws/private"
    account = SpotAccount(clients.spot)
    stream = SpotStream(account, url, clients.credentials, told.events.append, limits=RateLimits())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await told.first(Fresh)
        yield stream, told
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def futures_stream(clients: Clients) -> AsyncGenerator[Told]:
    """Run the private futures socket; it is fresh."""
    told = Told()
    url = f"{clients.served.ws}/ws/v3/private"
    stream = PrivateStream(FuturesAccount(clients.futures), url, clients.credentials, told.events.append)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        await told.first(Fresh)
        yield told
        nursery.cancel_scope.cancel()


def spot_order(price: str | None = "50000") -> sw.NewOrder:
    """Return a buy far below the market, or with `price` None a market sell."""
    return sw.NewOrder(
        symbol=BTC,
        side=Side.SELL if price is None else Side.BUY,
        type="MARKET" if price is None else "LIMIT",
        client_id=f"contract-{next(_numbers)}",
        price=None if price is None else Decimal(price),
        quantity=Decimal("0.001"),
    )


def futures_order(contracts: int = 2) -> fw.FuturesOrder:
    client_id = f"contract-{next(_numbers)}"
    return fw.FuturesOrder(
        client_id=client_id, symbol=PERP, side=Side.BUY, order_type="MARKET", contracts=Contracts(contracts)
    )


@contract("/ws/private auth")
async def spot_auth(clients: Clients) -> None:
    request = auth_text(clients.credentials, await clients.spot.server_time_ms())
    async with public(clients, "/ws/private", request) as socket:
        assert (await heard(socket, decode_spot_private, pw.AuthFrame)).data.success


@contract("/ws/v3/private auth")
async def futures_auth(clients: Clients) -> None:
    request = auth_text(clients.credentials, await clients.spot.server_time_ms())
    async with public(clients, "/ws/v3/private", request) as socket:
        assert (await heard(socket, decode_futures_private, pw.AuthFrame)).data.success


@contract("/ws/private orders")
async def spot_orders(clients: Clients) -> None:
    async with spot_stream(clients) as (_, told):
        rests, sells = spot_order(), spot_order(None)
        resting = accepted(await clients.spot.place(rests))
        placed = await told.first(OrderChanged, lambda event: event.client_id == rests.client_id)
        assert (placed.order_id, placed.state, placed.price) == (resting.id, "NEW", rests.price)
        accepted(await clients.spot.cancel(by_id(resting.id)))
        await told.first(OrderChanged, lambda event: event.order_id == resting.id and event.state == "CANCELED")
        sold = accepted(await clients.spot.place(sells))
        done = await told.first(OrderChanged, lambda event: event.order_id == sold.id and event.state == "FILLED")
        assert done.filled_quantity == sells.quantity
        fills = [event for event in told.events if isinstance(event, Filled)]
        by_rest = await clients.spot.order_trades(sold.id)
        assert {(fill.trade_id, fill.price, fill.quantity, fill.fee) for fill in fills} == {
            (row.id, row.price, row.quantity, row.fee_amount) for row in by_rest
        }


@contract("/ws/private balances")
async def spot_balances(clients: Clients) -> None:
    async with spot_stream(clients) as (_, told):
        ids = accepted(await clients.spot.place(spot_order()))
        held = await told.first(BalanceChanged, lambda event: event.hold > 0)
        assert (held.currency, held.available, held.hold) == ("USDT", 9_950, 50)
        told.events.clear()
        accepted(await clients.spot.cancel(by_id(ids.id)))
        back = await told.first(BalanceChanged, lambda event: event.hold == 0)
        assert (back.currency, back.available) == ("USDT", 10_000)


@contract("/ws/private createOrder")
async def create_order(clients: Clients) -> None:
    market = await clients.spot.market(BTC)
    async with spot_stream(clients) as (stream, told):
        wanted = spot_order()
        ids = accepted(await stream.create_order(wanted, market))
        assert ids.client_order_id == wanted.client_id
        placed = await told.first(OrderChanged)
        assert (placed.order_id, placed.state) == (ids.id, "NEW")
        assert not isinstance(await stream.create_order(wanted, market), Accepted)


@contract("/ws/private cancelOrders")
async def cancel_orders(clients: Clients) -> None:
    async with spot_stream(clients) as (stream, told):
        one, other = [accepted(await clients.spot.place(spot_order())) for _ in range(2)]
        outcomes = await stream.cancel_orders(order_ids=[one.id], client_ids=[other.client_order_id])
        assert [accepted(outcome).id for outcome in outcomes] == [one.id, other.id]
        for ids in (one, other):
            await told.first(OrderChanged, lambda event, of=ids: event.order_id == of.id and event.state == "CANCELED")


@contract("/ws/private cancelAllOrders")
async def cancel_all_orders(clients: Clients) -> None:
    async with spot_stream(clients) as (stream, told):
        ids = {accepted(await clients.spot.place(spot_order())).id for _ in range(2)}
        assert {accepted(one).id for one in accepted(await stream.cancel_all_orders())} == ids
        for each in ids:
            await told.first(OrderChanged, lambda event, of=each: event.order_id == of and event.state == "CANCELED")


@contract("/ws/v3/private orders", "/ws/v3/private trade", "/ws/v3/private positions", "/ws/v3/private account")
async def futures_private(clients: Clients) -> None:
    """One order tells on all four channels, which are in no order against each other."""
    instrument = await clients.futures.instrument(PERP)
    async with futures_stream(clients) as told:
        ack = accepted(await clients.futures.place_order(futures_order(2), instrument))
        done = await told.first(OrderChanged, lambda event: event.state == "FILLED")
        assert (done.order_id, done.filled_quantity) == (ack.order_id, 2)
        by_rest = await clients.futures.fills(order_id=ack.order_id)
        for row in by_rest:
            fill = await told.first(Filled, lambda event, of=row: event.trade_id == of.trade_id)
            assert (fill.price, fill.quantity, fill.order_id) == (row.price, row.contracts, ack.order_id)
        position = await told.first(PositionChanged, lambda event: event.row.contracts == 2)
        assert position.row.side_text == "BUY"
        account = await told.first(AccountChanged, lambda event: event.row.initial_margin > 0)
        assert account.row.equity < 10_000 + account.row.unrealised_pnl
        accepted(await clients.futures.close_position(PERP, "CROSS"))
        await told.first(PositionChanged, lambda event: event.row.contracts == 0)


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with exchange_thread(len(CONTRACTS)) as running:
        yield running


@pytest.mark.parametrize("name", CONTRACTS)
async def test_stream_contract(name: str, served: Served) -> None:
    async with open_clients(served) as clients:
        await CONTRACTS[name](clients)
