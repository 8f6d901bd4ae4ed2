"""The money path lives and dies together; what dies cancels everything first, within bounds."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from trio.testing import MockClock

from actors.clock import WallClock
from actors.mailbox import Office
from actors.ports import Ports
from actors.stage import run_live_gate
from actors.trader import LAST_CANCELS_S, Terms, Trader
from bot.config import load_settings
from bot.core import messages as m
from bot.core.flow import Stage
from bot.core.instrument import Side
from bot.core.secret import Secret
from bot.errors import JournalError
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.outcome import Accepted
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient
from bot.exchange.simulated.accounts import DEMO_FUTURES, DEMO_SPOT, Funding
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.server import open_exchange
from bot.exchange.transport import open_http
from bot.storage.memory import MemoryJournal
from tests.bench import live as bench
from tests.exchange.contract.served import Served, until
from tests.support.live import live_settings, write_key

CREDENTIALS = Credentials(Secret("key-1"), Secret("secret-1"))


class Died(Exception):
    pass


def die(*_: object) -> NoReturn:
    raise Died


@asynccontextmanager
async def live_trader(path: Path) -> AsyncGenerator[tuple[Trader, SpotClient]]:
    """A live trader that has begun, on an exchange where three orders of its account rest."""
    source = GeneratedMarket(("BTC_USDT", "ETH_USDT"), 1, time.time_ns())
    funding = Funding("key-1", "secret-1", DEMO_SPOT, DEMO_FUTURES)
    async with open_exchange(source, speed=1.0, accounts=[funding]) as exchange:
        exchange.start()
        served = Served(exchange.rest_url, exchange.rest_url.replace("http", "ws"), iter(()))
        config = path / "live.toml"
        config.write_text(live_settings(served, write_key(path / "key", CREDENTIALS)))
        terms = Terms(
            settings=load_settings([config], {}, []),
            account="live-main",
            symbols=("BTC_USDT", "ETH_USDT"),
            rest_url=exchange.rest_url,
            ws_url=exchange.ws_url,
            credentials=CREDENTIALS,
        )
        async with open_http(exchange.rest_url, connect_timeout_s=5, request_timeout_s=5, user_agent="test") as http:
            client = SpotClient(http, credentials=CREDENTIALS)
            await rest_orders(client, 3)
            yield Trader(terms, Ports(MemoryJournal(), WallClock()), []), client


async def rest_orders(client: SpotClient, count: int) -> None:
    price = Decimal(round((await client.price("BTC_USDT")).price / 2))
    for number in range(count):
        order = sw.NewOrder(
            client_id=f"mine{number}",
            symbol="BTC_USDT",
            side=Side.BUY,
            type="LIMIT",
            price=price,
            quantity=Decimal("0.01"),
        )
        assert isinstance(await client.place(order), Accepted)


BREAK: dict[str, Callable[[Trader], None]] = {
    "risk gate": lambda trader: setattr(trader.machines.gate, "handle", die),
    "executor": lambda trader: setattr(trader.desk, "handle", die),
    "ledger": lambda trader: setattr(trader.keeper, "handle", die),
    "journal": lambda trader: setattr(trader.ports.journal, "append", fail_to_append),
}


async def fail_to_append(*_: object) -> NoReturn:
    await trio.lowlevel.checkpoint()
    raise JournalError("no space left on device")


@pytest.mark.parametrize("member", BREAK)
async def test_F90_a_dead_member_of_the_money_path_ends_the_bot_after_it_cancelled_everything(
    member: str, tmp_path: Path
) -> None:
    async with live_trader(tmp_path) as (trader, client):
        ready = trio.Event()

        async def kill_a_member() -> None:
            await ready.wait()
            assert len(await client.open_orders()) == 3
            BREAK[member](trader)
            if member == "journal":
                trader.post(m.OperatorCommand(ts_ns=trader.now_ns, verb="halt", command_id=""))

        with pytest.RaisesGroup(JournalError if member == "journal" else Died, flatten_subgroups=True):
            with trio.fail_after(LAST_CANCELS_S + 20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(kill_a_member)
                    await trader.run(ready.set)

        async def is_nothing_left() -> bool:
            return await client.open_orders() == ()

        await until(is_nothing_left)


async def test_F90_the_last_cancels_take_no_longer_than_their_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def hang(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("actors.trader.send_cancels", hang)
    served = Served("http://127.0.0.1:9", "ws://127.0.0.1:9", iter(()))
    config = tmp_path / "live.toml"
    config.write_text(live_settings(served, write_key(tmp_path / "key", CREDENTIALS)))
    terms = Terms(
        settings=load_settings([config], {}, []),
        account="live-main",
        symbols=("BTC_USDT",),
        rest_url=served.rest,
        ws_url=served.ws,
        credentials=CREDENTIALS,
    )
    trader = Trader(terms, Ports(MemoryJournal(), WallClock()), [])
    began_s = trio.current_time()
    with trio.CancelScope() as scope:
        scope.cancel()  # the end is shielded: a cancellation does not cut it either
        await trader._cancel_all_at_last()
    assert trio.current_time() - began_s == LAST_CANCELS_S


async def test_many_cancels_of_a_halt_go_in_one_request() -> None:
    async with bench.trading() as (trader, cancels):
        await bench.rest_orders(trader, 0)
        await trader.command("halt")
        await bench.until(lambda: not trader.keeper.ledger.live_orders)
    assert cancels.requests == 1
    assert len(cancels.at_s) == bench.ORDERS


async def test_F85_a_cancel_is_on_its_way_before_it_is_written(autojump_clock: MockClock) -> None:
    class Gate:
        def handle(self, message: m.AnyMessage) -> Iterator[m.AnyMessage]:
            yield m.CancelRequested(ts_ns=message.ts_ns, client_id="b1", reason="halted")

    office = Office((Stage.RISK_GATE, Stage.PERSISTENCE, Stage.EXECUTOR), is_lockstep=False)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_live_gate, office.mailboxes[Stage.RISK_GATE], Gate(), office)
        office.post(Stage.CONTROL, m.OperatorCommand(ts_ns=5, verb="halt", command_id=""))
        (sent,) = await office.mailboxes[Stage.EXECUTOR].receive()
        assert sent == m.CancelOrder(ts_ns=5, client_id="b1")
        written = await office.mailboxes[Stage.PERSISTENCE].receive()
        assert m.CancelRequested(ts_ns=5, client_id="b1", reason="halted") in written
        nursery.cancel_scope.cancel()
