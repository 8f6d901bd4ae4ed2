"""A simulated exchange on a thread of its own, for the tests of one module, and our clients of it."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import msgspec
import trio

from bot.core.secret import Secret
from bot.exchange.poloniex.futures_client import FuturesClient
from bot.exchange.poloniex.limits import RateLimits
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.simulated.accounts import DEMO_FUTURES, DEMO_SPOT, Funding, demo_accounts
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.server import ExchangeTerms, open_exchange
from bot.exchange.transport import open_http

SYMBOLS = ("BTC_USDT", "ETH_USDT", "BTC_USDT_PERP")
READY_S = 20.0
PATIENCE_S = 10.0

T = TypeVar("T")


class Served(msgspec.Struct, frozen=True):
    """Where it is, and one account for each who asks."""

    rest: str
    ws: str
    accounts: Iterator[Credentials]


class Clients:
    """Both clients of one new account, that share their limits."""

    def __init__(self, spot: SpotClient, futures: FuturesClient, served: Served, credentials: Credentials) -> None:
        self.spot = spot
        self.futures = futures
        self.served = served
        self.credentials = credentials


@contextmanager
def exchange_thread(account_count: int) -> Generator[Served]:
    """Serve generated markets, without limits, until the block is left; accounts all have the demo money."""
    fundings = [*demo_accounts(1)]
    fundings += [
        Funding(f"key-{number}", f"secret-{number}", DEMO_SPOT, DEMO_FUTURES) for number in range(account_count)
    ]
    ready = threading.Event()
    stop = trio.Event()
    found: list[tuple[str, trio.lowlevel.TrioToken]] = []

    async def serve() -> None:
        source = GeneratedMarket(SYMBOLS, 1, time.time_ns())
        terms = ExchangeTerms(has_limits=False)
        async with open_exchange(source, speed=1.0, accounts=fundings, terms=terms, futures=FuturesWing) as exchange:
            exchange.start()
            found.append((exchange.rest_url, trio.lowlevel.current_trio_token()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(serve,), name="simulated exchange", daemon=True)
    thread.start()
    assert ready.wait(READY_S)
    (rest, token), *_ = found
    try:
        accounts = (Credentials(Secret(one.key), Secret(one.secret)) for one in fundings)
        yield Served(rest, rest.replace("http", "ws"), accounts)
    finally:
        token.run_sync_soon(stop.set)
        thread.join(READY_S)
        assert not thread.is_alive()


@asynccontextmanager
async def open_clients(served: Served) -> AsyncGenerator[Clients]:
    credentials = next(served.accounts)
    limits = RateLimits()
    async with open_http(served.rest, connect_timeout_s=5.0, request_timeout_s=5.0, user_agent="test") as http:
        yield Clients(
            SpotClient(http, credentials=credentials, limits=limits),
            FuturesClient(http, credentials=credentials, limits=limits),
            served,
            credentials,
        )


async def until(question: Callable[[], Awaitable[T]]) -> T:
    """Return the first true answer to a question."""
    with trio.fail_after(PATIENCE_S):
        while not (answer := await question()):
            await trio.sleep(0.02)
        return answer
