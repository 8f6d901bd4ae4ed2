from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from bot.errors import RecordingError
from bot.exchange.simulated.events import BookChange, BookSnapshot, MarketTrade
from bot.exchange.simulated.recording import LINE_BYTES_MAX, merge_sources, open_recording
from tests.exchange.simulated.builders import (
    BTC,
    SNAPSHOT_LINE,
    START_NS,
    Json,
    ListedMarket,
    depth_line,
    real_recording,
    snapshot,
    trade,
    trade_line,
    write_recording,
)

NAME = "spot-btc_usdt-20240808.jsonl"


@pytest.mark.parametrize("name", [NAME, NAME + ".gz"])
def test_a_recording_is_read_plain_or_gzipped(tmp_path: Path, name: str) -> None:
    lines = [SNAPSHOT_LINE, depth_line(99, 101), trade_line(t=START_NS + 1, price="100.125")]
    recording = open_recording(write_recording(tmp_path / name, lines))
    assert list(recording.events()) == [
        BookSnapshot(START_NS, BTC, ((99_500, 12_500),), ((100_500, 20_000),)),
        BookChange(START_NS, BTC, ((99_500, 0),), ()),
        MarketTrade(START_NS + 1, BTC, "5", 100_125, 5_000, "buy"),
    ]
    assert (recording.event_count, recording.first_ns) == (3, START_NS)
    (instrument,) = recording.instruments
    assert (instrument.price_scale, instrument.quantity_scale) == (3, 4)


def test_zeros_at_the_end_are_not_decimals(tmp_path: Path) -> None:
    lines = [SNAPSHOT_LINE, trade_line(price="100.10000", quantity="1.00000000")]
    (instrument,) = open_recording(write_recording(tmp_path / NAME, lines)).instruments
    assert (instrument.price_scale, instrument.quantity_scale) == (2, 4)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("spot-btc_usdt-20240808.jsonl.gz", "BTC_USDT"),
        ("perp-btc_usdt-20240808.jsonl.gz", "BTC_USDT_PERP"),
        ("ETH_USDT.jsonl", "ETH_USDT"),
        ("1inch_usdt.jsonl", "1INCH_USDT"),
    ],
)
def test_the_symbol_is_in_the_file_name(tmp_path: Path, name: str, symbol: str) -> None:
    (instrument,) = open_recording(write_recording(tmp_path / name, [SNAPSHOT_LINE])).instruments
    assert instrument.symbol == symbol
    assert f"{instrument.base}_{instrument.quote}" == symbol.removesuffix("_PERP")


def test_a_file_name_without_symbol_asks_for_one(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "market.jsonl", [SNAPSHOT_LINE])
    with pytest.raises(RecordingError, match=r"market\.jsonl.*symbol"):
        open_recording(path)
    assert open_recording(path, "BTC_USDT").instruments[0].symbol == BTC
    with pytest.raises(RecordingError, match="btcusdt"):
        open_recording(path, "btcusdt")


def test_updates_that_the_snapshot_has_are_skipped(tmp_path: Path) -> None:
    lines = [SNAPSHOT_LINE, depth_line(80, 90), depth_line(95, 100), depth_line(99, 102), depth_line(110, 111)]
    recording = open_recording(write_recording(tmp_path / NAME, lines))
    assert recording.event_count == len(list(recording.events())) == 3


BROKEN: dict[str, tuple[list[Json | bytes], str]] = {
    "empty": ([], "empty"),
    "a trade first": ([trade_line()], "line 1: a trade before the first snapshot"),
    "an update first": ([depth_line(1, 2)], "line 1: a depth update before the first snapshot"),
    "bad JSON": ([SNAPSHOT_LINE, b"{oops\n"], "line 2: JSON is malformed"),
    "not UTF-8": ([SNAPSHOT_LINE, b'{"e":"trade","x":"\xff"}\n'], "line 2"),
    "cut off": ([SNAPSHOT_LINE, b'{"t":1,"e":"trade"'], "line 2"),
    "an empty line": ([SNAPSHOT_LINE, b"\n"], "line 2"),
    "deep": ([SNAPSHOT_LINE, b'{"e":"trade","x":' + b"[" * 100_000 + b"\n"], "line 2"),
    "unknown kind": ([SNAPSHOT_LINE, {**trade_line(), "e": "quote"}], "line 2.*quote"),
    "time goes back": ([SNAPSHOT_LINE, trade_line(t=START_NS - 1)], "line 2: time goes back"),
    "time is text": ([SNAPSHOT_LINE, {**trade_line(), "t": "1"}], "line 2.*int"),
    "absurd time": ([SNAPSHOT_LINE, trade_line(t=2**63)], "line 2"),
    "price is a number": ([SNAPSHOT_LINE, trade_line(price=100.5)], "line 2.*str"),
    "price is negative": ([SNAPSHOT_LINE, trade_line(price="-1")], "line 2.*'-1'"),
    "price is 0": ([SNAPSHOT_LINE, trade_line(price="0.00")], "line 2: a price of 0"),
    "price is NaN": ([SNAPSHOT_LINE, trade_line(price="NaN")], "line 2.*'NaN'"),
    "price is huge": ([SNAPSHOT_LINE, trade_line(price="9" * 400)], "line 2.*999"),
    "exponent": ([SNAPSHOT_LINE, trade_line(price="1e3")], "line 2.*'1e3'"),
    "other digits": ([SNAPSHOT_LINE, trade_line(price="\u0661")], "line 2"),
    "quantity of 0": ([SNAPSHOT_LINE, trade_line(quantity="0.0")], "line 2: a quantity of 0"),
    "too many decimals": ([SNAPSHOT_LINE, trade_line(price="1.123456789", quantity="0.12345678")], "9 decimals"),
    "taker side": ([SNAPSHOT_LINE, trade_line(taker_side="BUY")], "line 2.*BUY"),
    "level of three": ([SNAPSHOT_LINE, depth_line(101, 102, bids=[["1", "1", "1"]])], "line 2"),
    "updates overlap": ([SNAPSHOT_LINE, depth_line(101, 105), depth_line(105, 106)], "line 3: update 105 after"),
    "update backwards": ([SNAPSHOT_LINE, depth_line(105, 104)], "line 2: update ids run backwards"),
    "crossed snapshot": ([{**SNAPSHOT_LINE, "asks": [["99.5", "1"]]}], "line 1: .*best bid"),
    "one-sided snapshot": ([{**SNAPSHOT_LINE, "asks": []}], "line 1: a snapshot without"),
    "older snapshot": ([SNAPSHOT_LINE, {**SNAPSHOT_LINE, "id": 9}], "line 2: snapshot 9 after"),
}


@pytest.mark.parametrize("defect", BROKEN)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_defect_is_refused_with_file_line_and_value(tmp_path: Path, defect: str, ending: str) -> None:
    lines, message = BROKEN[defect]
    path = write_recording(tmp_path / (NAME + ending), lines)
    with pytest.raises(RecordingError, match=message) as refusal:
        open_recording(path)
    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_a_missing_file_a_folder_and_a_false_gzip_are_refused(tmp_path: Path) -> None:
    false_gzip = tmp_path / "btc_usdt.jsonl.gz"
    false_gzip.write_bytes(b"hello")
    folder = tmp_path / "eth_usdt"
    folder.mkdir()
    for path, message in ((false_gzip, "not a gzip"), (folder, "not a regular"), (tmp_path / "a_b", "no such file")):
        with pytest.raises(RecordingError, match=message):
            open_recording(path)


def test_a_torn_or_spoilt_gzip_is_refused(tmp_path: Path) -> None:
    lines: list[Json | bytes] = [SNAPSHOT_LINE, *(trade_line(price=f"{100 + at}.5") for at in range(2_000))]
    path = write_recording(tmp_path / (NAME + ".gz"), lines)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:-3], whole[:500] + b"\x00" * 50 + whole[550:], whole[:2]):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match="gz"):
            open_recording(path)


def test_a_line_without_end_is_refused_without_reading_it_whole(tmp_path: Path) -> None:
    path = tmp_path / (NAME + ".gz")
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(4):
            file.write(b"1" * LINE_BYTES_MAX)
    with pytest.raises(RecordingError, match=r"line 1: longer than"):
        open_recording(path)


def test_a_file_that_changes_while_it_is_played_is_refused(tmp_path: Path) -> None:
    path = write_recording(tmp_path / NAME, [SNAPSHOT_LINE])
    recording = open_recording(path)
    write_recording(path, [SNAPSHOT_LINE, trade_line(price="1.12345")])
    with pytest.raises(RecordingError, match="changed"):
        list(recording.events())


def test_merged_sources_play_by_time() -> None:
    eth = "ETH_USDT"
    one = ListedMarket([snapshot(), trade(at_s=2)])
    two = ListedMarket([snapshot(at_s=1, symbol=eth), trade(at_s=2, symbol=eth), trade(at_s=3, symbol=eth)], eth)
    merged = merge_sources([one, two])
    assert [(event.symbol, event.ts_ns // 10**9 % 10) for event in merged.events()] == [
        *((BTC, 0), (eth, 1), (BTC, 2), (eth, 2), (eth, 3))
    ]
    assert merged.event_count == 5
    assert [instrument.symbol for instrument in merged.instruments] == [BTC, eth]


def test_one_symbol_cannot_be_merged_twice() -> None:
    with pytest.raises(RecordingError, match="BTC_USDT comes twice"):
        merge_sources([ListedMarket([snapshot()]), ListedMarket([snapshot()])])


@pytest.mark.parametrize(
    ("name", "events", "scales"),
    [("spot-btc_usdt", 13_206, (2, 6)), ("spot-eth_usdt", 9_539, (2, 5)), ("perp-btc_usdt", 27_856, (2, 4))],
)
def test_the_real_recordings_are_good(name: str, events: int, scales: tuple[int, int]) -> None:
    recording = real_recording(f"{name}-20240808.jsonl.gz")
    (instrument,) = recording.instruments
    assert (instrument.price_scale, instrument.quantity_scale) == scales
    assert recording.event_count == sum(1 for _ in recording.events()) == events
