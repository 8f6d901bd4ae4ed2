"""kill -9 at any moment, then start again: what the journal says is what is there, nothing lost, nothing doubled."""

from __future__ import annotations

import gzip
import json
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from bot.core.instrument import ATOMS
from bot.exchange.simulated.events import BookChange, BookSnapshot
from bot.exchange.simulated.generator import GeneratedMarket
from bot.storage.base import Record
from bot.storage.sqlite import read_sqlite_journal
from tests.support.cli import Bench

KILLS = 40
WORKERS = 2
MARKET_MINUTES = 5
START_NS = 1_767_225_600 * 10**9


@dataclass
class Account:
    """What a journal says, added up here without a line of the bot's own ledger."""

    cash: Decimal
    base: Decimal
    live: set[str]


def added_up(records: Iterable[Record]) -> Account:
    facts = [json.loads(record.payload) for record in records]
    cash, base = Decimal(0), Decimal(0)
    orders: dict[str, str] = {}
    fills = Counter[tuple[str, str, str]]()
    instrument: dict[str, Any] = {}
    for fact in facts:
        match fact["type"]:
            case "SessionStarted" if fact["epoch"] == 1:
                cash = Decimal(fact["cash_atoms"]) / ATOMS
            case "InstrumentListed":
                instrument = fact["instrument"]
            case "OrderApproved":
                assert fact["intent"]["client_id"] not in orders, "an order id was used twice"
                orders[fact["intent"]["client_id"]] = "live"
            case "OrderEvent" if fact["state"] not in ("NEW", "PARTIALLY_FILLED", "PENDING_CANCEL"):
                assert orders[fact["client_id"]] == "live", "an order ended twice"
                orders[fact["client_id"]] = "over"
            case "Fill":
                assert fact["client_id"] in orders, "a fill of an order that was never approved"
                fills[fact["trade_id"], fact["order_id"], fact["side"]] += 1
                quantity = Decimal(fact["qty_lots"]).scaleb(-instrument["quantity_scale"])
                value = quantity * Decimal(fact["price_ticks"]).scaleb(-instrument["price_scale"])
                fee = Decimal(fact["fee_atoms"]) / ATOMS
                if fact["side"] == "BUY":
                    cash, base = cash - value, base + quantity - fee
                else:
                    cash, base = cash + value - fee, base - quantity
            case _:
                pass
    assert max(fills.values(), default=1) == 1, "a fill was booked twice"
    return Account(cash, base, {client_id for client_id, state in orders.items() if state == "live"})


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording made of the generated market, so that this test needs nothing from outside."""
    source = GeneratedMarket(("BTC_USDT",), 3, START_NS)
    (instrument,) = source.instruments
    path = tmp_path_factory.mktemp("market") / "spot-btc_usdt-generated.jsonl.gz"
    update_id = 0

    def levels(side: Iterable[tuple[int, int]]) -> list[list[str]]:
        return [[f"{instrument.price(p):f}", f"{instrument.quantity(q):f}"] for p, q in side]

    with gzip.open(path, "wt") as file:
        for event in source.events():
            if event.ts_ns > START_NS + MARKET_MINUTES * 60 * 10**9:
                break
            line: dict[str, Any] = {"t": event.ts_ns, "ts": event.ts_ns // 10**6}
            if isinstance(event, BookSnapshot | BookChange):
                update_id += 1
                line |= {"bids": levels(event.bids), "asks": levels(event.asks)}
                if isinstance(event, BookSnapshot):
                    line |= {"e": "snapshot", "id": update_id}
                else:
                    line |= {"e": "depth", "first": update_id, "last": update_id}
            else:
                line |= {
                    "e": "trade",
                    "id": int(event.trade_id),
                    "price": f"{instrument.price(event.price_ticks):f}",
                    "quantity": f"{instrument.quantity(event.qty_lots):f}",
                    "taker_side": event.taker_side.lower(),
                }
            file.write(json.dumps(line) + "\n")
    return path


def journal_of(bench: Bench) -> list[Record]:
    paths = [path for path in bench.state_dir.glob("replay-*.sqlite") if ".previous" not in path.name]
    return read_sqlite_journal(paths[0]) if paths else []


def newest_record(bench: Bench) -> tuple[int, bytes]:
    """Return the number and the text of the journal's last record, read beside its writer; 0 while there is none."""
    for path in bench.state_dir.glob("replay-*.sqlite"):
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as journal:
            newest = journal.execute("SELECT seq, payload FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
            return newest or (0, b"")
    return 0, b""


def wait_for_a_moment(bench: Bench, process: subprocess.Popen[str], rng: random.Random, records: int) -> None:
    """Wait until the run is somewhere: one time in four in its start-up, else a random way into its journal.

    Every other time it is there as soon as an order has begun, and not a moment later.
    """
    if rng.random() < 0.25:
        time.sleep(rng.uniform(0, 0.7))
        return
    far_enough, is_by_order = rng.randrange(1, records), rng.random() < 0.5
    while process.poll() is None:
        number, says = newest_record(bench)
        if number >= far_enough and (not is_by_order or b'"OrderApproved"' in says or b'"NEW"' in says):
            break
        time.sleep(0.002)
    if not is_by_order:
        time.sleep(rng.uniform(0, 0.02))


def crash_and_recover(bench: Bench, market: Path, rng: random.Random, whole_records: int) -> tuple[int, int]:
    """Kill a run, start it again to its end; return the records at the kill, and the orders that were open then."""
    command = ("run", "--headless", "--recording", market, "--speed", "max", "--json")
    process = bench.start(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_a_moment(bench, process, rng, whole_records)
    process.send_signal(signal.SIGKILL)
    process.wait()
    at_kill = journal_of(bench)
    before = added_up(at_kill)
    is_complete = any(b'"type":"SessionEnded"' in record.payload for record in at_kill[-1:])

    result = bench.result(*command)
    if is_complete:  # the kill came too late to hurt
        return len(at_kill), 0
    recovered = result["recovered"]
    assert {row["client_id"] for row in recovered["open_orders"]} == before.live
    if at_kill:
        assert Decimal(str(recovered["cash"])) == before.cash
        held = recovered["positions"].get("BTC_USDT", {"quantity": 0})
        assert Decimal(str(held["quantity"])) == before.base
    records = journal_of(bench)
    assert records[: len(at_kill)] == at_kill, "the past was changed"
    after = added_up(records)
    assert after.live == set(), "an order was left open at a clean end"
    assert Decimal(str(result["cash"])) == after.cash
    return len(at_kill), len(before.live)


@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_by_kill_9_at_random_moments(tmp_path: Path, market: Path) -> None:
    whole = Bench(tmp_path / "whole").result("run", "--headless", "--recording", market, "--speed", "max", "--json")
    assert whole["fills"] > 20

    def one(number: int) -> tuple[int, int]:
        return crash_and_recover(Bench(tmp_path / str(number)), market, random.Random(number), whole["journal_records"])

    with ThreadPoolExecutor(WORKERS) as pool:
        outcomes = list(pool.map(one, range(KILLS)))
    kills_mid_run = [records for records, _ in outcomes if 2 < records < whole["journal_records"]]
    # The moments must have been worth something: many in the middle, some with an order open.
    assert len(kills_mid_run) >= KILLS // 2
    assert sum(open_orders for _, open_orders in outcomes) >= KILLS // 10
