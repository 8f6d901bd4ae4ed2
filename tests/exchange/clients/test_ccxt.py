"""ccxt and ccxt.pro, unmodified, against `bot exchange serve`.

Each chapter is a story on one account that yields the name of a step once what came of it has been checked. What ccxt
itself cannot do on Poloniex is left out: closed spot orders, single futures orders, futures over WebSocket.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import pytest

from tests.exchange.clients.served import Served, ServedAccount, exchange_process

ccxt: Any = importlib.import_module("ccxt")
ccxt_pro: Any = importlib.import_module("ccxt.pro")

SPOT = "BTC/USDT"
ETH = "ETH/USDT"
PERP = "BTC/USDT:USDT"
TAKER_RATE = 0.00155
WAIT_S = 10.0
MINUTE_MS = 60_000

# ccxt is not typed: what it takes and returns stays `Any` in this file.
Client = Any


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with exchange_process(tmp_path_factory.mktemp("exchange")) as process:
        yield process.served


def client_of(module: Any, served: Served, account: ServedAccount) -> Client:
    """Return a client that is pointed at the served exchange, as the dossier's README says."""
    client = module.poloniex({"apiKey": account.key, "secret": account.secret, "enableRateLimit": True})
    sockets = {"public": f"{served.ws}/ws/public", "private": f"{served.ws}/ws/private"}
    client.urls["api"] = {"spot": served.rest, "swap": served.rest, "ws": sockets}
    return client


def money(value: float) -> Any:
    """Return what equals an amount of money that went through floating point."""
    return pytest.approx(value, abs=1e-7)


def ids(rows: Iterable[Any]) -> set[str]:
    return {row["id"] for row in rows}


def until(question: Callable[[], Any]) -> Any:
    """Return the first true answer to a question."""
    deadline_s = time.monotonic() + WAIT_S
    while not (answer := question()):
        assert time.monotonic() < deadline_s, "it did not come to that in time"
        time.sleep(0.02)
    return answer


def state(client: Client, order_id: str) -> str:
    return client.fetch_order(order_id)["info"]["state"]


def free(client: Client, currency: str) -> float:
    return client.fetch_balance()[currency]["free"]


# --- the market


def read_market(client: Client) -> Iterator[str]:
    markets = client.load_markets()
    assert set(markets) >= {SPOT, ETH, PERP}
    assert (markets[SPOT]["type"], markets[SPOT]["active"], markets[SPOT]["precision"]["price"]) == ("spot", True, 0.01)
    assert (markets[PERP]["type"], markets[PERP]["contractSize"], markets[PERP]["settle"]) == ("swap", 0.001, "USDT")
    yield "load markets"
    currencies = client.fetch_currencies()
    assert currencies["BTC"]["networks"]
    assert currencies["USDT"]["info"]["tradeEnable"] is True
    yield "currencies"
    assert abs(client.fetch_time() - time.time() * 1000) < 5_000
    yield "time"
    fees = client.fetch_deposit_withdraw_fees(["BTC", "USDT"])
    assert fees["BTC"]["withdraw"]["fee"] >= 0
    yield "fees of deposits and withdrawals"
    for symbol in (SPOT, PERP):
        yield from _read_symbol(client, symbol)
    tickers = client.fetch_tickers()
    assert {SPOT, ETH} <= set(tickers)
    yield "all spot tickers"
    tickers = client.fetch_tickers(None, {"type": "swap"})
    assert PERP in tickers
    yield "all futures tickers"
    with pytest.raises(ccxt.BadSymbol):
        client.fetch_ticker("NO/SUCH")
    yield "a market that is not listed"


def _read_symbol(client: Client, symbol: str) -> Iterator[str]:
    ticker = until(lambda: (row := client.fetch_ticker(symbol))["last"] and row)
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    assert ticker["bid"] < ticker["ask"]
    yield f"ticker of {symbol}"
    book = client.fetch_order_book(symbol, 20)
    bids, asks = ([row[0] for row in book[side]] for side in ("bids", "asks"))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    yield f"book of {symbol}"
    trades = until(lambda: client.fetch_trades(symbol))
    assert {trade["side"] for trade in trades} <= {"buy", "sell"}
    assert all(trade["price"] > 0 and trade["amount"] > 0 for trade in trades)
    yield f"trades of {symbol}"
    candles = client.fetch_ohlcv(symbol, "1m")
    for at_ms, opened, high, low, closed, volume in candles:
        assert at_ms % MINUTE_MS == 0
        assert low <= min(opened, closed) <= max(opened, closed) <= high
        assert volume > 0
    yield f"candles of {symbol}"
    assert client.fetch_ohlcv(symbol, "1h", limit=1)[0][0] % (60 * MINUTE_MS) == 0
    yield f"hours of {symbol}"


# --- spot


def trade_spot(client: Client) -> Iterator[str]:
    assert client.fetch_balance()["USDT"] == {"free": 10_000.0, "used": 0.0, "total": 10_000.0}
    assert client.fetch_balance()["BTC"]["total"] == 1.0
    yield "spot balance"
    assert client.fetch_trading_fees()[SPOT]["taker"] == TAKER_RATE
    yield "trading fees"
    low = round(client.fetch_ticker(SPOT)["bid"] * 0.9, 2)
    order = client.create_order(SPOT, "limit", "buy", 0.01, low, {"clientOrderId": "own-1"})
    balance = client.fetch_balance()["USDT"]
    assert (balance["used"], balance["total"]) == (money(0.01 * low), 10_000.0)
    yield "a limit order freezes its money"
    (row,) = client.fetch_open_orders(SPOT)
    assert (row["id"], row["clientOrderId"], row["price"], row["remaining"]) == (order["id"], "own-1", low, 0.01)
    assert (row["type"], row["side"], row["status"], row["timeInForce"]) == ("limit", "buy", "open", "GTC")
    yield "open orders"
    assert client.fetch_open_orders(ETH) == []
    yield "no open orders of another market"
    assert client.fetch_order(order["id"])["status"] == "open"
    assert client.fetch_order("cid:own-1")["clientOrderId"] == "own-1"  # ccxt shows the id that it was asked for
    yield "one order, by both ids"
    with pytest.raises(ccxt.ExchangeError):
        client.create_order(SPOT, "limit", "buy", 0.01, low, {"clientOrderId": "own-1"})
    yield "a client id is taken"
    edited = client.edit_order(order["id"], SPOT, "limit", "buy", 0.02, low + 1)
    row = client.fetch_order(edited["id"])
    assert (row["price"], row["amount"], row["status"]) == (low + 1, 0.02, "open")
    until(lambda: state(client, order["id"]) == "CANCELED")
    assert client.fetch_balance()["USDT"]["used"] == money(0.02 * (low + 1))
    yield "edit replaces"
    assert client.cancel_order(edited["id"], SPOT)["status"] == "canceled"
    until(lambda: state(client, edited["id"]) == "CANCELED")
    assert client.fetch_balance()["USDT"] == {"free": 10_000.0, "used": 0.0, "total": 10_000.0}
    yield "cancel gives the money back"
    with pytest.raises(ccxt.OrderNotFound):
        client.fetch_order("17")
    yield "an order that nobody made"
    yield from _take_spot(client)
    yield from _rest_nothing(client, low)
    yield from _cancel_spot(client, low)
    yield from _trigger(client, low)


def _take_spot(client: Client) -> Iterator[str]:
    bought = client.create_market_buy_order_with_cost(SPOT, 100)
    order = client.fetch_order(bought["id"])
    fills = client.fetch_order_trades(bought["id"], SPOT)
    cost, amount = sum(fill["cost"] for fill in fills), sum(fill["amount"] for fill in fills)
    fee = sum(fill["fee"]["cost"] for fill in fills)
    assert (order["status"], order["side"]) == ("closed", "buy")
    assert 99 < cost <= 100
    assert (order["cost"], order["filled"]) == (money(cost), money(amount))
    assert {fill["fee"]["currency"] for fill in fills} == {"BTC"}
    assert fee == pytest.approx(amount * TAKER_RATE, abs=1e-6)
    assert {fill["takerOrMaker"] for fill in fills} == {"taker"}
    balance = client.fetch_balance()
    assert balance["USDT"] == {"free": money(10_000 - cost), "used": 0.0, "total": money(10_000 - cost)}
    assert balance["BTC"]["total"] == money(1 + amount - fee)
    yield "a market buy by cost"
    usdt, btc = balance["USDT"]["total"], balance["BTC"]["total"]
    sold = client.create_order(SPOT, "market", "sell", 0.001)
    (*fills,) = client.fetch_order_trades(sold["id"], SPOT)
    assert sum(fill["amount"] for fill in fills) == money(0.001)
    assert {fill["fee"]["currency"] for fill in fills} == {"USDT"}
    earned = sum(fill["cost"] - fill["fee"]["cost"] for fill in fills)
    balance = client.fetch_balance()
    assert (balance["USDT"]["total"], balance["BTC"]["total"]) == (money(usdt + earned), money(btc - 0.001))
    yield "a market sell"
    mine = client.fetch_my_trades(SPOT)
    assert {trade["order"] for trade in mine} == {bought["id"], sold["id"]}
    assert client.fetch_my_trades(ETH) == []
    yield "my trades"
    ask = client.fetch_order_book(SPOT)["asks"][0][0]
    crossing = client.create_order(SPOT, "limit", "buy", 0.0001, round(ask * 1.01, 2))
    order = client.fetch_order(crossing["id"])
    assert (order["status"], order["filled"], order["type"]) == ("closed", 0.0001, "limit")
    assert order["average"] <= ask * 1.01
    yield "a limit order that takes"
    spent = free(client, "USDT")
    with pytest.raises(ccxt.InsufficientFunds):
        client.create_order(SPOT, "limit", "buy", 5, ask)
    assert free(client, "USDT") == spent
    yield "too little money"


def _rest_nothing(client: Client, low: float) -> Iterator[str]:
    """Orders with a time in force, or that only rest."""
    before = client.fetch_balance()
    passive = client.create_order(SPOT, "limit", "buy", 0.001, low, {"postOnly": True})
    row = client.fetch_order(passive["id"])
    assert (row["info"]["type"], row["status"], row["postOnly"]) == ("LIMIT_MAKER", "open", True)
    client.cancel_order(passive["id"], SPOT)
    until(lambda: state(client, passive["id"]) == "CANCELED")
    yield "a post-only order rests"
    high = round(client.fetch_ticker(SPOT)["ask"] * 1.02, 2)
    refused = client.create_order(SPOT, "limit", "buy", 0.001, high, {"postOnly": True})
    assert state(client, refused["id"]) == "CANCELED"
    yield "a post-only order that would take ends"
    nothing = client.create_order(SPOT, "limit", "buy", 0.001, low, {"timeInForce": "IOC"})
    row = client.fetch_order(nothing["id"])
    assert (row["status"], row["filled"], row["timeInForce"]) == ("canceled", 0.0, "IOC")
    yield "an IOC order that meets nobody"
    whole = client.create_order(SPOT, "limit", "buy", 0.05, low, {"timeInForce": "FOK"})
    assert (state(client, whole["id"]), client.fetch_order(whole["id"])["filled"]) == ("CANCELED", 0.0)
    yield "a FOK order that cannot be whole"
    assert client.fetch_balance()["USDT"] == before["USDT"]
    filled = client.create_order(SPOT, "limit", "buy", 0.0001, high, {"timeInForce": "FOK"})
    assert (state(client, filled["id"]), client.fetch_order(filled["id"])["filled"]) == ("FILLED", 0.0001)
    yield "a FOK order that is whole"


def _cancel_spot(client: Client, low: float) -> Iterator[str]:
    wanted = [
        {"symbol": SPOT, "type": "limit", "side": "buy", "amount": 0.001, "price": low - each} for each in range(4)
    ]
    placed = client.create_orders(wanted)
    assert len(ids(placed)) == 4
    assert ids(client.fetch_open_orders(SPOT)) == ids(placed)
    yield "a batch"
    first, second, third, fourth = (order["id"] for order in placed)
    cancelled = client.cancel_orders([first, second], SPOT)
    assert ids(cancelled) == {first, second}
    until(lambda: ids(client.fetch_open_orders()) == {third, fourth})
    yield "cancel some"
    other = client.create_order(ETH, "limit", "buy", 0.01, round(client.fetch_ticker(ETH)["bid"] * 0.9, 2))
    assert ids(client.cancel_all_orders(SPOT)) == {third, fourth}
    until(lambda: ids(client.fetch_open_orders()) == {other["id"]})
    yield "cancel all of a market"
    assert ids(client.cancel_all_orders()) == {other["id"]}
    until(lambda: client.fetch_open_orders() == [])
    assert client.fetch_balance()["USDT"]["used"] == 0.0
    yield "cancel all"
    with pytest.raises(ccxt.ExchangeError):
        client.cancel_order(first, SPOT)
    yield "an order that has ended cannot be cancelled"


def _trigger(client: Client, low: float) -> Iterator[str]:
    stop = client.create_order(SPOT, "limit", "sell", 0.001, low, {"triggerPrice": low + 10})
    (row,) = client.fetch_open_orders(SPOT, None, None, {"trigger": True})
    assert (row["id"], row["triggerPrice"], row["price"], row["amount"]) == (stop["id"], low + 10, low, 0.001)
    assert client.fetch_balance()["BTC"]["used"] == 0.0
    yield "a stop order freezes nothing"
    assert client.fetch_order(stop["id"], SPOT, {"trigger": True})["triggerPrice"] == low + 10
    yield "one stop order"
    moved = client.edit_order(stop["id"], SPOT, "limit", "sell", 0.002, low, {"triggerPrice": low + 5})
    (row,) = client.fetch_open_orders(SPOT, None, None, {"trigger": True})
    assert (row["id"], row["triggerPrice"], row["amount"]) == (moved["id"], low + 5, 0.002)
    yield "edit a stop order"
    client.cancel_order(moved["id"], SPOT, {"trigger": True})
    until(lambda: client.fetch_open_orders(SPOT, None, None, {"trigger": True}) == [])
    yield "cancel a stop order"
    two = {client.create_order(SPOT, "market", "sell", 0.001, None, {"triggerPrice": low - n})["id"] for n in (1, 2)}
    assert ids(client.cancel_all_orders(SPOT, {"trigger": True})) == two
    until(lambda: client.fetch_open_orders(SPOT, None, None, {"trigger": True}) == [])
    yield "cancel all stop orders"


# --- wallets


def move_money(client: Client) -> Iterator[str]:
    spot, futures = free(client, "USDT"), client.fetch_balance({"type": "swap"})["USDT"]["free"]
    moved = client.transfer("USDT", 100, "spot", "future")
    assert free(client, "USDT") == money(spot - 100)
    assert client.fetch_balance({"type": "swap"})["USDT"]["free"] == money(futures + 100)
    yield "transfer to the futures account"
    back = client.transfer("USDT", 40, "future", "spot")
    assert free(client, "USDT") == money(spot - 60)
    yield "transfer back"
    rows = client.fetch_transfers("USDT")
    assert {(row["id"], row["amount"], row["status"]) for row in rows} == {
        (moved["id"], 100.0, "ok"),
        (back["id"], 40.0, "ok"),
    }
    yield "transfers"
    row = client.fetch_transfer(moved["id"])
    assert (row["amount"], row["fromAccount"], row["toAccount"]) == (100.0, "spot", "future")
    yield "one transfer"
    with pytest.raises(ccxt.ExchangeError):
        client.transfer("USDT", 10**9, "spot", "future")
    yield "a transfer of more than there is"
    network = {"network": next(iter(client.currencies["BTC"]["networks"]))}
    made = client.create_deposit_address("BTC", network)
    assert client.fetch_deposit_address("BTC", network)["address"] == made["address"] != ""
    yield "a deposit address"
    assert client.fetch_deposits() == []
    yield "deposits"
    with pytest.raises(ccxt.ExchangeError):  # no money leaves the simulated exchange
        client.withdraw("BTC", 0.1, made["address"], network)
    assert client.fetch_withdrawals("BTC") == client.fetch_deposits_withdrawals() == []
    yield "no withdrawals"


# --- futures


def trade_futures(client: Client) -> Iterator[str]:
    assert client.fetch_position_mode()["hedged"] is False
    yield "position mode"
    assert client.fetch_leverage(PERP, {"marginMode": "cross"})["marginMode"] == "cross"
    yield "leverage"
    client.set_leverage(5, PERP, {"marginMode": "cross"})
    assert client.fetch_leverage(PERP, {"marginMode": "cross"})["longLeverage"] == 5
    yield "set leverage"
    low = round(client.fetch_ticker(PERP)["bid"] * 0.95, 1)
    resting = client.create_order(PERP, "limit", "buy", 3, low)
    (row,) = client.fetch_open_orders(PERP)
    assert (row["id"], row["price"], row["amount"], row["side"], row["status"]) == (
        resting["id"],
        low,
        3,
        "buy",
        "open",
    )
    yield "a futures order rests"
    assert client.fetch_balance({"type": "swap"})["USDT"]["free"] < 10_060
    yield "its margin is held"
    client.cancel_order(resting["id"], PERP)
    until(lambda: client.fetch_open_orders(PERP) == [])
    yield "cancel a futures order"
    with pytest.raises(ccxt.OrderNotFound):
        client.cancel_order(resting["id"], PERP)
    yield "a cancelled futures order"
    yield from _hold_position(client)
    yield from _cancel_futures(client, low)
    yield from _hedge(client)
    with pytest.raises(ccxt.ExchangeError):
        client.create_order(PERP, "limit", "buy", 10_000_000, low)
    yield "too little margin"


def _hold_position(client: Client) -> Iterator[str]:
    before = client.fetch_balance({"type": "swap"})["USDT"]["total"]
    assert client.fetch_positions() == []
    yield "no positions"
    opened = client.create_order(PERP, "market", "buy", 4)
    fills = until(lambda: [fill for fill in client.fetch_my_trades(PERP) if fill["order"] == opened["id"]])
    assert sum(fill["amount"] for fill in fills) == 4
    entry = sum(fill["price"] * fill["amount"] for fill in fills) / 4
    yield "a futures market buy"
    (position,) = client.fetch_positions([PERP])
    assert (position["symbol"], position["contracts"], position["marginMode"]) == (PERP, 4, "cross")
    assert position["info"]["side"] == "BUY"  # ccxt's own `side` is `posSide`, which is BOTH here
    assert position["entryPrice"] == pytest.approx(entry, abs=0.02)
    assert position["leverage"] == 5
    yield "positions"
    part = client.create_order(PERP, "market", "sell", 1, None, {"reduceOnly": True})
    assert client.fetch_positions()[0]["contracts"] == 3
    yield "reduce only"
    rest = client.create_order(PERP, "limit", "sell", 3, round(entry * 0.99, 1), {"reduceOnly": True})
    until(lambda: client.fetch_positions() == [])
    yield "close"
    closed = {row["id"]: row for row in client.fetch_closed_orders(PERP)}
    assert all(closed[order["id"]]["status"] == "closed" for order in (opened, part, rest))
    assert closed[rest["id"]]["reduceOnly"] is True
    yield "closed orders"
    fills = client.fetch_my_trades(PERP)
    fees = sum(fill["fee"]["cost"] for fill in fills)
    assert fees > 0
    assert {fill["fee"]["currency"] for fill in fills} == {"USDT"}
    total = client.fetch_balance({"type": "swap"})["USDT"]["total"]
    contract = client.market(PERP)["contractSize"]
    by_trade = sum(fill["price"] * fill["amount"] * contract * (1 if fill["side"] == "sell" else -1) for fill in fills)
    assert total - before == pytest.approx(by_trade - fees, abs=1e-4)
    yield "what the position earned is what the balance says"


def _cancel_futures(client: Client, low: float) -> Iterator[str]:
    wanted = [{"symbol": PERP, "type": "limit", "side": "buy", "amount": 1, "price": low - each} for each in range(3)]
    placed = client.create_orders(wanted)
    assert ids(client.fetch_open_orders(PERP)) == ids(placed)
    yield "a futures batch"
    first, second, third = (order["id"] for order in placed)
    client.cancel_orders([first, second], PERP)
    until(lambda: ids(client.fetch_open_orders(PERP)) == {third})
    yield "cancel some futures orders"
    assert ids(client.cancel_all_orders(PERP)) == {third}
    until(lambda: client.fetch_open_orders(PERP) == [])
    yield "cancel all futures orders"
    high = round(client.fetch_ticker(PERP)["ask"] * 1.01, 1)
    refused = client.create_order(PERP, "limit", "buy", 1, high, {"postOnly": True})
    row = until(lambda: next((row for row in client.fetch_closed_orders(PERP) if row["id"] == refused["id"]), None))
    assert (row["status"], row["filled"]) == ("canceled", 0)
    yield "a futures post-only order that would take ends"


def _hedge(client: Client) -> Iterator[str]:
    client.set_position_mode(True, PERP)
    assert client.fetch_position_mode()["hedged"] is True
    yield "hedge mode"
    long = {"marginMode": "isolated", "hedged": "true", "posSide": "LONG"}
    client.create_order(PERP, "market", "buy", 2, None, long)
    (position,) = client.fetch_positions()
    assert (position["contracts"], position["marginMode"], position["side"]) == (2, "isolated", "long")
    yield "an isolated long"
    before = float(position["info"]["mgn"])
    client.add_margin(PERP, 10, {"posSide": "LONG"})
    after = float(client.fetch_positions()[0]["info"]["mgn"])
    assert after - before == pytest.approx(10, abs=1e-3)
    yield "add margin"
    client.reduce_margin(PERP, 5, {"posSide": "LONG"})
    assert float(client.fetch_positions()[0]["info"]["mgn"]) - before == pytest.approx(5, abs=1e-3)
    yield "reduce margin"
    client.create_order(PERP, "market", "sell", 2, None, long)
    until(lambda: client.fetch_positions() == [])
    client.set_position_mode(False, PERP)
    assert client.fetch_position_mode()["hedged"] is False
    yield "one-way mode again"


def test_ccxt_takes_every_step(served: Served) -> None:
    client = client_of(ccxt, served, served.accounts[0])
    done: list[str] = []
    for chapter in (read_market, trade_spot, move_money, trade_futures):
        done += chapter(client)
    assert len(done) == len(set(done)) >= 70


# --- sockets


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, WAIT_S)


async def watched(watch: Callable[[], Awaitable[Any]], is_it: Callable[[Any], bool]) -> Any:
    """Return the first of what `watch` returns that `is_it`."""

    async def look() -> Any:
        while not is_it(seen := await watch()):
            pass
        return seen

    return await within(look())


async def has_asked_for(client: Client, channel: str) -> None:
    """Wait until ccxt has subscribed to a private channel."""
    while channel not in client.client(client.urls["api"]["ws"]["private"]).subscriptions:
        await asyncio.sleep(0.01)


async def watch_market(client: Client) -> AsyncIterator[str]:
    await client.load_markets()
    yield "load markets, asynchronously"
    ticker = await within(client.watch_ticker(SPOT))
    assert ticker["low"] <= ticker["last"] <= ticker["high"]
    yield "watch a ticker"
    tickers = await within(client.watch_tickers([SPOT, ETH]))
    assert set(tickers) <= {SPOT, ETH}
    yield "watch tickers"
    for _ in range(5):
        book = await within(client.watch_order_book(SPOT))
        assert book["bids"][0][0] < book["asks"][0][0]
        assert max(len(book["bids"]), len(book["asks"])) <= 20
    yield "watch a book"
    at_ms = client.milliseconds()
    trades = await within(client.watch_trades(SPOT))
    assert {trade["symbol"] for trade in trades} == {SPOT}
    assert all(trade["side"] in ("buy", "sell") and trade["amount"] > 0 for trade in trades)
    assert trades[-1]["timestamp"] > at_ms - 5_000
    yield "watch trades"
    trades = await within(client.watch_trades_for_symbols([SPOT, ETH]))
    assert {trade["symbol"] for trade in trades} <= {SPOT, ETH}
    yield "watch trades of several markets"
    ((at_ms, opened, high, low, closed, _),) = (await within(client.watch_ohlcv(SPOT, "1m")))[-1:]
    assert at_ms % MINUTE_MS == 0
    assert low <= min(opened, closed) <= max(opened, closed) <= high
    yield "watch candles"
    assert (await within(client.watch_ohlcv(SPOT, "1h")))[-1][0] % (60 * MINUTE_MS) == 0
    yield "watch hours"


async def trade_by_socket(client: Client) -> AsyncIterator[str]:
    """Requests go over the socket that was subscribed before, and frames are handled in order: nothing is missed."""
    await within(client.authenticate())
    yield "authenticate"
    orders = asyncio.ensure_future(client.watch_orders(SPOT))
    balance = asyncio.ensure_future(client.watch_balance())  # reads REST, subscribes, and returns with the first change
    await within(has_asked_for(client, "balances"))
    low = round((await client.fetch_ticker(SPOT))["bid"] * 0.9, 2)
    placed = await within(client.create_order_ws(SPOT, "limit", "buy", 0.01, low, {"clientOrderId": "ws-1"}))
    assert (placed["clientOrderId"], placed["info"]["code"]) == ("ws-1", 200)
    yield "create an order"
    (order,) = await within(orders)
    assert (order["id"], order["status"], order["price"], order["amount"]) == (placed["id"], "open", low, 0.01)
    assert (order["side"], order["clientOrderId"], order["filled"]) == ("BUY", "ws-1", 0.0)
    yield "watch it being placed"
    assert (await within(balance))["USDT"] == {
        "free": money(10_000 - 0.01 * low),
        "used": money(0.01 * low),
        "total": 1e4,
    }
    yield "watch its money being frozen"
    assert (await client.fetch_order(placed["id"]))["status"] == "open"
    yield "REST knows it too"
    orders = asyncio.ensure_future(
        watched(lambda: client.watch_orders(SPOT), lambda seen: seen[-1]["status"] != "open")
    )
    balance = asyncio.ensure_future(watched(client.watch_balance, lambda seen: seen["USDT"]["used"] == 0))
    assert (await within(client.cancel_order_ws(placed["id"])))["id"] == placed["id"]
    yield "cancel an order"
    assert [(row["id"], row["status"]) for row in await orders][-1:] == [(placed["id"], "canceled")]
    assert (await balance)["USDT"]["free"] == 10_000.0
    yield "watch it being cancelled"
    some = [(await within(client.create_order_ws(SPOT, "limit", "buy", 0.001, low - n)))["id"] for n in range(4)]
    assert ids(await within(client.cancel_orders_ws(some[:2]))) == set(some[:2])
    yield "cancel some by socket"
    assert ids(await within(client.cancel_all_orders_ws())) >= set(some[2:])
    yield "cancel all by socket"
    with pytest.raises(ccxt.InsufficientFunds):
        await within(client.create_order_ws(SPOT, "limit", "buy", 50, low))
    yield "too little money by socket"
    with pytest.raises(ccxt.ExchangeError):
        await within(client.create_order_ws(SPOT, "limit", "buy", 0.001, low, {"clientOrderId": "ws-1"}))
    yield "a client id is taken by socket"
    passive = await within(client.create_order_ws(SPOT, "limit_maker", "buy", 0.001, low))
    assert (await client.fetch_order(passive["id"]))["info"]["type"] == "LIMIT_MAKER"
    await within(client.cancel_order_ws(passive["id"]))
    yield "post-only by socket"


async def watch_fills(client: Client) -> AsyncIterator[str]:
    """A client of its own: ccxt would ask for `orders` twice and take the refusal for that of everything it waits for.

    Of all markets: with a symbol it waits for a name that it never resolves.
    """
    await client.load_markets()
    await within(client.authenticate())
    before = (await client.fetch_balance())["BTC"]["total"]
    trades = asyncio.ensure_future(client.watch_my_trades())
    sold = await within(client.create_order_ws(SPOT, "market", "sell", 0.0001))
    (trade, *others) = await within(trades)
    assert (trade["order"], trade["side"], trade["takerOrMaker"]) == (sold["id"], "sell", "taker")
    assert trade["fee"]["currency"] == "USDT"
    if not others:  # ccxt takes the sum of all fills for the size of one
        assert trade["fee"]["cost"] == pytest.approx(trade["price"] * trade["amount"] * TAKER_RATE, abs=1e-6)
    yield "watch my trades"
    trades = asyncio.ensure_future(client.watch_my_trades())
    bought = await within(client.create_order_ws(SPOT, "market", "buy", 0, None, {"cost": 5}))
    assert {trade["order"] for trade in await within(trades)} == {bought["id"]}
    yield "a market buy by socket"
    assert (await client.fetch_order(bought["id"]))["status"] == "closed"
    fills = [fill for order in (sold, bought) for fill in await client.fetch_order_trades(order["id"], SPOT)]
    change = sum(fill["amount"] - fill["fee"]["cost"] if fill["side"] == "buy" else -fill["amount"] for fill in fills)
    assert (await client.fetch_balance())["BTC"]["total"] == money(before + change)
    yield "the balance moved by what was traded"


async def all_steps(served: Served) -> list[str]:
    done: list[str] = []
    clients = [client_of(ccxt_pro, served, served.accounts[1]) for _ in range(2)]
    chapters = ((watch_market, 0), (trade_by_socket, 0), (watch_fills, 1))
    try:
        for chapter, number in chapters:
            done += [step async for step in chapter(clients[number])]
    finally:
        for client in clients:
            await client.close()
    return done


def test_ccxt_pro_takes_every_step(served: Served) -> None:
    done = asyncio.run(all_steps(served))
    assert len(done) == len(set(done)) >= 23
