"""`bot kill`: halts, cancels everything, and believes only what the exchange lists afterwards."""

from __future__ import annotations

import json
from collections.abc import Generator
from decimal import Decimal
from pathlib import Path

import pytest

from bot.core.instrument import Side
from bot.errors import HostRefused, KillIncomplete, SettingsError
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex import spot_wire as sw
from bot.exchange.poloniex.outcome import Accepted
from tests.exchange.contract.served import Clients, Served, exchange_thread, open_clients, until
from tests.support.cli import Bench
from tests.support.live import LiveBench

BOTH = '"spot", "futures"'


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with exchange_thread(4) as served:
        yield served


async def rest_orders(clients: Clients, count: int) -> None:
    """Let `count` orders of each kind rest far below the market."""
    price = Decimal(round((await clients.spot.price("BTC_USDT")).price / 2))
    instrument = await clients.futures.instrument("BTC_USDT_PERP")
    for number in range(count):
        placed = await clients.spot.place(
            sw.NewOrder(
                client_id=f"s{number}",
                symbol="BTC_USDT",
                side=Side.BUY,
                type="LIMIT",
                price=price,
                quantity=Decimal("0.01"),
            )
        )
        assert isinstance(placed, Accepted)
        smart = await clients.spot.place_smart(
            sw.NewSmartOrder(
                client_id=f"c{number}",
                symbol="BTC_USDT",
                side=Side.SELL,
                type="STOP",
                stop_price=price,
                quantity=Decimal("0.01"),
            )
        )
        assert isinstance(smart, Accepted)
        resting = fw.FuturesOrder(
            client_id=f"f{number}",
            symbol="BTC_USDT_PERP",
            side=Side.BUY,
            order_type="LIMIT",
            contracts=fw.Contracts(1),
            price=price,
        )
        assert isinstance(await clients.futures.place_order(resting, instrument), Accepted)


async def test_kill_cancels_everything_and_sees_that_nothing_is_left(served: Served, tmp_path: Path) -> None:
    async with open_clients(served) as clients:
        await rest_orders(clients, 3)
        bench = LiveBench(tmp_path, served, clients.credentials, wallets=BOTH)
        result = bench.result("kill", "--config", bench.config, "--json")
        assert await clients.spot.open_orders() == ()
        assert await clients.spot.open_smart_orders() == ()
        assert await clients.futures.open_orders() == []
    rows = {row["what"]: (row["ended"], row["left"]) for row in result["rows"]}
    assert rows == {"spot orders": (3, 0), "spot conditional orders": (3, 0), "futures orders": (3, 0)}
    assert (bench.state_dir / "KILL").read_text().startswith("bot kill by ")


async def test_kill_with_flatten_closes_perpetuals_and_sells_no_coin(served: Served, tmp_path: Path) -> None:
    async with open_clients(served) as clients:
        instrument = await clients.futures.instrument("BTC_USDT_PERP")
        order = fw.FuturesOrder(
            client_id="open1",
            symbol="BTC_USDT_PERP",
            side=Side.BUY,
            order_type="MARKET",
            contracts=fw.Contracts(20),
        )
        assert isinstance(await clients.futures.place_order(order, instrument), Accepted)

        async def position() -> int:
            return sum(row.signed_contracts for row in await clients.futures.positions())

        assert await until(position) == 20
        bench = LiveBench(tmp_path, served, clients.credentials, wallets=BOTH)
        done = bench.run("kill", "--flatten", "--config", bench.config)
        assert done.returncode == 0, done.stderr
        assert await position() == 0
        coins = {row.currency: row.available for account in await clients.spot.balances() for row in account.balances}
        assert coins["BTC"] == 1
    assert "Coins on spot are not sold" in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if line.startswith("futures contracts")] == [
        ["futures", "contracts", "20", "0"]
    ]


def test_kill_that_reaches_nobody_says_so_and_leaves_the_kill_file(served: Served, tmp_path: Path) -> None:
    nowhere = Served("http://127.0.0.1:9", "ws://127.0.0.1:9", served.accounts)
    bench = LiveBench(tmp_path, nowhere, next(served.accounts))
    done = bench.run("kill", "--config", bench.config, "--json", "--timeout", "2")
    assert done.returncode == KillIncomplete.exit_code
    assert (bench.state_dir / "KILL").is_file()
    result, error = (json.loads(line) for line in done.stdout.splitlines())
    assert [row["left"] for row in result["rows"]] == [None, None]
    assert error["error"] == "KillIncomplete"


def test_on_paper_kill_writes_the_kill_file_only(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    assert bench.result("kill", "--json")["rows"] == []
    assert (bench.state_dir / "KILL").stat().st_mode & 0o777 == 0o600


def test_with_unreadable_settings_the_kill_file_is_written_all_the_same(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    done = bench.run("kill", "--config", tmp_path / "gone.toml")
    assert done.returncode == SettingsError.exit_code
    assert (bench.state_dir / "KILL").is_file()


def test_F137_kill_sends_the_key_to_no_other_host(served: Served, tmp_path: Path) -> None:
    elsewhere = Served("https://example.org", "wss://example.org", served.accounts)
    bench = LiveBench(tmp_path, elsewhere, next(served.accounts))
    done = bench.run("kill", "--config", bench.config)
    assert done.returncode == HostRefused.exit_code
    assert "example.org" in done.stderr
