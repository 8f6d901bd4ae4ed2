from __future__ import annotations

from itertools import islice

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.instrument import ATOMS
from bot.exchange.simulated.events import BookChange, BookSnapshot, MarketTrade
from bot.exchange.simulated.futures_instruments import (
    DEFAULT_SYMBOLS,
    ContractSource,
    generated_markets,
    generated_perpetuals,
    perp_symbol,
    perpetual,
    spot_symbol,
)
from bot.exchange.simulated.futures_listing import listing
from bot.exchange.simulated.futures_positions import RATE
from bot.exchange.simulated.futures_prices import FUNDING_NS, INTEREST_RATE, RATE_MAX, ContractPrices
from bot.exchange.simulated.generator import GeneratedMarket
from tests.exchange.simulated.builders import (
    BTC,
    START_NS,
    ListedMarket,
    change,
    instrument,
    real_recording,
    snapshot,
    trade,
)
from tests.exchange.simulated.futures_builders import PERP

SECOND_NS = 10**9


def prices() -> ContractPrices:
    return ContractPrices(PERP, START_NS)


def test_prices_are_taken_once_a_second() -> None:
    made = prices()
    taken = [made.sample(START_NS + at * SECOND_NS // 4, 6_000_000 + at, None) for at in range(9)]
    assert [at for at, is_taken in enumerate(taken) if is_taken] == [0, 4, 8]
    assert made.mark_ticks == made.index_ticks == 6_000_008


def test_without_a_book_there_is_no_price() -> None:
    made = prices()
    assert not made.sample(START_NS, None, 6_000_000)
    assert made.mark_ticks is None


def test_the_mark_follows_the_index_at_once_and_the_book_slowly() -> None:
    made = prices()
    made.sample(START_NS, 6_000_000, 6_000_000)
    made.sample(START_NS + SECOND_NS, 6_006_000, 6_000_000)
    assert made.mark_ticks == 6_000_100  # a sixtieth of the way
    made.sample(START_NS + 100 * SECOND_NS, 6_106_000, 6_100_000)
    assert (made.index_ticks, made.mark_ticks) == (6_100_000, 6_106_000)


def test_the_mark_stays_near_the_index() -> None:
    made = prices()
    made.sample(START_NS, 9_000_000, 6_000_000)
    assert made.mark_ticks == 6_030_000


def test_mark_and_rate_can_be_injected() -> None:
    made = prices()
    made.injected_mark_ticks, made.injected_rate = 123, -RATE // 100
    made.sample(START_NS, 6_000_000, None)
    assert (made.mark_ticks, made.rate) == (123, -RATE // 100)


@pytest.mark.parametrize(
    ("book", "rate"),
    [
        (6_000_000, INTEREST_RATE),
        (6_003_000, INTEREST_RATE),  # a premium within 0.05 % of the interest rate
        (6_006_000, 50_000),  # 0.1 % less the pull of 0.05 %
        (5_994_000, -50_000),
        (6_600_000, RATE_MAX),
        (5_400_000, -RATE_MAX),
    ],
)
def test_the_funding_rate_is_the_premium_pulled_to_the_interest_rate_and_bounded(book: int, rate: int) -> None:
    made = prices()
    made.sample(START_NS, book, 6_000_000)
    assert made.rate == rate


def test_funding_is_due_at_00_08_and_16_utc_once_each() -> None:
    made = prices()
    made.sample(START_NS, 6_000_000, None)
    first_ns = made.next_funding_ns
    assert first_ns % FUNDING_NS == 0
    assert list(made.fundings_due(first_ns - 1)) == []
    (due,) = made.fundings_due(first_ns)
    assert due == (first_ns, INTEREST_RATE, 6_000_000)
    assert list(made.fundings_due(first_ns)) == []
    assert [one.ts_ns for one in made.fundings_due(first_ns + 2 * FUNDING_NS)] == [
        first_ns + FUNDING_NS,
        first_ns + 2 * FUNDING_NS,
    ]
    assert len(made.fundings) == 3


def test_no_funding_before_there_is_a_price() -> None:
    made = prices()
    assert list(made.fundings_due(START_NS + 3 * FUNDING_NS)) == []


@given(st.lists(st.tuples(st.integers(1, 10**7), st.integers(1, 10**7)), min_size=1, max_size=20))
def test_the_mark_is_always_a_price(middles: list[tuple[int, int]]) -> None:
    made = prices()
    for at, (book, spot) in enumerate(middles):
        made.sample(START_NS + at * SECOND_NS, book, spot)
        assert made.mark_ticks is not None
        assert made.mark_ticks >= 1
        assert abs(made.mark_ticks - spot) <= max(spot // 200, 1)
        assert -RATE_MAX <= made.rate <= RATE_MAX


# --- markets in contracts


def test_a_contract_is_a_thousandth_of_a_bitcoin() -> None:
    contract = perpetual(instrument(BTC))
    assert (contract.symbol, contract.instrument.quantity_scale, contract.instrument.qty_lots_min) == (PERP, 3, 1)
    assert contract.value_atoms(6_000_000, 1) == 60 * ATOMS
    assert (perp_symbol(PERP), spot_symbol(PERP), spot_symbol(BTC)) == (PERP, BTC, BTC)


def test_C6_the_largest_orders_of_a_market_become_contracts() -> None:
    bounds = {"limit_lots_max": 120_009, "market_lots_max": 4}  # lots of 0.0001 coins
    contract = perpetual(msgspec.structs.replace(instrument(BTC), **bounds))
    assert (contract.order_max(is_market=False), contract.order_max(is_market=True)) == (12_000, 1)
    row = listing(contract)
    assert (row.limit_max_qty, row.market_max_qty, row.max_qty) == ("12000", "1", "1000000")
    plain = perpetual(instrument(BTC))
    assert plain.order_max(is_market=True) == plain.contracts_max == 1_000_000


def test_quantities_become_contracts_and_a_part_counts_as_one() -> None:
    market = ListedMarket([snapshot(bids=[(100, 25)]), change(asks=[(102, 0)]), trade(qty_lots=1)])
    first, second, third = ContractSource(market).events()  # lots of 0.0001
    assert isinstance(first, BookSnapshot)
    assert (first.symbol, first.bids) == (PERP, ((100, 3),))
    assert isinstance(second, BookChange)
    assert second.asks == ((102, 0),)
    assert isinstance(third, MarketTrade)
    assert third.qty_lots == 1


def test_a_generated_contract_follows_its_coin() -> None:
    coin = GeneratedMarket([BTC], 7, START_NS).events()
    made = generated_perpetuals([BTC], 7, START_NS)
    for theirs, ours in islice(zip(coin, made.events(), strict=True), 2_000):
        assert (ours.ts_ns, ours.symbol) == (theirs.ts_ns, PERP)
        if isinstance(theirs, MarketTrade):
            assert isinstance(ours, MarketTrade)
            assert ours.price_ticks == theirs.price_ticks
            assert ours.qty_lots == -(-theirs.qty_lots // 1_000)


def test_the_real_recording_is_whole_contracts() -> None:
    recording = real_recording("perp-btc_usdt-20240808.jsonl.gz")
    made = ContractSource(recording)
    assert [each.symbol for each in made.instruments] == [PERP]
    for theirs, ours in islice(zip(recording.events(), made.events(), strict=True), 5_000):
        if isinstance(theirs, MarketTrade):
            assert isinstance(ours, MarketTrade)
            assert ours.qty_lots * 10 == theirs.qty_lots


def test_made_up_markets_are_spot_and_contracts_by_their_names() -> None:
    made = generated_markets(DEFAULT_SYMBOLS, 7, START_NS)
    assert [each.symbol for each in made.instruments] == [BTC, "ETH_USDT", PERP]
    assert [each.symbol for each in generated_markets([PERP], 7, START_NS).instruments] == [PERP]
    for wrong in ([], [PERP, PERP]):
        with pytest.raises(ValueError, match="must be"):
            generated_markets(wrong, 7, START_NS)
