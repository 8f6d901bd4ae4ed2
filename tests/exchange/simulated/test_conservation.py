"""The law of the exchange's money: whatever is done, no atom is made or lost, and every frozen one is some order's."""

from __future__ import annotations

import os
from itertools import islice
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bot.core.instrument import ATOMS, Side
from bot.exchange.simulated.accounts import Account, Accounts, AccountType, demo_accounts
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.events import Level, MarketEvent
from bot.exchange.simulated.generator import Chance, GeneratedMarket
from bot.exchange.simulated.liquidity import Order
from bot.exchange.simulated.replies import Refusal
from bot.exchange.simulated.spot_desk import SpotTerms
from bot.exchange.simulated.spot_orders import OrderFields, checked_order
from bot.exchange.simulated.spot_private import SpotExchange
from bot.exchange.simulated.venue import Publication, Venue
from tests.exchange.simulated.builders import BTC, START_NS, change, instrument, parsed, snapshot, trade
from tests.exchange.simulated.traders import Exchange, Json

EXAMPLES = int(os.environ.get("CONSERVATION_EXAMPLES", "1500"))
STEPS = 25
ETH = "ETH_USDT"

symbols = st.sampled_from([BTC, BTC, ETH])
people = st.integers(0, 1)
sides = st.sampled_from(["BUY", "SELL"])
prices = st.integers(96, 106)
lots = st.sampled_from([11_003, 20_000, 33_333, 77_777, 300_000, 2_000_000])
levels = st.lists(st.tuples(st.integers(0, 8), st.sampled_from([0, 1, 9_999, 20_000, 100_000])), max_size=3)


def decimals(value: int, scale: int) -> str:
    return f"{value // 10**scale}.{value % 10**scale:0{scale}}"


class Money(RuleBasedStateMachine):
    """Two clients and a replayed market do whatever they like."""

    @initialize(maker_ppm=st.sampled_from([0, 1, 1_450, 333_333]), taker_ppm=st.sampled_from([0, 1_550, 999_999]))
    def open(self, maker_ppm: int, taker_ppm: int) -> None:
        terms = SpotTerms(maker_fee_ppm=maker_ppm, taker_fee_ppm=taker_ppm)
        self.exchange = Exchange(BTC, ETH, terms=terms)
        self.orders: list[Order] = []
        self.at_s = 0.0

    def account(self, person: int) -> Account:
        return (self.exchange.ann, self.exchange.bob)[person]

    def place(self, person: int, fields: Json) -> None:
        instruments = {symbol: instrument(symbol) for symbol in (BTC, ETH)}
        terms = checked_order(order_fields(fields), instruments)
        try:
            self.orders.append(self.exchange.spot.desk.place(self.account(person), terms))
        except Refusal as refusal:
            if refusal.code not in (21312, 21721):
                raise

    @rule(
        person=people,
        symbol=symbols,
        side=sides,
        price=prices,
        qty=lots,
        kind=st.sampled_from(["LIMIT"] * 3 + ["LIMIT_MAKER"]),
        time_in_force=st.sampled_from(["GTC"] * 4 + ["IOC", "FOK"]),
        stp_mode=st.sampled_from(["EXPIRE_TAKER", "NONE"]),
        client_id=st.sampled_from(["", "", "", "a", "b"]),
    )
    def limit(self, price: int, qty: int, kind: str, time_in_force: str, client_id: str, **named: Any) -> None:
        fields = {
            "symbol": named["symbol"],
            "side": named["side"],
            "type": kind,
            "price": decimals(price, 2),
            "quantity": decimals(qty, 4),
            "timeInForce": time_in_force if kind == "LIMIT" else "GTC",
            "stpMode": named["stp_mode"],
            "clientOrderId": client_id,
        }
        self.place(named["person"], fields)

    @rule(
        person=people,
        symbol=symbols,
        amount=st.integers(100, 60_000),
        qty=lots,
        side=sides,
        slippage=st.sampled_from([None, "0.01", "0.000001"]),
        stp_mode=st.sampled_from(["EXPIRE_TAKER", "NONE"]),
    )
    def market(self, amount: int, qty: int, slippage: str | None, **named: Any) -> None:
        size = {"amount": decimals(amount, 2)} if named["side"] == "BUY" else {"quantity": decimals(qty, 4)}
        fields = {"symbol": named["symbol"], "side": named["side"], "stpMode": named["stp_mode"], **size}
        self.place(named["person"], {**fields, "slippageTolerance": slippage})

    @rule(which=st.integers(0, 1_000), wait_ms=st.sampled_from([0, 1, 5]))
    def cancel(self, which: int, wait_ms: int) -> None:
        living = [order for order in self.orders if not order.state.is_final]
        if living:
            self.exchange.spot.desk.cancel(living[which % len(living)])
        self.exchange.later(wait_ms)

    @rule(which=st.integers(0, 1_000), price=prices, qty=lots, proceeds=st.booleans())
    def replace(self, which: int, price: int, qty: int, *, proceeds: bool) -> None:
        if not self.orders:
            return
        old = self.orders[which % len(self.orders)]
        fields = {"symbol": old.symbol, "side": old.side, "type": "LIMIT", "price": decimals(price, 2)}
        terms = checked_order(
            order_fields({**fields, "quantity": decimals(qty, 4)}), {old.symbol: instrument(old.symbol)}
        )
        try:
            self.orders.append(self.exchange.spot.desk.replace(old, terms, proceeds_on_failure=proceeds))
        except Refusal as refusal:
            if refusal.code not in (21359, 21721):
                raise

    @rule(person=people, to_futures=st.booleans(), atoms=st.integers(1, 2_000 * ATOMS))
    def transfer(self, person: int, atoms: int, *, to_futures: bool) -> None:
        source, target = AccountType.SPOT, AccountType.FUTURES
        if not to_futures:
            source, target = target, source
        try:
            self.exchange.spot.desk.transfer(self.account(person), source, target, "USDT", atoms)
        except Refusal as refusal:
            if refusal.code != 21709:
                raise

    @rule(person=people, side=sides, stop=prices, qty=lots, offset=st.sampled_from([None, "0.02", "1%"]))
    def stop(self, person: int, side: str, stop: int, qty: int, offset: str | None) -> None:
        size = {"amount": decimals(qty // 100 + 100, 2)} if side == "BUY" else {"quantity": decimals(qty, 4)}
        fields = {"symbol": BTC, "side": side, "stopPrice": decimals(stop, 2), "trailingOffset": offset, **size}
        smart = self.exchange.spot.smart
        smart.place(self.account(person), smart.checked(order_fields(fields)))

    @rule(person=people)
    def kill(self, person: int) -> None:
        self.exchange.spot.smart.arm(self.account(person), 10)
        self.exchange.later(10_001)

    @rule(symbol=symbols, price=prices, qty=lots, is_buy=st.booleans())
    def replayed_trade(self, symbol: str, price: int, qty: int, *, is_buy: bool) -> None:
        side = "buy" if is_buy else "sell"
        self.replay(trade(price, at_s=self.later_s(), qty_lots=qty, taker_side=side, symbol=symbol))

    @rule(symbol=symbols, middle=st.integers(98, 104), bids=levels, asks=levels, is_whole=st.booleans())
    def replayed_book(self, symbol: str, middle: int, bids: list[Level], asks: list[Level], *, is_whole: bool) -> None:
        below = [(middle - 1 - away, qty) for away, qty in dict(bids).items()]
        above = [(middle + 1 + away, qty) for away, qty in dict(asks).items()]
        if is_whole:
            below, above = ([level for level in side if level[1]] for side in (below, above))
            self.replay(snapshot(at_s=self.later_s(), bids=below, asks=above, symbol=symbol))
        else:
            # A book that was never crossed is not crossed by a change: what is in the way goes.
            below += [(price, 0) for price in range(middle, 120)]
            above += [(price, 0) for price in range(80, middle + 1)]
            self.replay(change(at_s=self.later_s(), bids=below, asks=above, symbol=symbol))

    def later_s(self) -> float:
        passed_s = (self.exchange.venue.time_ns - START_NS) / 1e9
        self.at_s = max(self.at_s, passed_s) + 0.002
        return self.at_s

    def replay(self, event: MarketEvent) -> None:
        self.exchange.apply(event)

    @invariant()
    def no_atom_is_made_or_lost(self) -> None:
        assert set(self.exchange.accounts.totals().values()) == {0}

    @invariant()
    def every_frozen_atom_is_some_orders(self) -> None:
        assert self.exchange.is_balanced()

    @invariant()
    def nobody_owes(self) -> None:
        for account in (self.exchange.ann, self.exchange.bob, self.exchange.accounts.fees):
            for wallet in account.wallets.values():
                assert wallet.available_atoms >= 0
                assert wallet.hold_atoms >= 0

    @invariant()
    def an_order_has_what_its_fills_say(self) -> None:
        for order in self.orders:
            assert order.qty_lots is None or order.filled_lots <= order.qty_lots
            assert order.reserved_atoms == 0 or not order.state.is_final
            traded = instrument(order.symbol)
            if order.qty_lots is None:
                assert traded.notional_atoms(order.filled_value, 1) <= order.budget_atoms
            elif order.price_ticks is not None:
                worst = order.price_ticks * order.filled_lots
                assert order.filled_value <= worst if order.side is Side.BUY else order.filled_value >= worst

    @invariant()
    def the_public_book_is_the_sum_of_all_orders_and_never_crossed(self) -> None:
        for symbol, market in self.exchange.venue.markets.items():
            window = market.book.window
            assert not (window.bids and window.asks) or window.bids[0][0] < window.asks[0][0]
            for side, shown in ((Side.BUY, market.book.bids), (Side.SELL, market.book.asks)):
                resting: dict[int, int] = {}
                for order in self.orders:
                    if order.is_resting and order.symbol == symbol and order.side is side:
                        resting[order.limit_ticks] = resting.get(order.limit_ticks, 0) + order.leaves_lots
                assert all(shown.lots_at(price) >= qty for price, qty in resting.items())


def order_fields(fields: Json) -> OrderFields:
    return msgspec.json.decode(msgspec.json.encode(fields), type=OrderFields)


TestMoney = pytest.mark.timeout(300)(Money.TestCase)
TestMoney.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_day_of_trading_in_a_generated_market_keeps_every_atom(seed: int) -> None:
    """Two clients trade at random about the touch; a third one follows the public book by its updates alone."""
    chance = Chance(seed)
    source = GeneratedMarket([BTC], seed, START_NS)
    venue, accounts = Venue(source.instruments, START_NS), Accounts()
    wanted = {("book_lv2", BTC), ("trades", BTC)}
    spot = SpotExchange(venue, accounts, Door(accounts), SpotTerms(), wanted)
    clients = [accounts.open(funding, START_NS) for funding in demo_accounts(seed)]
    listed = {BTC: source.instruments[0]}
    follower = Follower()
    events = source.events()
    spot.apply(next(events))
    for publication in spot.take():
        follower.follow(publication)
    placed: list[Order] = []
    for event in islice(events, 3_000):
        spot.apply(event)
        account = clients[chance.below(2)]
        window = venue.markets[BTC].book.window
        is_buy = chance.below(2) == 0
        touch = (window.bids if is_buy else window.asks)[0][0] + chance.below(400) - 200
        fields: Json = {"symbol": BTC, "side": "BUY" if is_buy else "SELL", "type": "LIMIT"}
        fields |= {"price": decimals(touch, 2), "quantity": decimals(chance.below(50_000) + 100, 6)}
        try:
            placed.append(spot.desk.place(account, checked_order(order_fields(fields), listed)))
        except Refusal as refusal:
            if refusal.code != 21721:
                raise
        if len(placed) > 20 and not placed[-20].state.is_final:
            spot.desk.cancel(placed[-20])
        for publication in spot.take():
            follower.follow(publication)
        assert follower.sides == (window_texts(venue, 0), window_texts(venue, 1))
    assert set(accounts.totals().values()) == {0}
    assert sum(order.filled_lots > 0 for order in placed) > 500
    assert follower.trade_ids == sorted(set(follower.trade_ids))
    for order in placed:
        if not order.state.is_final:
            spot.desk.cancel(order)
    spot.advance(venue.time_ns + 10**9)
    assert not any(wallet.hold_atoms for account in clients for wallet in account.wallets.values())


class Follower:
    """Keeps a book out of `book_lv2` frames, as a client would, and checks their chain."""

    def __init__(self) -> None:
        self.trade_ids: list[int] = []
        self._levels: tuple[dict[str, str], dict[str, str]] = {}, {}
        self._id: int | None = None

    @property
    def sides(self) -> tuple[list[tuple[str, str]], ...]:
        best_first = ((self._levels[0], True), (self._levels[1], False))
        return tuple(
            sorted(levels.items(), key=lambda level: float(level[0]), reverse=is_bid) for levels, is_bid in best_first
        )

    def follow(self, publication: Publication) -> None:
        frame = parsed(publication.payload)
        row = frame["data"][0]
        if frame["channel"] == "trades":
            self.trade_ids.append(int(row["id"]))
            return
        is_snapshot = frame["action"] == "snapshot"
        assert is_snapshot or row["lastId"] == self._id
        self._id = row["id"]
        for levels, name in zip(self._levels, ("bids", "asks"), strict=True):
            if is_snapshot:
                levels.clear()
            for price, quantity in row[name]:
                levels[price] = quantity
                if quantity == "0":
                    del levels[price]


def window_texts(venue: Venue, side: int) -> list[tuple[str, str]]:
    market = venue.markets[BTC]
    return market.levels(market.book.window[side])
