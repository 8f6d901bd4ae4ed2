"""A day of live trading against the simulated exchange: spot and perpetuals, over real sockets, with faults.

`python -m tests.campaigns.live_day [--hours 24] [--rate 24]`: the sockets, the HTTP and WebSocket libraries and the
SQLite journal are the real ones; time goes `rate` times as fast, for everybody alike: trio's own clock does, so market,
signatures, timeouts, pauses and budgets keep their proportions, and only the machine looks that much slower. In the end
all is closed and cancelled, and the books of both sides must be equal to the atom. Prints one JSON object; exit code 1
where they differ.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import msgspec
import trio
import trio.testing

from actors.clock import WallClock
from actors.ports import Ports
from actors.simulation.truth import Truth, books_of
from actors.trader import End, Terms, Trader
from bot.config import Settings, load_settings
from bot.core import messages as m
from bot.core.secret import Secret
from bot.exchange.poloniex.server_clock import WALL_NS
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.simulated.accounts import Funding
from bot.exchange.simulated.faults import decode_schedule
from bot.exchange.simulated.futures_instruments import generated_markets
from bot.exchange.simulated.futures_positions import MarginMode, PosSide
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.server import ExchangeTerms, open_exchange
from bot.storage.portal import open_portal
from bot.storage.sqlite import open_sqlite_journal

SYMBOLS: Final = ("BTC_USDT", "BTC_USDT_PERP")
KEY, SECRET = "LIVE-DAY", "no-secret-of-anybody"
START_NS: Final = 1_767_225_600 * m.SECOND_NS
CASH: Final = 10_000 * 10**16
CLOSING_S: Final = 600.0
"""For the end: everything is closed, cancelled and settled."""
FAULTS: Final = (
    {"kind": "lost_answer", "method": "POST", "path": "/orders", "probability": 0.08, "ends": "reset"},
    {"kind": "lost_request", "method": "POST", "path": "/orders", "probability": 0.08, "ends": "reset"},
    {"kind": "lost_answer", "method": "POST", "path": "/v3/trade/order", "probability": 0.08, "ends": "close"},
    {
        "kind": "server_error",
        "status": 503,
        "is_executed": True,
        "method": "POST",
        "path": "/orders",
        "probability": 0.08,
    },
    {"kind": "lost_request", "method": "DELETE", "probability": 0.15, "ends": "reset"},
    {"kind": "fill_during_cancel", "share": 0.5, "probability": 0.2},
    {"kind": "too_many_requests", "retry_after_s": 1, "probability": 0.002},
    {"kind": "garbage_answer", "form": "half", "probability": 0.001},
    {"kind": "duplicate_frame", "channel": "orders", "copies": 1, "probability": 0.2},
    {"kind": "dropped_frame", "channel": "book_lv2", "probability": 0.0005},
    {"kind": "cut", "channel": "ticker", "probability": 0.001},
    {"kind": "reset", "channel": "orders", "probability": 0.03},
    {"kind": "reset", "channel": "trade", "probability": 0.03},
)
STRATEGIES: Final = """
[risk]
daily_loss_pct = 60
daily_loss_halt_pct = 80
drawdown_pct = 60
drawdown_halt_pct = 80
loss_velocity_pct = 0
ramp_pct = 100
max_trades_per_day = 0
max_turnover = 0
max_repeats = 0
max_order_multiple = 0
max_reject_pct = 0
orders_per_day = 0
stale_ms = 60000
intent_ttl_ms = 60000
[strategies.coins]
kind = "crossover"
timeframe = "2s"
fast = 3
slow = 9
notional = 300
symbols = ["BTC_USDT"]
[strategies.patient]
kind = "mean_reversion"
timeframe = "5s"
window = 10
entry_z = 0.5
exit_z = 0.0
notional = 200
is_passive = true
symbols = ["BTC_USDT"]
[strategies.contracts]
kind = "crossover"
timeframe = "3s"
fast = 2
slow = 7
notional = 300
symbols = ["BTC_USDT_PERP"]
"""


class FastClock(trio.abc.Clock):
    """Goes `rate` times as fast as the machine's monotonic clock."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._start_s = 0.0

    def start_clock(self) -> None:
        """Begin at zero."""
        self._start_s = time.monotonic()

    def current_time(self) -> float:
        """Return the seconds since the start."""
        return (time.monotonic() - self._start_s) * self._rate

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Return the machine's seconds until a deadline."""
        return (deadline - self.current_time()) / self._rate


def _settings(path: Path, rest: str, ws: str) -> Settings:
    where = f"""
[bot]
mode = "live"
[exchange]
name = "poloniex"
rest_url = "{rest}"
ws_url = "{ws}/ws/public"
symbols = ["BTC_USDT", "BTC_USDT_PERP"]
[feed]
websocket = "lean"
[live]
account = "day"
wallets = ["spot", "futures"]
private_ws_url = "{ws}/ws/private"
futures_rest_url = "{rest}"
futures_public_ws_url = "{ws}/ws/v3/public"
futures_ws_url = "{ws}/ws/v3/private"
dead_man_s = 600
"""
    file = path / "day.toml"
    file.write_text(where + STRATEGIES)
    return load_settings([file], {}, [])


async def play(hours: float) -> dict[str, object]:
    """Return what the day came to."""
    faults = decode_schedule(msgspec.json.encode(list(FAULTS)), "live day")
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        exchange = await stack.enter_async_context(
            open_exchange(
                generated_markets(SYMBOLS, 7, START_NS),
                speed=1.0,
                accounts=[Funding(KEY, SECRET, {"USDT": CASH}, {"USDT": CASH})],
                terms=ExchangeTerms(takes_wall_clock=False),
                futures=FuturesWing,
            )
        )
        account = exchange.accounts.clients[0]
        assert isinstance(exchange.futures, FuturesWing)
        member = exchange.futures.desk.clearing.member(account)
        member.leverages["BTC_USDT_PERP", MarginMode.CROSS, PosSide.BOTH] = 1
        portal = await stack.enter_async_context(open_portal())
        journal = await stack.enter_async_context(open_sqlite_journal(directory / "day.sqlite", portal))
        settings = _settings(directory, exchange.rest_url, exchange.ws_url.removesuffix("/ws/public"))
        exchange.start()
        await trio.testing.wait_all_tasks_blocked()  # its time begins with its first step, and ours with it
        clock = WallClock(START_NS)
        WALL_NS.set(clock.now_ns)
        exchange.inject(faults)
        terms = Terms(
            settings=settings,
            account="live-day",
            symbols=SYMBOLS,
            rest_url=exchange.rest_url,
            ws_url=settings.exchange.ws_url,
            futures_rest_url=exchange.rest_url,
            futures_ws_url=settings.live.futures_public_ws_url,
            credentials=Credentials(Secret(KEY), Secret(SECRET)),
        )
        end = End()
        trader = Trader(terms, Ports(journal=journal, clock=clock), await journal.load(), end=end)
        truth = Truth(exchange, account, SYMBOLS)
        struck: dict[str, int] = {}
        differences: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trader.run)
            await trio.sleep(hours * 3_600)
            for each in exchange.faults().faults:
                kind = type(each.fault).__struct_config__.tag
                struck[str(kind)] = struck.get(str(kind), 0) + each.struck
            exchange.clear_faults()
            with trio.move_on_after(CLOSING_S):
                while True:
                    await trader.command("flatten", who="campaign")
                    await trio.sleep(1)
                    theirs, ours = truth.books, books_of(trader.keeper.ledger, truth.books)
                    differences = [
                        f"{name}: ours {ours.amounts.get(name, 0)}, theirs {theirs.amounts.get(name, 0)}"
                        for name in sorted({*ours.amounts, *theirs.amounts})
                        if ours.amounts.get(name, 0) != theirs.amounts.get(name, 0)
                    ]
                    differences += [f"lives: {name}" for name in sorted({*ours.living, *theirs.living})]
                    if not differences and trader.keeper.ledger.is_quiet("spot"):
                        break
            end.ask("the day is over", is_complete=True)
        counts = trader.keeper.counts
        ledger = trader.keeper.ledger
        return {
            "simulated_seconds": (clock.now_ns() - START_NS) / 1e9,
            "events": exchange.events_done,
            "orders": counts["orders"],
            "fills": counts["fills"],
            "rejected": counts["rejected"],
            "denied": counts["denied"],
            "faults": struck,
            "latches": [f"{latch.state} by {latch.cause}@{latch.scope}: {latch.detail}" for latch in ledger.latches],
            "books": {name: str(atoms) for name, atoms in truth.books.amounts.items()},
            "differences": differences,
        }


def main() -> int:
    """Play, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--rate", type=float, default=24.0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    result = trio.run(play, arguments.hours, clock=FastClock(arguments.rate))
    print(json.dumps(result, indent=1))
    return 1 if result["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
