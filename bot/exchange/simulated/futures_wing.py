"""The futures half of the exchange, behind one port: what the market brings, what clients ask, what is told to whom.

A pure machine on the exchange's clock. After everything that happens it does the same in the same order: what
matchers made public, mark and index, liquidations, and last the news of each client.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import partial
from typing import Final

from bot.exchange.simulated.accounts import Account, AccountType
from bot.exchange.simulated.events import MarketEvent
from bot.exchange.simulated.futures_calls import Exchange
from bot.exchange.simulated.futures_clearing import Member, PositionChange
from bot.exchange.simulated.futures_desk import FuturesDesk, News, OrderChange
from bot.exchange.simulated.futures_feed import ContractMarket, FuturesFeed
from bot.exchange.simulated.futures_instruments import SETTLEMENT, Converter, is_perp, perpetual, spot_symbol
from bot.exchange.simulated.futures_orders import FillRecord
from bot.exchange.simulated.futures_rest import answer
from bot.exchange.simulated.futures_rows import (
    Row,
    account_row,
    order_news_row,
    position_news_row,
    trade_news_row,
)
from bot.exchange.simulated.futures_session import FuturesSession, private_channel
from bot.exchange.simulated.ports import WingParts
from bot.exchange.simulated.replies import Reply, Request, encode
from bot.exchange.simulated.venue import Publication

ACCOUNT_SYMBOL: Final = ""
"""The channel `account` is about no symbol."""


class FuturesWing:
    """Every perpetual contract among the source's markets, whatever their lots: events are turned into contracts."""

    def __init__(self, parts: WingParts) -> None:
        listed = [(each, perpetual(each)) for each in parts.instruments if is_perp(each.symbol)]
        contracts = [contract for _, contract in listed]
        self.feed = FuturesFeed(contracts, parts.first_ns, parts.wanted)
        self._marks: dict[str, int] = {}
        self.desk = FuturesDesk(contracts, parts.accounts, self._marks)
        self.exchange = Exchange(self.feed, self.desk, parts.first_ns)
        self._accounts = parts.accounts
        self._door = parts.door
        self._wanted = parts.wanted
        self._spot_markets = parts.spot.venue.markets
        self._converters = {instrument.symbol: Converter(instrument, contract) for instrument, contract in listed}
        self._out: list[Publication] = []
        parts.spot.futures_free = self.free_atoms
        self.desk.lots_before_cancel = parts.spot.lots_before_cancel

    def free_atoms(self, account: Account, currency: str) -> int:
        """Return how much of a currency may leave the futures side of an account."""
        if currency == SETTLEMENT:
            return self.desk.standing(account).transferable
        return account.wallet(AccountType.FUTURES, currency).available_atoms

    @property
    def symbols(self) -> Container[str]:
        """Return the contracts' names."""
        return self._converters.keys()

    @property
    def due_ns(self) -> int | None:
        """Return the next funding time: until then only what happens counts."""
        return min((market.prices.next_funding_ns for market in self.feed.markets.values()), default=None)

    def apply(self, event: MarketEvent) -> None:
        """Take the next market event of one of the contracts."""
        self.advance(event.ts_ns)
        self.desk.now_ns = self.feed.time_ns
        self.desk.matchers[event.symbol].replay(self._converters[event.symbol].contracts(event))
        self._settle(event.symbol)

    def advance(self, now_ns: int) -> None:
        """Let the clock be `now_ns`, if that is later: pay the funding that is due until then."""
        markets = self.feed.markets.values()
        due = [(funding, market) for market in markets for funding in market.prices.fundings_due(now_ns)]
        for funding, market in sorted(due, key=lambda one: one[0].ts_ns):
            self.feed.time_ns = max(self.feed.time_ns, funding.ts_ns)
            self.desk.fund(market.contract, funding)
            self.feed.say_funding(market)
            self.desk.liquidate(self.feed.time_ns)
            self._settle_all()
        self.feed.time_ns = max(self.feed.time_ns, now_ns)
        self.desk.now_ns = self.feed.time_ns

    def answer(self, request: Request) -> Reply:
        """Answer a REST request."""
        reply = answer(self.exchange, self._door, request)
        self._settle_all()
        return reply

    def session(self, *, is_private: bool) -> FuturesSession:
        """Return the protocol side of a new connection."""
        return FuturesSession(self.feed, self._door, is_private=is_private)

    def take(self) -> list[Publication]:
        """Return what is to be said since the last call, in order."""
        self._tell_clients()
        out, self._out = self._out, []
        return out

    # --- after each thing that happens

    def _settle_all(self) -> None:
        for symbol in self.feed.markets:
            self._settle(symbol)

    def _settle(self, symbol: str) -> None:
        """Publish what a matcher did, look at the prices, and liquidate who has lost all."""
        self._publish(symbol)
        market = self.feed.markets[symbol]
        if self.feed.sample(market, self._mid(market)) and market.prices.mark_ticks is not None:
            self._marks[symbol] = market.prices.mark_ticks
            self.desk.liquidate(self.feed.time_ns)
            for other in self.feed.markets:  # orders that a liquidation ended
                self._publish(other)
        self._tell_clients()

    def _publish(self, symbol: str) -> None:
        for event in self.desk.matchers[symbol].take_public(self.feed.time_ns):
            self.feed.apply(event)
        self._out += self.feed.take()

    def _mid(self, market: ContractMarket) -> int | None:
        """Return the middle of the coin's spot book in the contract's ticks, or None where there is none."""
        spot = self._spot_markets.get(spot_symbol(market.contract.symbol))
        if spot is None or spot.book.mid_ticks is None:
            return None
        finer = market.contract.instrument.price_scale - spot.instrument.price_scale
        return spot.book.mid_ticks * 10 ** max(finer, 0) // 10 ** max(-finer, 0)

    def _tell_clients(self) -> None:
        for account, _ in self._accounts.take_touched(AccountType.FUTURES):
            self.desk.touch(account)
        for account, news in self.desk.take_news():
            publication = self._publication(account, news)
            if publication is not None:
                self._out.append(publication)

    def _publication(self, account: Account, news: News) -> Publication | None:
        """Return the frame of what a client hears, if one of its sessions wants it."""
        match news:
            case OrderChange():
                return self._frame("orders", account, news.order.symbol, lambda: order_news_row(news))
            case FillRecord():
                return self._frame("trade", account, news.contract.symbol, lambda: trade_news_row(news))
            case PositionChange():
                symbol = news.position.contract.symbol
                mark, standing = self._marks[symbol], partial(self.desk.standing, account)
                return self._frame("positions", account, symbol, lambda: position_news_row(news, mark, standing()))
            case Member():
                now_ns, opened_ns = self.feed.time_ns, self.exchange.opened_ns
                standing = partial(self.desk.standing, account)
                row = partial(account_row, opened_ns=opened_ns, now_ns=now_ns)
                return self._frame("account", account, ACCOUNT_SYMBOL, lambda: row(standing()))

    def _frame(self, channel: str, account: Account, symbol: str, row: Callable[[], Row]) -> Publication | None:
        topic = private_channel(channel, account), symbol
        if topic not in self._wanted:
            return None
        return Publication(*topic, encode({"channel": channel, "data": [row()]}))
