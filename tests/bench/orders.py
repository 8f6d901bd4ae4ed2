"""Orders through REST: our signed client against the simulated exchange, in one process over loopback."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Final

import trio

from bot.core.instrument import ATOMS, Instrument, Side
from bot.core.secret import Secret
from bot.exchange.poloniex.limits import LIMITS, RateLimits
from bot.exchange.poloniex.outcome import Accepted
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.poloniex.spot_wire import NewOrder
from bot.exchange.simulated.quiet import QuietMarket
from bot.exchange.simulated.server import ExchangeTerms, open_exchange
from bot.exchange.transport import open_http
from tests.bench.measure import Figure, spent

ORDERS: Final = 400
AT_ONCE: Final = 4
NO_LIMIT: Final = 1_000_000
INSTRUMENT: Final = Instrument(
    symbol="BTC_USDT",
    base="BTC",
    quote="USDT",
    price_scale=2,
    quantity_scale=6,
    qty_lots_min=1,
    notional_atoms_min=ATOMS,
)


def orders() -> Figure:
    """Orders a second through REST, client and exchange in one process, four at once, all limits lifted."""

    async def place_all() -> None:
        source = QuietMarket([INSTRUMENT], time.time_ns())
        async with open_exchange(source, speed=1.0, terms=ExchangeTerms(has_limits=False)) as exchange:
            exchange.start()
            account = exchange.clients[0]
            async with open_http(
                exchange.rest_url, connect_timeout_s=5, request_timeout_s=10, user_agent="bench"
            ) as http:
                client = SpotClient(
                    http,
                    credentials=Credentials(Secret(account.key), Secret(account.secret)),
                    limits=RateLimits(dict.fromkeys(LIMITS, NO_LIMIT)),
                )
                await client.markets()
                numbers = iter(range(ORDERS))

                async def place() -> None:
                    for number in numbers:
                        outcome = await client.place(
                            NewOrder(
                                symbol=INSTRUMENT.symbol,
                                side=Side.BUY,
                                type="LIMIT",
                                client_id=f"bench{number}",
                                price=Decimal(10),
                                quantity=Decimal("0.2"),
                            )
                        )
                        assert isinstance(outcome, Accepted), outcome

                async with trio.open_nursery() as nursery:
                    for _ in range(AT_ONCE):
                        nursery.start_soon(place)

    _, cpu_s, wall_s = spent(lambda: trio.run(place_all))
    return Figure(name="orders", value=ORDERS / wall_s, unit="1/s", cpu_s=cpu_s, wall_s=wall_s)
