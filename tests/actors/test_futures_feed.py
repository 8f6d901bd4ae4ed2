"""A feed of perpetuals: contracts are lots, marks and funding are said, and it stands beside a feed of spot."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import trio

from actors.clock import WallClock
from actors.feed import Feed, Market
from actors.mailbox import Office
from bot.config import FeedSettings
from bot.control.view import FeedStatus
from bot.core import messages as m
from bot.core.flow import Stage
from bot.errors import OffGrid
from bot.exchange.network import INTERNET
from bot.exchange.poloniex.dialects import FUTURES, decode_futures_market, perpetual
from bot.exchange.poloniex.futures_client import FuturesClient
from bot.exchange.poloniex.futures_codec import decode_instrument
from bot.exchange.poloniex.futures_public import FuturesPublic
from bot.exchange.simulated.futures_instruments import generated_markets
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.server import open_exchange
from tests.exchange.poloniex.futures_samples import envelope, instrument_row
from tests.exchange.simulated.builders import BTC, START_NS
from tests.exchange.simulated.futures_builders import PERP
from tests.support.cli import Bench


class Listening(Office):
    """An office that remembers what the feed said."""

    def __init__(self) -> None:
        super().__init__((Stage.RISK_GATE, Stage.PERSISTENCE, Stage.STRATEGY), is_lockstep=False)
        self.said: list[m.AnyMessage] = []

    def post(self, speaker: Stage, message: m.AnyMessage) -> None:
        self.said.append(message)


SETTINGS = FeedSettings(
    websocket="trio-websocket",
    book_silence_s=30,
    trades_silence_s=900,
    ticker_silence_s=900,
    candles_silence_s=900,
    ping_interval_s=10,
    backoff_min_s=0.01,
    backoff_max_s=0.02,
    history_bars=5,
)
DAY_NS = 86_400 * m.SECOND_NS
WANTED = (m.InstrumentListed, m.Quote, m.Depth, m.TradeTick, m.MarkPrice, m.FundingRate)


async def test_a_feed_of_perpetuals_says_books_trades_marks_and_funding_in_contracts() -> None:
    office = Listening()
    source = generated_markets([BTC, PERP], 1, START_NS)
    async with open_exchange(source, speed=20.0, futures=FuturesWing) as exchange:
        async with INTERNET.open_http(
            exchange.rest_url, connect_timeout_s=5, request_timeout_s=5, user_agent="test"
        ) as http:
            feed = Feed(
                Market(
                    ws_url=exchange.ws_url.replace("/ws/public", "/ws/v3/public"),
                    symbols=(PERP,),
                    timeframes_ns={PERP: (60 * m.SECOND_NS,)},
                ),
                FuturesPublic(FuturesClient(http)),
                SETTINGS,
                WallClock(),
                office,
                FeedStatus(),
                connect_timeout_s=5,
                on_ready=exchange.start,
                dialect=FUTURES,
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(feed.run)
                with trio.fail_after(30):
                    while not all(any(isinstance(each, kind) for each in office.said) for kind in WANTED):
                        await trio.sleep(0.02)
                nursery.cancel_scope.cancel()
        assert exchange.futures is not None
    listed = next(each.instrument for each in office.said if isinstance(each, m.InstrumentListed))
    assert (listed.symbol, listed.is_perp) == (PERP, True)
    funding = next(each for each in office.said if isinstance(each, m.FundingRate))
    assert START_NS < funding.due_ns <= START_NS + 2 * DAY_NS
    quote = next(each for each in office.said if isinstance(each, m.Quote))
    mark = next(each for each in office.said if isinstance(each, m.MarkPrice))
    assert abs(mark.price_ticks - quote.bid_ticks) < quote.bid_ticks // 20


def test_F66_the_sizes_of_a_futures_book_are_contracts() -> None:
    raw = (
        b'{"channel":"book_lv2","action":"snapshot","data":[{"s":"BTC_USDT_PERP","bids":[["60000.1","7"]],'
        b'"asks":[["60000.2","9"]],"id":5,"lid":4,"ts":1700000000000,"cT":1700000000000}]}'
    )
    frame = decode_futures_market(raw)
    assert msgspec.to_builtins(frame)["data"][0]["bids"] == [("60000.1", "7")]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"lotSz": "5"}, "a lot of 5 contracts"), ({"ctVal": "0.002"}, "contract value of 0.002")],
    ids=["lot", "contract-value"],
)
def test_a_contract_whose_steps_are_no_powers_of_ten_is_not_held(change: dict[str, str], words: str) -> None:
    with pytest.raises(OffGrid, match=words):
        perpetual(decode_instrument(envelope(instrument_row(**change))))


BOTH = """
[exchange]
symbols = ["BTC_USDT", "BTC_USDT_PERP"]
[strategies.coins]
kind = "crossover"
timeframe = "1s"
fast = 2
slow = 4
notional = 500
symbols = ["BTC_USDT"]
[strategies.contracts]
kind = "crossover"
timeframe = "1s"
fast = 2
slow = 4
notional = 500
symbols = ["BTC_USDT_PERP"]
"""


def test_coins_and_contracts_are_traded_in_one_run(tmp_path: Path) -> None:
    (tmp_path / "both.toml").write_text(BOTH)
    run = ("run", "--headless", "--json", "--exchange", "simulated", "--speed", "20", "--for", "15s")
    result = json.loads(Bench(tmp_path).run(*run, "--config", tmp_path / "both.toml").stdout)
    assert set(result["positions"]) == {"BTC_USDT", "BTC_USDT_PERP"}
    assert result["reconnects"] == 0
    contracts = result["positions"]["BTC_USDT_PERP"]
    assert float(contracts["quantity"]) * 1000 % 1 < 1e-9  # one contract is a thousandth of a coin
