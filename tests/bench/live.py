"""Live trading against the simulated exchange: how fast a halt is on the wire, how soon a killed bot trades again."""

from __future__ import annotations

import math
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Final

import msgspec
import trio

from actors.clock import WallClock
from actors.ports import Ports
from actors.trader import Terms, Trader
from bot import __version__
from bot.config import load_settings
from bot.control.client import ask_status
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.instrument import ATOMS, Instrument, Side
from bot.core.orders import OrderIntent, OrderState, client_id
from bot.core.secret import Secret
from bot.errors import ConnectionLost, NotRunning
from bot.exchange.poloniex.outcome import Accepted
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.poloniex.spot_wire import NewOrder
from bot.exchange.simulated.accounts import DEMO_FUTURES, DEMO_SPOT, Funding
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.replies import Request
from bot.exchange.simulated.server import Answer, ExchangeTerms, SimulatedExchange, open_exchange
from bot.exchange.transport import open_http
from bot.storage.portal import open_portal
from bot.storage.replay import encode_fact
from bot.storage.sqlite import open_sqlite_journal
from tests.bench.measure import Figure
from tests.exchange.contract.served import Served, exchange_thread
from tests.support.live import ACCOUNT, LiveBench, live_settings, write_key

SYMBOLS: Final = ("BTC_USDT", "ETH_USDT")
ROUNDS: Final = 12
ORDERS: Final = 20
RECORDS: Final = 1_000_000
OPEN_ORDERS: Final = 50
PATIENCE_S: Final = 30.0
MINE: Final = Credentials(Secret("key-1"), Secret("secret-1"))
RISK: Final = """
[risk]
orders_per_second = 50
orders_per_minute = 3000
max_open_orders = 60
max_repeats = 0
max_orders_per_trade = 0
passive_ttl_s = 3600
ramp_pct = 100
"""


# --- halt


class Cancels:
    """Notes when each request to cancel comes to the exchange."""

    def __init__(self, exchange: SimulatedExchange) -> None:
        self.at_s: list[float] = []
        """When an order's cancel came in, for each."""
        self.requests = 0
        answer = exchange.answer

        async def timed(request: Request) -> Answer:
            if request.method == "DELETE":
                self.requests += 1
                # One request may name many orders; each of them counts.
                self.at_s += [time.perf_counter()] * max(request.body.count(b'"b'), 1)
            return await answer(request)

        exchange.answer = timed


def halt() -> Figure:
    """From an operator's halt to each of 20 cancels at the exchange, p99; bot and exchange in one process."""
    began, cpu = time.perf_counter(), time.process_time()
    walls_ms = sorted(1000 * wall_s for wall_s in trio.run(_halts))
    return Figure(
        name="halt",
        value=walls_ms[math.ceil(0.99 * len(walls_ms)) - 1],
        unit="ms",
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - began,
        details={"median_ms": walls_ms[len(walls_ms) // 2], "max_ms": walls_ms[-1]},
    )


async def _halts() -> list[float]:
    walls_s: list[float] = []
    async with trading() as (trader, cancels):
        for number in range(ROUNDS):
            await rest_orders(trader, number)
            cancels.at_s.clear()
            began_s = time.perf_counter()
            await trader.command("halt")
            await until(lambda: not trader.keeper.ledger.live_orders)
            walls_s += [at_s - began_s for at_s in cancels.at_s[:ORDERS]]
            await trader.command("resume")
            await trio.sleep(1)  # the gate lets 50 orders through in a second
    assert len(walls_s) == ROUNDS * ORDERS
    return walls_s


@asynccontextmanager
async def trading() -> AsyncGenerator[tuple[Trader, Cancels]]:
    """A live trader with a journal on the disk, reconciled, on an exchange of its own."""
    funding = Funding(MINE.key.reveal(), MINE.secret.reveal(), DEMO_SPOT, DEMO_FUTURES)
    source = GeneratedMarket(SYMBOLS, 1, time.time_ns())
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        terms = ExchangeTerms(has_limits=False)
        async with (
            open_exchange(source, speed=1.0, accounts=[funding], terms=terms) as exchange,
            open_portal() as portal,
            open_sqlite_journal(path / "live.sqlite", portal) as journal,
            trio.open_nursery() as nursery,
        ):
            cancels = Cancels(exchange)
            exchange.start()
            served = Served(exchange.rest_url, exchange.rest_url.replace("http", "ws"), iter(()))
            config = path / "live.toml"
            config.write_text(live_settings(served, write_key(path / "key", MINE), more=f"[strategies]\n{RISK}"))
            trader = Trader(
                Terms(
                    settings=load_settings([config], {}, []),
                    account=f"live-{ACCOUNT}",
                    symbols=SYMBOLS,
                    rest_url=exchange.rest_url,
                    ws_url=exchange.ws_url,
                    credentials=MINE,
                ),
                Ports(journal=journal, clock=WallClock()),
                [],
            )
            nursery.start_soon(trader.run)
            await until(lambda: not trader.machines.gate.unreconciled and len(trader.keeper.quotes) == len(SYMBOLS))
            yield trader, cancels
            trader.end.ask("measured", is_complete=True)


async def rest_orders(trader: Trader, number: int) -> None:
    """Have the gate let `ORDERS` orders rest, each of a strategy of its own, far enough below the market."""
    for index in range(ORDERS):
        symbol = SYMBOLS[index % len(SYMBOLS)]
        bid_ticks = trader.keeper.quotes[symbol].bid_ticks
        instrument = trader.keeper.ledger.instruments[symbol]
        wish = m.Signal(
            ts_ns=trader.now_ns,
            strategy=f"bench{index}",
            symbol=symbol,
            target_lots=10 * ATOMS // instrument.notional_atoms(bid_ticks, 1),
            price_ticks=bid_ticks,
            is_passive=False,
            number=number + 1,
            limit_ticks=bid_ticks * (960 - index) // 1000,
        )
        trader.office.post(Stage.STRATEGY, wish)
    working = {OrderState.NEW, OrderState.PARTIALLY_FILLED}
    await until(lambda: sum(each.state in working for each in trader.keeper.ledger.live_orders) == ORDERS)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_S):
        while not condition():
            await trio.sleep(0.005)


# --- recovery


def recovery() -> Figure:
    """Seconds from the start of a bot with 1 M journal records and 50 open orders until its books are equal again."""
    with exchange_thread(1) as served, tempfile.TemporaryDirectory() as directory:
        bench = LiveBench(Path(directory), served, MINE_SERVED, more=RISK)
        trio.run(_place_open_orders, served)
        bench.state_dir.mkdir(mode=0o700)
        trio.run(_write_journal, bench.state_dir / f"live-{ACCOUNT}.sqlite")
        os.environ["XDG_RUNTIME_DIR"] = bench.env["XDG_RUNTIME_DIR"]
        began = time.perf_counter()
        with bench.start(*bench.run_live, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as daemon:
            try:
                recovered_s = _wait_until_equal(bench, daemon) - began
            finally:
                daemon.kill()
    return Figure(name="recovery", value=recovered_s, unit="s", cpu_s=0.0, wall_s=recovered_s)


MINE_SERVED: Final = Credentials(Secret("key-0"), Secret("secret-0"))
"""An account of `exchange_thread`."""


def _wait_until_equal(bench: LiveBench, daemon: subprocess.Popen[str]) -> float:
    while daemon.poll() is None:
        try:
            _, view = ask_status(bench.state_dir)
        except (NotRunning, ConnectionLost):
            time.sleep(0.02)
            continue
        if "spot" in view.compared and len(view.orders) == OPEN_ORDERS:
            assert not view.differences, view.differences
            return time.perf_counter()
        time.sleep(0.02)
    raise RuntimeError(f"the bot ended with {daemon.returncode}")


async def _place_open_orders(served: Served) -> None:
    async with open_http(served.rest, connect_timeout_s=5, request_timeout_s=10, user_agent="bench") as http:
        client = SpotClient(http, credentials=MINE_SERVED)
        for number in range(1, OPEN_ORDERS + 1):
            sent = await client.place(
                NewOrder(
                    symbol="BTC_USDT",
                    side=Side.BUY,
                    type="LIMIT",
                    client_id=client_id(2, number),
                    price=Decimal(30000),
                    quantity=Decimal("0.001"),
                )
            )
            assert isinstance(sent, Accepted), sent


async def _write_journal(path: Path) -> None:
    async with open_portal() as portal, open_sqlite_journal(path, portal) as journal:
        batch: list[tuple[int, bytes]] = []
        for fact in _facts():
            batch.append((fact.ts_ns, encode_fact(fact)))
            if len(batch) == 50_000:
                await journal.append(batch)
                batch.clear()
        await journal.append(batch)


def _facts() -> Iterator[m.Journalled]:
    """Yield a life of buying and selling at one price without fees, then orders that rest."""
    start_ns = time.time_ns() - 86_400 * m.SECOND_NS
    instrument = Instrument(
        symbol="BTC_USDT",
        base="BTC",
        quote="USDT",
        price_scale=2,
        quantity_scale=6,
        qty_lots_min=1,
        notional_atoms_min=ATOMS,
    )

    def session(epoch: int) -> m.SessionStarted:
        return m.SessionStarted(
            ts_ns=start_ns,
            epoch=epoch,
            version=__version__,
            account=f"live-{ACCOUNT}",
            quote="USDT",
            cash_atoms=DEMO_SPOT["USDT"],
        )

    yield session(1)
    yield m.ExternalFlow(ts_ns=start_ns, wallet="spot", currency="BTC", atoms=DEMO_SPOT["BTC"], reason="bench")
    yield m.InstrumentListed(ts_ns=start_ns, instrument=instrument)
    for number in range(1, RECORDS // 8 * 2 + 1):  # as many are bought as sold
        side = Side.BUY if number % 2 else Side.SELL
        approved = _approved(start_ns + number, client_id(1, number), side, None)
        yield approved
        event = m.OrderEvent(
            ts_ns=start_ns + number,
            client_id=approved.intent.client_id,
            symbol="BTC_USDT",
            order_id=str(number),
            state=OrderState.NEW,
            filled_lots=0,
        )
        yield event
        yield m.Fill(
            ts_ns=start_ns + number,
            client_id=event.client_id,
            symbol="BTC_USDT",
            trade_id=str(number),
            order_id=event.order_id,
            side=side,
            price_ticks=6_000_000,
            qty_lots=1000,
            fee_atoms=0,
            is_maker=False,
        )
        yield msgspec.structs.replace(event, state=OrderState.FILLED, filled_lots=1000)
    yield session(2)
    for number in range(1, OPEN_ORDERS + 1):
        approved = _approved(start_ns + RECORDS + number, client_id(2, number), Side.BUY, 3_000_000)
        yield approved


def _approved(ts_ns: int, name: str, side: Side, price_ticks: int | None) -> m.OrderApproved:
    return m.OrderApproved(
        ts_ns=ts_ns,
        intent=OrderIntent(
            client_id=name,
            strategy="crossover",
            symbol="BTC_USDT",
            side=side,
            order_type="MARKET" if price_ticks is None else "LIMIT",
            time_in_force="IOC" if price_ticks is None else "GTC",
            qty_lots=1000,
            price_ticks=price_ticks,
            reserved_atoms=0 if price_ticks is None else 30 * ATOMS,
        ),
    )
