from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.backtest import parse
from bot.backtest.data import Reading, load_candles, load_funding, name_parts, read_text
from bot.backtest.made import made_market
from bot.core.durations import UNITS_NS
from bot.errors import DataError
from tests.support.candle_files import CANDLES, START_MS, row, write, write_market

MINUTE_NS = UNITS_NS["m"]
START_NS = START_MS * 1_000_000


def load_text(path: Path, *rows: str, reading: Reading | None = None):
    return load_candles(write(path / "BTC_USDT-1m.csv", rows), reading or Reading())


def test_candles_come_out_as_they_were_written(tmp_path: Path) -> None:
    market = made_market(bars=1_000, seed=3, timeframe_ns=MINUTE_NS)
    for name in ("BTC_USDT-1m.csv", "BTC_USDT-1m.csv.gz"):
        loaded = load_candles(write_market(tmp_path / name, market), Reading(quantity_scale=6))
        assert loaded.market.instrument == market.instrument
        assert loaded.market.timeframe_ns == MINUTE_NS
        for column, own in zip(loaded.market.candles, market.candles, strict=True):
            np.testing.assert_array_equal(column, own)
        assert loaded.report.findings == ()
        assert (loaded.report.rows, loaded.report.bars) == (1_000, 1_000)


def test_the_report_names_the_text_whatever_it_is_packed_in(tmp_path: Path) -> None:
    market = made_market(bars=5, seed=3, timeframe_ns=MINUTE_NS)
    plain, packed = (load_candles(write_market(tmp_path / f"a.csv{end}", market), Reading()) for end in ("", ".gz"))
    assert plain.report.sha256 == packed.report.sha256


@pytest.mark.parametrize("per_second", [1, 1_000, 1_000_000, 1_000_000_000])
def test_the_unit_of_a_time_is_told_by_its_size(tmp_path: Path, per_second: int) -> None:
    lines = [f"{(START_MS // 1000 + 60 * at) * per_second},1,1,1,1,0" for at in range(3)]
    starts = load_text(tmp_path, *lines).market.candles.start_ns
    assert starts.tolist() == [START_NS + at * MINUTE_NS for at in range(3)]


@pytest.mark.parametrize(
    "first",
    [
        "2023-11-14T22:15:00Z",
        "2023-11-14 22:15:00+00:00",
        "2023-11-14T23:15:00.000000+01:00",
        "2023-11-14T16:45-0530",
        "2023-11-14 22:15:00 UTC",
        "2023-11-15T01:15:00+03",
        "1700000100000.0",
        "1.7000001e12",
    ],
)
def test_a_time_with_a_zone_is_a_time(tmp_path: Path, first: str) -> None:
    reading = Reading(timeframe_ns=MINUTE_NS)
    assert load_text(tmp_path, f"{first},1,1,1,1,0", reading=reading).market.candles.start_ns.tolist() == [START_NS]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        ("2023-11-14T22:15:00", "no time zone"),
        ("2023-11-14", "no time zone"),
        ("2023-02-29T22:15:00Z", "bad time"),
        ("2023-11-14T24:15:00Z", "bad time"),
        ("2023-11-14T22:15:00X", "bad time"),
        ("17", "outside the years 1990 to 2099"),
        ("20231114", "outside the years 1990 to 2099"),
        ("1700000100000.5", "bad time"),
        ("yesterday", "malformed"),
    ],
)
def test_a_time_that_is_not_certain_is_refused(tmp_path: Path, first: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_text(tmp_path, f"{first},1,1,1,1,0", reading=Reading(timeframe_ns=MINUTE_NS))


def test_one_file_has_one_unit_of_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 row refused: bad time .*line 3: 1700000160,1,1,1,1,1"):
        load_text(tmp_path, row(0), f"{START_MS // 1000 + 60},1,1,1,1,1", row(2))


class Number(NamedTuple):
    text: str
    ticks: int
    scale: int


@pytest.mark.parametrize(
    "number",
    [
        Number("0.1", 1, 1),
        Number("0.10000000", 1, 1),
        Number("00012.5", 125, 1),
        Number("12.", 12, 0),
        Number(".5", 5, 1),
        Number("1e-05", 1, 5),
        Number("1.5E+2", 150, 0),
        Number("1234.5e-3", 12345, 4),
        Number(" 7.25 ", 725, 2),
        Number("0.00000001", 1, 8),
    ],
)
def test_prices_are_exact_and_their_decimals_found(tmp_path: Path, number: Number) -> None:
    text = number.text
    market = load_text(
        tmp_path, row(0, f"{text},{text},{text},{text},1"), row(1, f"{text},{text},{text},{text},1")
    ).market
    assert market.instrument.price_scale == number.scale
    assert market.candles.open.tolist() == [number.ticks] * 2


@pytest.mark.parametrize("text", ["0.000000001", "1.5e-9", "0.0030000000000000004"])
def test_a_price_between_two_ticks_is_refused_or_rounded(tmp_path: Path, text: str) -> None:
    rows = [row(0, "1,2,0.00000001,1,1"), row(1, f"1,2,{text},1,1")]
    with pytest.raises(DataError, match=r"1 row refused: off the tick \(--repair round or --repair drop would go on\)"):
        load_text(tmp_path, *rows)
    loaded = load_text(tmp_path, *rows, reading=Reading(repairs=frozenset({"drop"})))
    assert loaded.report.findings[0].done == "dropped"


def test_prices_of_a_float_are_rounded_to_the_finest_tick_and_told(tmp_path: Path) -> None:
    prices = [100.30000000000001, 0.00512345678901234]
    loaded = load_text(tmp_path, *(row(at, f"{price},{price},{price},{price},1") for at, price in enumerate(prices)))
    assert loaded.market.candles.close.tolist() == [10_030_000_000, 512_346]
    (finding,) = loaded.report.findings
    assert (finding.fault, finding.count, finding.done) == ("off the tick", 2, "rounded")
    with pytest.raises(DataError, match="off the tick"):
        load_text(tmp_path, row(0, "1.000000001,2,1,1,1"), row(1), reading=Reading(price_scale=8))


def test_rounding_goes_to_the_nearest_tick(tmp_path: Path) -> None:
    reading = Reading(price_scale=1, repairs=frozenset({"round"}))
    market = load_text(
        tmp_path, row(0, "1.25,1.26,1.04,1.2,1"), row(1, "125e-2,1.3,1.1,1.249,1"), reading=reading
    ).market
    assert [column.tolist() for column in market.candles[1:5]] == [[13, 13], [13, 13], [10, 11], [12, 12]]


def test_a_price_of_more_decimals_is_read_where_the_tick_is_given(tmp_path: Path) -> None:
    lines = [row(at, "0.00000874123,0.00000874123,0.00000874123,0.00000874123,5e9") for at in range(2)]
    market = load_text(tmp_path, *lines, reading=Reading(price_scale=11)).market
    assert market.candles.close.tolist() == [874_123, 874_123]
    assert market.instrument.quantity_scale == 5


def test_quantities_are_cut_to_whole_lots(tmp_path: Path) -> None:
    market = load_text(
        tmp_path, row(0, "1,1,1,1,0.999"), row(1, "1,1,1,1,2.5e-1"), reading=Reading(quantity_scale=1)
    ).market
    assert market.candles.volume.tolist() == [9, 2]


@given(
    st.decimals(min_value=0, max_value=10**6, places=8),
    st.sampled_from(["{:f}", "{:e}", "{:E}", "+{:f}"]),
    st.integers(0, 8),
)
@settings(max_examples=200, deadline=None)
def test_a_number_is_what_decimal_says_it_is(number: Decimal, form: str, scale: int) -> None:
    text = form.format(number)
    columns, codes = np.zeros((6, 1), np.int64), np.zeros(1, np.uint8)
    content = np.frombuffer(f"0,{text},1,1,1,{text}\n".encode(), np.uint8)
    parse.read_rows(content, 0, False, np.array([0, scale, scale, scale, scale, scale], np.int64), columns, codes)
    if text.startswith("+"):
        assert codes[0] == parse.NOT_A_NUMBER
        return
    exact = number.scaleb(scale)
    assert columns[5, 0] == int(exact)
    assert columns[1, 0] == int((exact + Decimal("0.5")).to_integral_value("ROUND_FLOOR"))
    assert codes[0] == (parse.FINE if exact == int(exact) else parse.OFF_TICK)


@given(st.binary(max_size=200).filter(lambda text: not text.endswith(b"\n")))
@settings(max_examples=300, deadline=None)
def test_no_bytes_make_the_reader_fail(noise: bytes) -> None:
    content = np.frombuffer(noise + b"\n", np.uint8)
    count = int((content == 10).sum())
    for is_iso in (False, True):
        columns, codes = np.zeros((6, count), np.int64), np.zeros(count, np.uint8)
        parse.read_rows(content, 0, is_iso, np.full(6, 8, np.int64), columns, codes)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("1,2,3,4,5,6", parse.FINE),
        ("1,2,3,4,5,6\r", parse.FINE),
        ("1,2,3,4,5", parse.NOT_SIX),
        ("1,2,3,4,5,6,7", parse.NOT_SIX),
        ("", parse.NOT_SIX),
        ("1,2,x,4,5,6", parse.NOT_A_NUMBER),
        ("1,2,3.4.5,4,5,6", parse.NOT_A_NUMBER),
        ("1,2,3 4,4,5,6", parse.NOT_A_NUMBER),
        ("1,2,0x10,4,5,6", parse.NOT_A_NUMBER),
        ("1,2,1e,4,5,6", parse.NOT_A_NUMBER),
        ('1,2,"3",4,5,6', parse.NOT_A_NUMBER),
        ("1,2,,4,5,6", parse.MISSING),
        ("1,2,3,4,5,", parse.MISSING),
        ("1,2,NaN,4,5,6", parse.MISSING),
        ("1,2,-inf,4,5,6", parse.MISSING),
        ("1,2,null,4,5,6", parse.MISSING),
        ("1,2,99999999999999999999,4,5,6", parse.TOO_LARGE),
        ("1,2,1e300,4,5,6", parse.TOO_LARGE),
        ("1,2," + "0" * 400 + ",4,5,6", parse.OVERLONG),
        ("1.5,2,3,4,5,6", parse.BAD_TIME),
        ("1,2.123456789,3,4,5,6", parse.OFF_TICK),
        ("1,2.123456789,nan,4,5,6", parse.MISSING),
    ],
)
def test_what_is_wrong_with_a_row_has_a_code(line: str, code: int) -> None:
    columns, codes = np.zeros((6, 1), np.int64), np.zeros(1, np.uint8)
    content = np.frombuffer(line.encode() + b"\n", np.uint8)
    parse.read_rows(content, 0, False, np.array([0, 8, 8, 8, 8, 8], np.int64), columns, codes)
    assert codes[0] == code


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1 must be time,open,high,low,close,volume"),
        (b"1700000100000,1,1,1,1,1\n", "line 1 must be"),
        (b"time,open,high,low,close\n", "line 1 must be"),
        ("time,open,high,low,close,volume\n".encode("utf-16"), "is not UTF-8 text"),
        (b"\x00" * 5_000, "line 1 must be"),
        (b"time,open,high,low,close,volume\n", "there is no bar in it"),
        (gzip.compress(b"time,open,high,low,close,volume\n")[:-9], "a broken gzip file"),
        (b"\x1f\x8b rubbish", "a broken gzip file"),
    ],
    ids=["empty", "no header", "five columns", "UTF-16", "zeros", "no rows", "cut gzip", "false gzip"],
)
def test_a_file_that_is_no_candles_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "A_B-1m.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        load_candles(path, Reading())


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: there is no such file"):
        read_text(tmp_path / "none.csv")
    with pytest.raises(DataError, match="is not a file"):
        read_text(tmp_path)
    (tmp_path / "plain.csv.gz").write_text("time")
    with pytest.raises(DataError, match=r"named \.gz and is not a gzip file"):
        read_text(tmp_path / "plain.csv.gz")


def test_a_compressed_file_is_read_no_further_than_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.backtest.data.FILE_BYTES_MAX", 1_000_000)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(DataError, match="more than 1000000 bytes"):
        read_text(tmp_path / "bomb.csv.gz")


def test_a_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "A_B.csv"
    path.write_bytes("\ufeffTime, Open,High,Low,Close,Volume\r\n".encode() + f"{row(0)}\r\n{row(1)}\r\n\r\n".encode())
    assert load_candles(path, Reading()).report.bars == 2


@pytest.mark.parametrize(
    ("name", "symbol", "length_ns"),
    [
        ("ETH_BTC-5m.csv.gz", "ETH_BTC", 5 * MINUTE_NS),
        ("XRP_USDT_PERP-5m.csv.gz", "XRP_USDT_PERP", 5 * MINUTE_NS),
        ("EURUSD-1h.csv.gz", "EUR_USD", 60 * MINUTE_NS),
        ("btc_usdt_1m.csv", "BTC_USDT", MINUTE_NS),
        ("BTCUSDT.csv", "BTC_USDT", None),
        ("BTC_USDT-1m-2024-01.csv", "BTC_USDT", MINUTE_NS),
        ("BTC_USDT-7m.csv", "BTC_USDT", None),
        ("candles.csv", "CANDLES_QUOTE", None),
        ("FILE.csv.gz", "FILE_QUOTE", None),
        ("my own (1).csv", "MY_QUOTE", None),
        ("ü.csv", "DATA_QUOTE", None),
        ("BTC_PERP.csv", "BTCPERP_QUOTE", None),
    ],
)
def test_a_file_says_by_its_name_what_it_holds(name: str, symbol: str, length_ns: int | None) -> None:
    assert name_parts(name) == (symbol, length_ns)


def test_the_timeframe_is_the_most_frequent_step_and_must_be_that_of_the_name(tmp_path: Path) -> None:
    rows = [row(0), row(5), row(10), row(30), row(35)]
    assert load_candles(write(tmp_path / "A_B.csv", rows), Reading()).report.timeframe == "5m"
    with pytest.raises(DataError, match="its name says 1m, and its bars are 300 s apart"):
        load_candles(write(tmp_path / "A_B-1m.csv", rows), Reading())
    with pytest.raises(DataError, match=r"its bars are 420 s apart, which is no timeframe"):
        load_candles(write(tmp_path / "A_B.csv", [row(0), row(7)]), Reading())
    with pytest.raises(DataError, match="one bar does not say how long it is"):
        load_candles(write(tmp_path / "A_B.csv", [row(0)]), Reading())


def test_steps_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    values = row(0, "0.00000001,1,0.00000001,1,1"), row(1)
    with pytest.raises(DataError, match="8 decimals of a price and 9 of a lot are more than 16 together"):
        load_text(tmp_path, *values, reading=Reading(quantity_scale=9))


def test_funding_comes_from_a_file_of_its_own(tmp_path: Path) -> None:
    market = made_market("BTC_USDT_PERP", bars=10, seed=1, timeframe_ns=MINUTE_NS)
    path = write(tmp_path / "f.csv", ["1700000100000,0.0001", "2023-11-15T06:15:00Z,-0.000375"], "time,rate")
    funded = load_funding(path, market)
    assert funded.funding_ns.tolist() == [START_NS, START_NS + 8 * 60 * MINUTE_NS]
    assert funded.funding_ppb.tolist() == [100_000, -375_000]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["1700000100000,0.0001", "1700000100000,0.0001"], "line 3: .* does not come after"),
        (["1700000100000,x"], "line 2: .*a rate is a number"),
        (["1700000100000,NaN"], "line 2: .*a rate is a number"),
        (["1700000100000,2"], "line 2: .*from -1 to 1"),
        (["1700000100000,0.0000000001"], "at most 9 decimals"),
        (["2023-11-15T06:15:00,0.1"], "is no time"),
        (["5,0.1"], "is no time"),
        (["1700000100000"], "must be time,rate"),
    ],
)
def test_bad_funding_is_refused_with_its_line(tmp_path: Path, rows: list[str], words: str) -> None:
    market = made_market("BTC_USDT_PERP", bars=10, seed=1, timeframe_ns=MINUTE_NS)
    with pytest.raises(DataError, match=words):
        load_funding(write(tmp_path / "f.csv", rows, "time,rate"), market)


@pytest.mark.parametrize(
    ("name", "bars", "symbol"),
    [
        ("ETH_BTC-5m.csv.gz", 5_760, "ETH_BTC"),
        ("LTC_BTC-5m.csv.gz", 5_760, "LTC_BTC"),
        ("XRP_USDT_PERP-5m.csv.gz", 1_999, "XRP_USDT_PERP"),
        ("EURUSD-1h.csv.gz", 5_000, "EUR_USD"),
    ],
)
def test_real_candles_are_read_as_decimal_reads_them(name: str, bars: int, symbol: str) -> None:
    if not (CANDLES / name).exists():
        pytest.skip("no real candles beside this checkout")
    market, report = load_candles(CANDLES / name, Reading())
    assert (report.symbol, report.bars) == (symbol, bars)
    lines = gzip.decompress((CANDLES / name).read_bytes()).decode().splitlines()[1:]
    prices = [[Decimal(field) for field in line.split(",")] for line in lines]
    scale = market.instrument.price_scale
    for at, column in enumerate(market.candles[1:5], 1):
        assert column.tolist() == [row[at].scaleb(scale) for row in prices]
    assert market.candles.volume.tolist() == [int(row[5].scaleb(8)) for row in prices]
