"""What the simulated exchange's own books say of the bot's account: the truth that ours are held against.

It looks behind the counter. Nothing of it passes a codec, a socket or a client of ours, so no fault of ours can hide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from actors.simulation.checkers import Books
from bot.core.instrument import Instrument, Side
from bot.core.ledger import Ledger
from bot.exchange.live.order import own_id
from bot.exchange.simulated.accounts import Account, AccountType
from bot.exchange.simulated.futures_desk import FuturesDesk
from bot.exchange.simulated.futures_orders import FuturesOrder
from bot.exchange.simulated.futures_positions import PosSide
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.liquidity import LOTS_UNLIMITED, Order
from bot.exchange.simulated.server import SimulatedExchange
from bot.exchange.simulated.smart import SmartOrder
from bot.exchange.simulated.smart_desk import SMART_SOURCE

SPOT: Final = AccountType.SPOT
FUTURES: Final = AccountType.FUTURES


class Working(NamedTuple):
    """An order that lives at the exchange."""

    client_id: str
    order_id: int
    symbol: str
    side: Side
    qty_lots: int | None
    """None where an amount is spent."""
    leaves_lots: int
    price_ticks: int | None
    only_closes: bool
    waits: bool
    """It has not been placed yet: a trigger does it."""


Placed = TypeVar("Placed")


class Truth:
    """The books of one account at one exchange."""

    def __init__(self, exchange: SimulatedExchange, account: Account, traded: Sequence[str]) -> None:
        """`traded` are the bot's markets; a wallet that none of them settles in is none of its business."""
        self._spot = exchange.spot
        self._traded = tuple(traded)
        self._account = account
        self._futures: FuturesDesk | None = exchange.futures.desk if isinstance(exchange.futures, FuturesWing) else None

    @property
    def instruments(self) -> dict[str, Instrument]:
        """Return every market that can be traded."""
        found = {symbol: market.instrument for symbol, market in self._spot.venue.markets.items()}
        if self._futures is not None:
            found.update({symbol: contract.instrument for symbol, contract in self._futures.contracts.items()})
        return found

    def mark_ticks(self, symbol: str) -> int:
        """Return the middle of a market, 0 while it has none."""
        if self._futures is None or symbol not in self._futures.contracts:
            return self._spot.venue.markets[symbol].mark_ticks
        matcher = self._futures.matchers[symbol]
        bid, ask = matcher.bids.best, matcher.asks.best
        return 0 if bid is None or ask is None else (bid + ask) // 2

    def amount(self, account_type: AccountType, currency: str) -> int:
        """Return all there is of a currency, free or frozen, in atoms."""
        return self._account.wallet(account_type, currency).total_atoms

    def position_lots(self, symbol: str) -> int:
        """Return the position in a perpetual, shorts negative."""
        if self._futures is None:
            return 0
        position = self._futures.clearing.member(self._account).position(symbol, PosSide.BOTH)
        return 0 if position is None else position.contracts

    def working(self) -> Iterator[Working]:
        """Yield every living order, and those that wait for a trigger."""
        for order in self._spot.desk.folder(self._account).living.values():
            yield _working(order)
        for smart in self._spot.smart.waiting(self._account):
            yield _waiting(smart)
        if self._futures is not None:
            for order in self._futures.orders(self._account).living.values():
                yield _working(order)

    def on_arrival(self, told: Callable[[Working], None]) -> None:
        """Let `told` hear of every order that is sent, in the moment in which the exchange has taken it."""
        _after(self._spot.desk, "place", lambda order: told(_working(order)), Order)
        _after(self._spot.smart, "place", lambda order: told(_waiting(order)), SmartOrder)
        if self._futures is not None:
            _after(self._futures, "place", lambda order: told(_working(order)), FuturesOrder)

    @property
    def books(self) -> Books:
        """Return the account in the units of `books_of`."""
        amounts: dict[str, int] = {}
        instruments = self.instruments
        for symbol in self._traded:
            instrument = instruments[symbol]
            if self._is_perp(symbol):
                amounts[symbol] = self.position_lots(symbol)
                amounts[f"futures {instrument.quote}"] = self.amount(FUTURES, instrument.quote)
            else:
                amounts[f"spot {instrument.base}"] = self.amount(SPOT, instrument.base)
                amounts[f"spot {instrument.quote}"] = self.amount(SPOT, instrument.quote)
        living: dict[str, int] = {}
        for each in self.working():
            name = own_id(each.client_id) or f"#{each.order_id}"
            living[name] = living.get(name, 0) + each.leaves_lots
        return Books(amounts, living)

    def _is_perp(self, symbol: str) -> bool:
        return self._futures is not None and symbol in self._futures.contracts


def books_of(ledger: Ledger, exchange: Books) -> Books:
    """Return what our ledger says, in the same units; without the stops that the exchange does not have.

    These wait with us: where it has no such orders, or did not keep one.
    """
    futures_atoms = ledger.futures_cash_atoms or 0
    amounts = {f"spot {ledger.quote}": ledger.cash_atoms - futures_atoms}
    if ledger.futures_cash_atoms is not None:
        amounts[f"futures {ledger.quote}"] = futures_atoms
    for symbol, position in ledger.positions.items():
        instrument = ledger.instruments[symbol]
        if instrument.is_perp:
            amounts[symbol] = position.base_atoms // instrument.base_atoms_per_lot
        else:
            name = f"spot {instrument.base}"
            amounts[name] = amounts.get(name, 0) + position.base_atoms
    for wallet, held in ledger.external.items():
        for name, atoms in held.items():
            perp = ledger.instruments.get(name)
            key = f"{wallet} {name}" if perp is None else name
            amounts[key] = amounts.get(key, 0) + (atoms if perp is None else atoms // perp.base_atoms_per_lot)
    living = {
        record.intent.client_id: record.leaves_lots
        for record in ledger.live_orders
        if record.intent.order_type != "STOP" or record.intent.client_id in exchange.living
    }
    return Books(amounts, living)


def _working(order: Order) -> Working:
    return Working(
        client_id=order.client_id,
        order_id=order.order_id,
        symbol=order.symbol,
        side=order.side,
        qty_lots=order.qty_lots,
        leaves_lots=0 if order.leaves_lots >= LOTS_UNLIMITED // 2 else order.leaves_lots,
        price_ticks=order.price_ticks,
        only_closes=isinstance(order, FuturesOrder) and order.only_closes,
        waits=False,
    )


def _waiting(smart: SmartOrder) -> Working:
    terms = smart.terms.order
    return Working(
        client_id=terms.client_id,
        order_id=smart.order_id,
        symbol=smart.symbol,
        side=terms.side,
        qty_lots=terms.qty_lots,
        leaves_lots=terms.qty_lots or 0,
        price_ticks=terms.price_ticks,
        only_closes=False,
        waits=True,
    )


def _after(desk: object, name: str, told: Callable[[Placed], None], kind: type[Placed]) -> None:
    """Let `told` hear what each call of a desk's method returns, but for what the exchange itself has asked for."""
    method: Callable[..., Any] = getattr(desk, name)

    def call(*args: object, **options: object) -> object:
        placed = method(*args, **options)
        assert isinstance(placed, kind)
        if getattr(placed, "source", "") != SMART_SOURCE:
            told(placed)
        return placed

    setattr(desk, name, call)
