from __future__ import annotations

import hashlib
from itertools import islice, pairwise
from statistics import fmean, pstdev

import msgspec
import pytest

from bot.exchange.simulated.events import BookChange, BookSnapshot, MarketTrade
from bot.exchange.simulated.generator import Chance, GeneratedMarket
from bot.exchange.simulated.venue import Venue
from tests.exchange.simulated.builders import BTC, START_NS

ETH = "ETH_USDT"


def market(*symbols: str, seed: int = 7) -> GeneratedMarket:
    return GeneratedMarket(symbols or (BTC,), seed, START_NS)


def fingerprint(made: GeneratedMarket, events: int = 3_000) -> str:
    content = b"".join(msgspec.json.encode(event) for event in islice(made.events(), events))
    return hashlib.sha256(content).hexdigest()[:16]


def test_the_same_seed_gives_the_same_market() -> None:
    assert fingerprint(market(BTC, ETH)) == fingerprint(market(BTC, ETH))
    assert fingerprint(market(BTC, ETH)) != fingerprint(market(BTC, ETH, seed=8))


def test_the_market_of_a_seed_is_the_same_on_every_machine() -> None:
    assert fingerprint(market(BTC, ETH, "DOGE_USDT")) == "4f491020513fba16"


def test_a_market_does_not_depend_on_its_neighbours() -> None:
    alone = list(islice(market(ETH).events(), 500))
    together = [event for event in islice(market(BTC, ETH).events(), 2_000) if event.symbol == ETH]
    assert together[:500] == alone


def test_random_numbers_are_those_of_splitmix64() -> None:
    chance = Chance(1234567)
    assert [chance.bits() for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_random_numbers_have_the_moments_that_they_should() -> None:
    chance = Chance(1)
    gauss = [chance.gauss() for _ in range(20_000)]
    exponential = [chance.exponential() for _ in range(20_000)]
    assert fmean(gauss) == pytest.approx(0.0, abs=0.03)
    assert pstdev(gauss) == pytest.approx(1.0, abs=0.03)
    assert fmean(exponential) == pytest.approx(1.0, abs=0.03)
    assert pstdev(exponential) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_the_book_is_never_crossed_thin_or_negative_and_time_never_goes_back(seed: int) -> None:
    made = market(BTC, ETH, "DOGE_USDT", seed=seed)
    venue = Venue(made.instruments, made.first_ns)
    ids: set[tuple[str, str]] = set()
    for event in islice(made.events(), 20_000):
        assert event.ts_ns >= venue.time_ns
        venue.apply(event, ())
        if isinstance(event, MarketTrade):
            assert event.price_ticks > 0
            assert event.qty_lots > 0
            assert (event.symbol, event.trade_id) not in ids
            ids.add((event.symbol, event.trade_id))
        window = venue.markets[event.symbol].book.window
        assert len(window.bids) == len(window.asks) == 20
        assert 0 < window.bids[-1][0] < window.bids[0][0] < window.asks[0][0]
        assert min(lots for _, lots in window.bids + window.asks) > 0


def test_a_trade_happens_at_a_price_of_the_book_before_it() -> None:
    best: dict[str, tuple[int, int]] = {}
    checked = 0
    made = market()
    venue = Venue(made.instruments, made.first_ns)
    for event in islice(made.events(), 5_000):
        if isinstance(event, MarketTrade) and event.symbol in best:
            bid, ask = best.pop(event.symbol)
            assert event.price_ticks == (ask if event.taker_side == "buy" else bid)
            checked += 1
        venue.apply(event, ())
        if isinstance(event, BookChange | BookSnapshot):
            window = venue.markets[event.symbol].book.window
            best[event.symbol] = window.bids[0][0], window.asks[0][0]
    assert checked > 100


def test_a_market_is_lively_and_its_volatility_comes_in_clusters() -> None:
    made = market()
    venue = Venue(made.instruments, made.first_ns)
    mids: list[int] = []
    spreads: list[int] = []
    trades = 0
    for event in islice(made.events(), 60_000):
        venue.apply(event, ())
        trades += isinstance(event, MarketTrade)
        if isinstance(event, BookChange):
            window = venue.markets[BTC].book.window
            spreads.append(window.asks[0][0] - window.bids[0][0])
            mids.append(venue.markets[BTC].mark_ticks)
    assert 1 <= trades / ((venue.time_ns - START_NS) / 1e9) <= 10
    assert 1 <= min(spreads) <= fmean(spreads) <= max(spreads) <= 5
    moves = [(after - before) / before for before, after in zip(mids[::8], mids[8::8], strict=False)]
    usual = pstdev(moves)
    assert fmean((move / usual) ** 4 for move in moves) > 3.3  # fatter tails than the normal distribution's 3
    sizes = [abs(move) for move in moves]
    middle = fmean(sizes)
    shared = fmean((one - middle) * (two - middle) for one, two in pairwise(sizes))
    assert shared / pstdev(sizes) ** 2 > 0.03


@pytest.mark.parametrize("symbols", [(), (BTC, BTC), ("BTC",), ("_USDT",)])
def test_symbols_must_be_some_pairs_each_once(symbols: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="symbol"):
        GeneratedMarket(symbols, 1, START_NS)
