"""kill -9 of a live bot at any moment, again and again, on one account: the exchange and the journal agree to the atom.

The bot trades coins and contracts in one run, so both halves of the exchange are asked.

Each time the bot is dead, what the exchange knows is held against the journal without a line of the bot's own ledger:
no order there that was not written first, no fill here that is not there. At the end both lists of fills are the same,
so are the books, and nothing works any more. `CRASHES=200` in the environment makes a campaign of it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bot.core.instrument import ATOMS
from bot.exchange.poloniex.futures_client import Page as FuturesPage
from bot.exchange.poloniex.spot_wire import Page
from bot.storage.sqlite import read_sqlite_journal
from tests.exchange.contract.served import SYMBOLS, Clients, Served, exchange_thread, open_clients
from tests.support.live import ACCOUNT, LiveBench

CRASHES = int(os.environ.get("CRASHES", "5"))
SETTLED_S = 60.0
STRATEGIES = """
[risk]
max_repeats = 0
max_losing_closes = 0
max_trades_per_day = 0
max_turnover = 0
max_reject_pct = 0
ramp_pct = 100
daily_loss_pct = 98
daily_loss_halt_pct = 99
drawdown_pct = 98
drawdown_halt_pct = 99
loss_velocity_pct = 0
mean_slippage_bps = 0
orders_per_minute = 600
[strategies.crossover]
kind = "crossover"
timeframe = "1s"
fast = 2
slow = 3
notional = 100
symbols = ["BTC_USDT", "ETH_USDT"]
[strategies.reversion]
kind = "mean_reversion"
timeframe = "1s"
window = 4
entry_z = 0.3
exit_z = 0.0
notional = 100
is_passive = true
symbols = ["BTC_USDT", "ETH_USDT"]
[strategies.contracts]
kind = "crossover"
timeframe = "1s"
fast = 2
slow = 3
notional = 150
symbols = ["BTC_USDT_PERP"]
"""
PERP = "BTC_USDT_PERP"
ROWS = 10
"""On a page of fills: few, so that there are several."""
Row = TypeVar("Row")
FillName = tuple[str, str, str]
"""(trade id, order id, side)"""


@dataclass
class Written:
    """What the journal says, added up here."""

    cash: Decimal = Decimal(0)
    """In the spot wallet."""
    margin: Decimal = Decimal(0)
    """In the futures wallet, had every contract been paid for: what a closed position leaves is its profit."""
    contracts: Decimal = Decimal(0)
    coins: dict[str, Decimal] = field(default_factory=dict[str, Decimal])
    orders: dict[str, str] = field(default_factory=dict[str, str])
    """Client id to its last state."""
    traded: set[str] = field(default_factory=set[str])
    fills: dict[FillName, tuple[Decimal, Decimal, Decimal]] = field(
        default_factory=dict[FillName, tuple[Decimal, Decimal, Decimal]]
    )
    """Name to price, quantity and fee."""


def written(bench: LiveBench) -> Written:
    said = Written()
    instruments: dict[str, Any] = {}
    path = bench.state_dir / f"live-{ACCOUNT}.sqlite"
    for record in read_sqlite_journal(path) if path.is_file() else []:
        fact = json.loads(record.payload)
        match fact["type"]:
            case "SessionStarted" if fact["epoch"] == 1:
                said.margin = Decimal(fact["futures_cash_atoms"]) / ATOMS
                said.cash = Decimal(fact["cash_atoms"]) / ATOMS - said.margin
            case "ExternalFlow":
                coin, atoms = fact["currency"], Decimal(fact["atoms"]) / ATOMS
                assert coin != "USDT", "money came from nowhere"
                said.coins[coin] = said.coins.get(coin, Decimal(0)) + atoms
            case "InstrumentListed":
                instruments[fact["instrument"]["symbol"]] = fact["instrument"]
            case "OrderApproved":
                client_id = fact["intent"]["client_id"]
                assert client_id not in said.orders, "an order id was used twice"
                said.orders[client_id] = "SUBMITTED"
            case "OrderEvent":
                said.orders[fact["client_id"]] = fact["state"]
            case "FundingPaid":
                said.margin -= Decimal(fact["paid_atoms"]) / ATOMS
            case "Fill":
                book(said, fact, instruments[fact["symbol"]])
            case _:
                pass
    return said


def book(said: Written, fact: dict[str, Any], instrument: dict[str, Any]) -> None:
    assert fact["client_id"] in said.orders, "a fill of an order that was never approved"
    name = fact["trade_id"], fact["order_id"], fact["side"]
    assert name not in said.fills, "a fill was booked twice"
    said.traded.add(fact["symbol"])
    sign = 1 if fact["side"] == "BUY" else -1
    lots = Decimal(fact["qty_lots"])
    quantity = lots.scaleb(-instrument["quantity_scale"])
    price = Decimal(fact["price_ticks"]).scaleb(-instrument["price_scale"])
    fee = Decimal(fact["fee_atoms"]) / ATOMS
    if instrument["is_perp"]:
        said.fills[name] = price, lots, fee
        said.margin -= sign * price * quantity + fee
        said.contracts += sign * lots
    else:
        base, coins_fee = instrument["base"], fee if sign > 0 else 0
        said.fills[name] = price, quantity, fee
        said.cash -= sign * price * quantity + (fee - coins_fee)
        said.coins[base] = said.coins.get(base, Decimal(0)) + sign * quantity - coins_fee


async def their_fills(clients: Clients) -> tuple[dict[FillName, tuple[Decimal, Decimal, Decimal]], set[str]]:
    """Return every fill of the account as the exchange has it, and the client ids of their orders."""
    found: dict[FillName, tuple[Decimal, Decimal, Decimal]] = {}
    client_ids: set[str] = set()
    for row in await every(lambda last: clients.spot.trades(page=Page(from_id=last and last.page_id, limit=ROWS))):
        found[row.id, row.order_id, str(row.side)] = row.price, row.quantity, row.fee_amount
        client_ids.add(row.client_order_id or "none")
    for row in await every(lambda last: clients.futures.fills(page=FuturesPage(from_id=last and last.id, limit=ROWS))):
        found[row.trade_id, row.order_id, str(row.side)] = row.price, Decimal(row.contracts), row.fee
        client_ids.add(row.client_id or "none")
    return found, client_ids


async def every(read: Callable[[Row | None], Awaitable[Sequence[Row]]]) -> list[Row]:
    """Return all rows of a list that is read page by page, each from the last row of the one before on."""
    rows: list[Row] = []
    while True:
        page = await read(rows[-1] if rows else None)
        rows += page
        if len(page) < ROWS:
            return rows


async def their_living(clients: Clients) -> set[str | None]:
    """Return the client ids of the orders that live at the exchange."""
    spot = {row.client_order_id for row in await clients.spot.open_orders()}
    return spot | {row.client_id for row in await clients.futures.open_orders()}


async def check_dead(bench: LiveBench, clients: Clients) -> Written:
    """While the bot is dead: everything there was written here first, everything here is there."""
    said = written(bench)
    theirs, client_ids = await their_fills(clients)
    assert client_ids | await their_living(clients) <= set(said.orders), "an order there that was not written first"
    assert said.fills.items() <= theirs.items(), "a fill that the exchange does not know"
    return said


def orders_written(bench: LiveBench) -> int:
    """Return how many orders the journal knows, read beside its writer."""
    path = bench.state_dir / f"live-{ACCOUNT}.sqlite"
    count = "SELECT count(*) FROM journal WHERE instr(payload, CAST('\"OrderApproved\"' AS BLOB))"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
        return journal.execute(count).fetchone()[0]
    return 0


def wait_for_a_moment(bench: LiveBench, process: subprocess.Popen[str], rng: random.Random) -> None:
    """Wait until the run is somewhere: one time in three in its start-up, else in the life of an order."""
    if rng.random() < 0.34:
        time.sleep(rng.uniform(0, 2.5))
        return
    until = orders_written(bench) + rng.randrange(1, 5)
    deadline_s = time.monotonic() + 15
    while process.poll() is None and orders_written(bench) < until and time.monotonic() < deadline_s:
        time.sleep(0.001)
    time.sleep(rng.choice((0.0, rng.uniform(0, 0.03))))


@pytest.fixture(scope="module")
def served() -> Generator[Served]:
    with exchange_thread(2) as served:
        yield served


def wait_for_both_halves(bench: LiveBench, process: subprocess.Popen[str]) -> None:
    """Wait until the account has traded coins and contracts: a few kills may come before either."""
    deadline_s = time.monotonic() + SETTLED_S
    while not {"BTC_USDT", PERP} <= (traded := written(bench).traded):
        assert process.poll() is None, f"the bot ended by itself with {process.returncode}"
        assert time.monotonic() < deadline_s, f"only {traded} was traded"
        time.sleep(0.2)


def is_flat(status: dict[str, Any]) -> bool:
    """Return whether no contract is held and no order works."""
    view = status["view"]
    return not view["orders"] and not any(
        row["symbol"] == PERP and Decimal(str(row["quantity"])) for row in view["positions"]
    )


def settle(bench: LiveBench, process: subprocess.Popen[str]) -> None:
    """Wait until the bot has compared its books with the exchange's, and found no difference."""

    def is_settled(status: dict[str, Any]) -> bool:
        view = status["view"]
        unsure = [row for row in view["orders"] if row["state"] in {"SUBMITTED", "UNKNOWN"}]
        return {"spot", "futures"} <= set(view["compared"]) and not view["differences"] and not unsure

    bench.wait_status(is_settled, process, SETTLED_S)


@pytest.mark.timeout(120 + 25 * CRASHES)
async def test_F96_kill_9_of_a_live_bot_loses_doubles_and_orphans_nothing(served: Served, tmp_path: Path) -> None:
    rng = random.Random(int(os.environ.get("CRASH_SEED", "1")))
    live_at_kill = 0
    async with open_clients(served) as clients:
        await clients.futures.set_leverage(await clients.futures.instrument(PERP), 1, "CROSS", "BOTH")
        bench = LiveBench(tmp_path, served, clients.credentials, wallets='"spot", "futures"', more=STRATEGIES)
        bench.env["BOT__EXCHANGE__SYMBOLS"] = json.dumps(SYMBOLS)
        for number in range(CRASHES):
            with bench.start(*bench.run_live, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                if number % 5 == 4:
                    settle(bench, process)
                wait_for_a_moment(bench, process, rng)
                assert process.poll() is None, f"the bot ended by itself with {process.returncode}"
                process.send_signal(signal.SIGKILL)
            said = await check_dead(bench, clients)
            live_at_kill += sum(state in {"SUBMITTED", "NEW", "PARTIALLY_FILLED"} for state in said.orders.values())
        await check_end(bench, clients)
    assert live_at_kill >= CRASHES // 6, "the moments were worth nothing: hardly an order lived at any of them"


async def check_end(bench: LiveBench, clients: Clients) -> None:
    """Start once more, let everything settle, close all, end in order: then all is equal, and nothing lives."""
    with bench.start(*bench.run_live, "--json") as process:
        try:
            settle(bench, process)
            wait_for_both_halves(bench, process)
            bench.result("flatten", "--json")
            bench.wait_status(is_flat, process, SETTLED_S)
            process.terminate()
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0, err
    said = await check_dead(bench, clients)
    theirs, _ = await their_fills(clients)
    assert said.fills == theirs, "a fill was lost"
    assert await their_living(clients) == set()
    ends = set(said.orders.values())
    assert not ends & {"SUBMITTED", "UNKNOWN", "NEW", "PARTIALLY_FILLED", "PENDING_CANCEL"}
    (account,) = await clients.spot.balances("SPOT")
    assert {row.currency: row.available + row.hold for row in account.balances if row.available + row.hold} == {
        coin: amount for coin, amount in {**said.coins, "USDT": said.cash}.items() if amount
    }
    assert [row for row in await clients.futures.positions() if row.signed_contracts] == []
    assert said.contracts == 0
    (margin,) = [row for row in (await clients.futures.balance()).details if row.currency == "USDT"]
    assert margin.equity == said.margin
    assert Decimal(str(json.loads(out, parse_float=Decimal)["cash"])) == said.cash + said.margin
