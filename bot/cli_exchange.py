"""`bot exchange …`: look at Poloniex, or at any server that speaks its protocol; and serve the simulated one.

Symbols that end in `_PERP` are asked for at the futures, all others at the spot exchange. A key, where one is needed,
comes from the environment: `POLONIEX_KEY` and `POLONIEX_SECRET`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from bot.errors import EXIT_OK, SettingsError

if TYPE_CHECKING:
    from actors.serve import Served
    from bot.exchange.poloniex.futures_client import FuturesClient
    from bot.exchange.poloniex.signing import Credentials
    from bot.exchange.poloniex.spot_client import SpotClient

Cell = str | int | Decimal | None
Row = Mapping[str, Cell]

KEY_VARIABLE: Final = "POLONIEX_KEY"
SECRET_VARIABLE: Final = "POLONIEX_SECRET"  # noqa: S105 - the name of a variable, not a secret
KEY_HOSTS: Final = frozenset({"api.poloniex.com", "127.0.0.1", "localhost", "::1"})
"""A key is sent to nobody else, whatever the settings say."""
TIMEOUT_S: Final = 10.0
ROWS: Final = 20


class Clients:
    """Both clients of one server."""

    def __init__(self, spot: SpotClient, futures: FuturesClient) -> None:
        self.spot = spot
        self.futures = futures


Question = Callable[[Clients, argparse.Namespace], Awaitable[Iterable[Row]]]


def add_exchange(commands: Any, add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command and its own commands to the parser."""
    text = "Look at the exchange, or serve a simulated one."
    exchange: argparse.ArgumentParser = commands.add_parser("exchange", help=text, description=text)

    def say_help(_: argparse.Namespace) -> int:
        exchange.print_help(sys.stderr)
        return SettingsError.exit_code

    exchange.set_defaults(run=say_help)
    own = exchange.add_subparsers(metavar="COMMAND", title="commands")
    for name, (question, words, wants_symbol) in QUESTIONS.items():
        parser = add(own, name, words, _ask)
        parser.set_defaults(question=question)
        if wants_symbol is not None:
            parser.add_argument("symbol", nargs=None if wants_symbol else "?", help="such as BTC_USDT or BTC_USDT_PERP")
        parser.add_argument("--url", default="https://api.poloniex.com", help="another server of the same protocol")
        parser.add_argument("--limit", type=int, default=ROWS, metavar="N", help=f"rows at most ({ROWS})")
        if name == "candles":
            parser.add_argument("--interval", default="MINUTE_1", help="MINUTE_1 … WEEK_1 (MINUTE_1)")
    _add_serve(add(own, "serve", "Serve a simulated exchange for any client, until stopped.", _serve))


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=0, metavar="N", help="0: any free one (0)")
    parser.add_argument("--recording", type=Path, action="append", default=[], metavar="FILE", help="play this market")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="seed of generated markets and accounts (1)")
    parser.add_argument(
        "--account", action="append", default=[], metavar="KEY:SECRET", help="an account beside the demo accounts"
    )
    parser.add_argument("--faults", type=Path, metavar="FILE", help="what goes wrong, and when: docs/faults.md")


# --- questions


def _ask(arguments: argparse.Namespace) -> int:
    import trio

    from actors.front_door import leaf_error

    try:
        rows = trio.run(_answer, arguments)
    except BaseExceptionGroup as group:
        raise leaf_error(group) from group
    if arguments.json:
        import msgspec

        sys.stdout.write(msgspec.json.Encoder(decimal_format="number").encode(rows).decode() + "\n")
    else:
        sys.stdout.write(table(rows))
    return EXIT_OK


async def _answer(arguments: argparse.Namespace) -> list[Row]:
    from bot import __version__
    from bot.exchange.poloniex.futures_client import FuturesClient
    from bot.exchange.poloniex.limits import RateLimits
    from bot.exchange.poloniex.spot_client import SpotClient
    from bot.exchange.transport import open_http

    credentials = _credentials(arguments)
    limits = RateLimits()
    async with open_http(
        arguments.url,
        connect_timeout_s=TIMEOUT_S,
        request_timeout_s=TIMEOUT_S,
        user_agent=f"poloniex-bot/{__version__}",
    ) as http:
        clients = Clients(
            SpotClient(http, credentials=credentials, limits=limits),
            FuturesClient(http, credentials=credentials, limits=limits),
        )
        return list(await arguments.question(clients, arguments))


def _credentials(arguments: argparse.Namespace) -> Credentials | None:
    from bot.core.secret import Secret
    from bot.exchange.poloniex.signing import Credentials

    key, secret = os.environ.get(KEY_VARIABLE), os.environ.get(SECRET_VARIABLE)
    if key is None or secret is None:
        if arguments.question in PRIVATE:
            raise SettingsError(f"this needs a key: set {KEY_VARIABLE} and {SECRET_VARIABLE} in the environment")
        return None
    host = urlsplit(str(arguments.url)).hostname
    if arguments.question in PRIVATE and host not in KEY_HOSTS:
        raise SettingsError(f"--url {arguments.url}: a key is sent to {', '.join(sorted(KEY_HOSTS))} only")
    return Credentials(Secret(key), Secret(secret))


def _is_perp(symbol: str) -> bool:
    return symbol.upper().endswith("_PERP")


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


async def _markets(clients: Clients, arguments: argparse.Namespace) -> Iterable[Row]:
    del arguments
    spot = [
        {
            "symbol": market.symbol,
            "state": market.state,
            "tick size": Decimal(1).scaleb(-market.symbol_trade_limit.price_scale),
            "lot size": Decimal(1).scaleb(-market.symbol_trade_limit.quantity_scale),
            "min quantity": market.symbol_trade_limit.min_quantity,
            "min amount": market.symbol_trade_limit.min_amount,
            "contract": None,
        }
        for market in (await clients.spot.markets()).values()
    ]
    futures = [
        {
            "symbol": instrument.symbol,
            "state": "NORMAL" if instrument.is_open else "PAUSE",
            "tick size": instrument.tick_size,
            "lot size": instrument.lot_contracts,
            "min quantity": instrument.contracts_min,
            "min amount": None,
            "contract": instrument.contract_value,
        }
        for instrument in (await clients.futures.instruments()).values()
    ]
    return spot + futures


async def _ticker(clients: Clients, arguments: argparse.Namespace) -> Iterable[Row]:
    symbol: str | None = arguments.symbol
    rows: list[Row] = []
    if symbol is None or not _is_perp(symbol):
        spot = await clients.spot.tickers() if symbol is None else (await clients.spot.ticker(symbol),)
        rows += [
            {
                "symbol": row.symbol,
                "last": row.close,
                "bid": row.bid,
                "ask": row.ask,
                "low": row.low,
                "high": row.high,
                "quantity": row.quantity,
            }
            for row in spot
        ]
    if symbol is None or _is_perp(symbol):
        rows += [
            {
                "symbol": row.symbol,
                "last": row.close,
                "bid": row.bid,
                "ask": row.ask,
                "low": row.low,
                "high": row.high,
                "quantity": row.contracts,
            }
            for row in await clients.futures.tickers(symbol)
        ]
    return rows


BOOK_LIMITS: Final = (5, 10, 20, 50, 100, 150)


async def _book(clients: Clients, arguments: argparse.Namespace) -> Iterable[Row]:
    limit = next((limit for limit in BOOK_LIMITS if limit >= arguments.limit), BOOK_LIMITS[-1])
    if _is_perp(arguments.symbol):
        book = await clients.futures.order_book(arguments.symbol, limit=limit)
        bids = [(level.price, level.contracts) for level in book.bids]
        asks = [(level.price, level.contracts) for level in book.asks]
    else:
        spot = await clients.spot.order_book(arguments.symbol, limit=limit)
        bids = [(level.price, level.quantity) for level in spot.bids]
        asks = [(level.price, level.quantity) for level in spot.asks]
    nothing = (None, None)
    return [
        {"bid quantity": bid[1], "bid": bid[0], "ask": ask[0], "ask quantity": ask[1]}
        for bid, ask in list(zip_longest(bids, asks, fillvalue=nothing))[: arguments.limit]
    ]


async def _candles(clients: Clients, arguments: argparse.Namespace) -> Iterable[Row]:
    if _is_perp(arguments.symbol):
        end_ms = await clients.spot.server_time_ms()
        futures = await clients.futures.candles(arguments.symbol, arguments.interval, start_ms=0, end_ms=end_ms)
        rows = [(row.start_ms, row.open, row.high, row.low, row.close, row.contracts) for row in futures]
    else:
        spot = await clients.spot.candles(arguments.symbol, arguments.interval, limit=arguments.limit)
        rows = [(row.start_time_ms, row.open, row.high, row.low, row.close, row.quantity) for row in spot]
    names = ("open", "high", "low", "close", "quantity")
    return [
        {"time": _time(start_ms), **dict(zip(names, numbers, strict=True))}
        for start_ms, *numbers in rows[-arguments.limit :]
    ]


async def _trades(clients: Clients, arguments: argparse.Namespace) -> Iterable[Row]:
    if _is_perp(arguments.symbol):
        return [
            {
                "time": _time(row.created_ms),
                "side": row.side,
                "price": row.price,
                "quantity": row.contracts,
                "id": row.trade_id,
            }
            for row in await clients.futures.trades(arguments.symbol, limit=arguments.limit)
        ]
    return [
        {
            "time": _time(row.create_time_ms),
            "side": row.taker_side,
            "price": row.price,
            "quantity": row.quantity,
            "id": str(row.id),  # a kind of `str`, which msgspec does not know
        }
        for row in await clients.spot.public_trades(arguments.symbol, limit=arguments.limit)
    ]


async def _balances(clients: Clients, arguments: argparse.Namespace) -> Iterable[Row]:
    del arguments
    rows: list[Row] = [
        {"account": account.account_type, "currency": row.currency, "available": row.available, "hold": row.hold}
        for account in await clients.spot.balances()
        for row in account.balances
    ]
    futures = await clients.futures.balance()
    held = futures.equity - futures.available_margin
    rows.append({"account": "FUTURES", "currency": "USDT", "available": futures.available_margin, "hold": held})
    return rows


async def _orders(clients: Clients, arguments: argparse.Namespace) -> Iterable[Row]:
    symbol: str | None = arguments.symbol
    rows: list[Row] = []
    if symbol is None or not _is_perp(symbol):
        rows += [
            {
                "time": _time(row.create_time_ms),
                "id": str(row.id),  # a kind of `str`, which msgspec does not know
                "symbol": row.symbol,
                "side": row.side,
                "type": row.type,
                "price": row.price or None,
                "quantity": row.quantity,
                "filled": row.filled_quantity,
                "state": row.state,
            }
            for row in await clients.spot.open_orders(symbol)
        ]
    if symbol is None or _is_perp(symbol):
        rows += [
            {
                "time": _time(row.created_ms),
                "id": row.order_id,
                "symbol": row.symbol,
                "side": row.side,
                "type": row.order_type,
                "price": row.price,
                "quantity": row.contracts,
                "filled": row.filled_contracts,
                "state": row.state_text,
            }
            for row in await clients.futures.open_orders(symbol=symbol)
        ]
    return rows


QUESTIONS: Final[dict[str, tuple[Question, str, bool | None]]] = {
    "markets": (_markets, "List every market with its steps and minimums.", None),
    "ticker": (_ticker, "Show the last 24 hours of one market, or of all.", False),
    "book": (_book, "Show the order book of a market.", True),
    "candles": (_candles, "Show the newest candles of a market.", True),
    "trades": (_trades, "Show the newest trades of a market.", True),
    "balances": (_balances, "Show what the account holds.", None),
    "orders": (_orders, "Show the orders that work.", False),
}
"""Name to what it does, what it says, and whether it needs a symbol (None: takes none)."""
PRIVATE: Final = frozenset({_balances, _orders})


def table(rows: Iterable[Row]) -> str:
    """Return rows as aligned columns with a heading; numbers to the right."""
    rows = list(rows)
    if not rows:
        return "nothing\n"
    names = list(rows[0])
    cells = [[_shown(row[name]) for name in names] for row in rows]
    widths = [max(len(name), *(len(row[at]) for row in cells)) for at, name in enumerate(names)]
    is_number = [all(isinstance(row[name], int | Decimal | None) for row in rows) for name in names]

    def line(texts: list[str]) -> str:
        aligned = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(texts, widths, is_number, strict=True)
        ]
        return "  ".join(aligned).rstrip() + "\n"

    return line(names) + "".join(line(row) for row in cells)


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:f}" if isinstance(cell, Decimal) else str(cell)


# --- the simulated exchange


def _serve(arguments: argparse.Namespace) -> int:
    import trio

    from actors.front_door import leaf_error
    from actors.serve import ServePlan, serve_exchange

    plan = ServePlan(
        port=arguments.port,
        recordings=tuple(arguments.recording),
        seed=arguments.seed,
        accounts=tuple(_account(text) for text in arguments.account),
        faults=arguments.faults,
    )
    try:
        trio.run(serve_exchange, plan, _say_json if arguments.json else _say_addresses)
    except BaseExceptionGroup as group:
        raise leaf_error(group) from group
    except OSError as error:
        raise SettingsError(f"--port {arguments.port}: {error.strerror}") from error
    return EXIT_OK


def _account(text: str) -> tuple[str, str]:
    key, colon, secret = text.partition(":")
    if not (key and colon and secret):
        raise SettingsError("--account: must be KEY:SECRET")
    return key, secret


def _say_json(served: Served) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.Encoder(decimal_format="number").encode(served).decode() + "\n")
    sys.stdout.flush()


def _say_addresses(served: Served) -> None:
    lines = [f"REST       {served.rest}", f"WebSocket  {served.ws}/ws/public and /ws/private, futures under /ws/v3"]
    for account in served.accounts:
        lines += [f"account    key {account.key}", f"           secret {account.secret}"]
    lines += ["", "made-up money on a made-up market; Ctrl-C ends it"]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
