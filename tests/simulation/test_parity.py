"""The promise: the same data gives the same trades, through real sockets and actors or in a plain loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.backtest.replay import Replayed, replay_market
from bot.config import load_settings
from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.recording import open_recording
from tests.support.cli import Bench

START_NS = 1_767_225_600 * 10**9


def replayed(source: MarketSource, account: str, *sets: str, for_ns: int | None = None) -> Replayed:
    return replay_market(source, load_settings([], {}, sets), account=account, for_ns=for_ns)


@pytest.mark.parametrize("websocket", ["trio-websocket", "lean"])
def test_a_recording_gives_the_same_journal_through_sockets_twice_and_in_the_plain_loop(
    bench: Bench, any_recording: Path, tmp_path: Path, websocket: str
) -> None:
    command = ("run", "--headless", "--exchange", "simulated", "--recording", any_recording, "--speed", "max", "--json")
    command += ("--set", f"feed.websocket={websocket}")
    first = bench.result(*command)
    second = Bench(tmp_path / "another place").result(*command)
    assert first["events"] == open_recording(any_recording).event_count
    assert first["fills"] >= 40
    assert first["journal_hash"] == second["journal_hash"]
    account = first["journal"].removesuffix(".sqlite")
    loop = replayed(open_recording(any_recording), account, f"feed.websocket={websocket}")
    assert loop.journal_hash == first["journal_hash"]
    assert {name: loop.keeper.counts[name] for name in ("orders", "denied", "fills")} == {
        name: first[name] for name in ("orders", "denied", "fills")
    }
    assert (loop.frames, loop.signals) == (first["frames"], first["signals"])


def test_a_replay_that_was_played_to_its_end_begins_anew_in_the_same_place(bench: Bench, btc_recording: Path) -> None:
    command = ("run", "--headless", "--recording", btc_recording, "--speed", "max", "--json")
    first, second = bench.result(*command), bench.result(*command)
    assert first["journal_hash"] == second["journal_hash"]
    assert second["epoch"] == 1


def test_a_generated_market_gives_the_same_journal_for_the_same_seed(bench: Bench, tmp_path: Path) -> None:
    command = ("run", "--headless", "--exchange", "simulated", "--speed", "max", "--for", "4m", "--json")
    first = bench.result(*command, "--seed", "7")
    loop = replayed(
        GeneratedMarket(("BTC_USDT", "ETH_USDT"), 7, START_NS),
        first["journal"].removesuffix(".sqlite"),
        "bot.seed=7",
        for_ns=240 * 10**9,
    )
    assert first["fills"] > 0
    assert loop.journal_hash == first["journal_hash"]
    assert Bench(tmp_path / "other").result(*command, "--seed", "8")["journal_hash"] != first["journal_hash"]


@pytest.mark.parametrize("setting", ["strategies.crossover.fast=6", "paper.latency_ms=120", "risk.max_order_value=900"])
def test_another_setting_is_another_run(btc_recording: Path, setting: str) -> None:
    source = open_recording(btc_recording)
    assert replayed(source, "a", setting).journal_hash != replayed(source, "a").journal_hash
