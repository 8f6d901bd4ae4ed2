"""One strategy on one symbol: what it wants to hold, and what became of that.

A `Strategy` says a share and keeps no orders; an `Adviser` says when to enter and leave, and `bot/core/tactics.py`
makes the position, its stop and its target of that. Both end in a `Signal`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np

from bot.core import messages as m
from bot.core import tactics
from bot.core.equity import Equity
from bot.core.instrument import ATOMS, Instrument
from bot.core.orders import OrderRecord
from bot.core.sizing import target_lots
from bot.strategies.advice import AdviceRow, Adviser, Definition
from bot.strategies.base import Strategy, StrategySettings

MILLION: Final = 1_000_000
PPM_PER_PERCENT: Final = 10_000
_SILENCE: Final = AdviceRow(0, 0, 0, 0, 0)
_BY_SIZE: Final = tactics.ENTER_LONG | tactics.ENTER_SHORT | tactics.RESIZE
"""Advice that needs a size."""


class Wish(NamedTuple):
    """What a seat wants now: the signal without its time and price."""

    target_lots: int = 0
    number: int = 0
    amount_atoms: int = 0
    limit_ticks: int = 0
    stop_ticks: int = 0
    profit_ticks: int = 0


@dataclass(slots=True)
class Purse:
    """What shares of equity are measured by; the host keeps it up to date."""

    equity: Equity
    cash_atoms: int = 0
    closes: dict[str, int] = field(default_factory=dict[str, int])
    """Symbol to its last close; equity is marked with them when it is asked for."""

    @property
    def equity_atoms(self) -> int | None:
        """Return equity at the last closes; None while something held has none."""
        for symbol, price_ticks in self.closes.items():
            self.equity.mark(symbol, price_ticks)
        return self.equity.equity_atoms


class Known(NamedTuple):
    """What the journal says of a seat when a session begins."""

    held_atoms: int
    entry_ticks: int
    orders: tuple[OrderRecord, ...]


class Seat(ABC):
    """One strategy on one symbol."""

    wish: Wish

    def __init__(self, name: str, symbol: str, instruments: Mapping[str, Instrument], purse: Purse) -> None:
        """`instruments` and `purse` are the host's, who keeps them up to date."""
        self.name = name
        self.symbol = symbol
        self.wish = Wish()
        self._style: m.ExecutionStyle = "now"
        self._style_ns = 0
        self._instruments = instruments
        self._purse = purse

    @property
    @abstractmethod
    def is_passive(self) -> bool:
        """Return whether it enters and leaves at the touch."""

    @abstractmethod
    def take(self, bar: m.Bar) -> bool:
        """Take the next bar of its own; return whether its wish is to be said."""

    def look(self, bar: m.Bar) -> m.Signal | None:
        """Take the next bar of its own; return its wish where it is to be said."""
        return self.signal(bar.ts_ns, bar.close_ticks) if self.take(bar) else None

    @abstractmethod
    def warm(self, bar: m.Bar) -> None:
        """Take the next bar of its own, and decide nothing."""

    @abstractmethod
    def book(self, price_ticks: int, held_atoms: int) -> bool:
        """Take a fill, after which `held_atoms` are held; return whether its wish changed."""

    @abstractmethod
    def liquidate(self, price_ticks: int) -> bool:
        """Take the end of its position; return whether its wish changed."""

    @abstractmethod
    def restore(self, known: Known) -> None:
        """Go on with what an earlier session left behind."""

    @abstractmethod
    def hear(self, bar: m.Bar) -> None:
        """Take the next bar of another symbol that it watches."""

    def set_style(self, style: m.ExecutionStyle, style_ns: int) -> None:
        """Reach positions in this way from now on, over `style_ns`."""
        self._style, self._style_ns = style, style_ns

    def signal(self, ts_ns: int, price_ticks: int) -> m.Signal:
        """Return its wish as a message."""
        target, number, amount, limit, stop, profit = self.wish
        return m.Signal(
            ts_ns=ts_ns,
            strategy=self.name,
            symbol=self.symbol,
            target_lots=target,
            price_ticks=price_ticks,
            is_passive=self.is_passive,
            number=number,
            amount_atoms=amount,
            limit_ticks=limit,
            stop_ticks=stop,
            profit_ticks=profit,
            style=self._style,
            style_ns=self._style_ns,
        )

    @property
    def _instrument(self) -> Instrument:
        return self._instruments[self.symbol]

    def _share_of_equity(self, size_ppm: int) -> int:
        """Return a share of equity, at least 0; nothing while it is unknown, because something held has no price."""
        return max((self._purse.equity_atoms or 0) * size_ppm // MILLION, 0)

    def _lots_for(self, atoms: int, price_ticks: int) -> int:
        """Return the lots that so much quote buys, with the highest fee in quote."""
        per_lot = self._instrument.notional_atoms(price_ticks, 1) * (MILLION + self._instrument.quote_fee_ppm)
        return atoms * MILLION // per_lot

    def _amount(self, atoms: int, side: float, held_lots: int) -> int:
        """Return how much of a share of equity is spent as an amount; 0 where it is not.

        That is what is bought on a spot market, from flat. Coins too few to be sold count in equity, and cannot be
        spent: so it is no more than cash.
        """
        is_amount = side > 0 and held_lots == 0 and not self._instrument.is_perp
        return max(min(atoms, self._purse.cash_atoms), 0) if is_amount else 0


class ShareSeat(Seat):
    """A `Strategy`: a position is sized when the share changes, and otherwise left alone."""

    def __init__(
        self,
        name: str,
        symbol: str,
        instruments: Mapping[str, Instrument],
        purse: Purse,
        settings: StrategySettings,
        strategy: Strategy,
    ) -> None:
        super().__init__(name, symbol, instruments, purse)
        self.strategy = strategy
        self._settings = settings
        self._size_ppm = round(settings.equity_pct * PPM_PER_PERCENT)
        self._share = 0.0
        self._held_lots = 0

    @property
    def is_passive(self) -> bool:
        """Return the setting."""
        return self._settings.is_passive

    def take(self, bar: m.Bar) -> bool:
        """Ask the strategy.

        Raises:
            ValueError: it wants a share that is not in -1.0 to 1.0.

        """
        share = self.strategy.on_bar(bar)
        if share is None or bar.is_history:
            return False
        if share != self._share:
            self._resize(share, bar.close_ticks)
        return True

    def warm(self, bar: m.Bar) -> None:
        """Let the strategy see it."""
        self.strategy.on_bar(bar)

    def _resize(self, share: float, price_ticks: int) -> None:
        if not -1.0 <= share <= 1.0:
            raise ValueError(
                f"{self.symbol}: strategy {self.name} wants a share of {share}, which is not in -1.0 to 1.0"
            )
        self._share = share
        sign = 1 if share > 0 else -1
        if self._size_ppm == 0:
            lots = target_lots(self._instrument, abs(share), self._settings.notional, price_ticks)
            self.wish = self.wish._replace(target_lots=sign * lots)
            return
        atoms = self._share_of_equity(round(abs(share) * self._size_ppm))
        amount = 0 if self._settings.is_passive else self._amount(atoms, share, self._held_lots)
        self.wish = Wish(sign * self._lots_for(amount or atoms, price_ticks), self.wish.number + 1, amount)

    def book(self, price_ticks: int, held_atoms: int) -> bool:
        """Take what came of an amount; whatever else is held, the wish stands."""
        self._held_lots = self._instrument.position_lots(held_atoms)
        return self._want_what_came(self._held_lots)

    def _want_what_came(self, held_lots: int) -> bool:
        before = self.wish
        if before.amount_atoms and before.target_lots > 0 and held_lots > 0:
            self.wish = before._replace(target_lots=held_lots)
        return self.wish != before

    def liquidate(self, price_ticks: int) -> bool:
        """Want nothing until the share changes."""
        self._held_lots = 0
        before = self.wish
        self.wish = Wish(number=before.number + 1)
        return before.target_lots != 0

    def restore(self, known: Known) -> None:
        """Know what is held: an entry from flat is sized in another way."""
        self._held_lots = self._instrument.position_lots(known.held_atoms)

    def hear(self, bar: m.Bar) -> None:
        """Hear nothing: a `Strategy` watches its own symbol."""


class AdviserSeat(Seat):
    """An `Adviser`, and the tactics that make a position of its advice."""

    def __init__(
        self, name: str, symbol: str, instruments: Mapping[str, Instrument], purse: Purse, definition: Definition
    ) -> None:
        super().__init__(name, symbol, instruments, purse)
        self.adviser: Adviser = definition.make_adviser(symbol, instruments)
        self._terms = definition.terms
        self._sizing = int(definition.terms[tactics.SIZING])
        self._state = np.zeros(tactics.STATE, dtype=np.int64)
        self._number = 0
        self._amount_atoms = 0
        self._known: Known | None = None
        """A position of an earlier session, whose distances are not known before the first advice."""

    @property
    def is_passive(self) -> bool:
        """Return False: a rule that wants to be a maker enters with a limit."""
        return False

    def hear(self, bar: m.Bar) -> None:
        """Hand the bar on."""
        self.adviser.hear(bar)

    def take(self, bar: m.Bar) -> bool:
        """Ask the adviser, and let the tactics decide; without an opinion only time passes."""
        advised = self.adviser.on_bar(bar)
        if bar.is_history:
            return False
        row = advised or _SILENCE
        flags = row.flags
        if flags & _BY_SIZE and self._sizing == tactics.SIZE_SHARE and self._purse.equity_atoms is None:
            flags &= ~_BY_SIZE
        if self._known is not None and advised is not None:
            self._adopt(row, self._known)
        if tactics.close_bar(
            self._state,
            self._terms,
            flags,
            row.stop_by,
            row.target_by,
            row.trail_by,
            bar.high_ticks,
            bar.low_ticks,
            bar.close_ticks,
        ):
            self._set_size(row.size, bar.close_ticks)
        return self._is_changed() or advised is not None

    def warm(self, bar: m.Bar) -> None:
        """Let the adviser see it."""
        self.adviser.on_bar(bar)

    def _set_size(self, size: int, close_ticks: int) -> None:
        state, instrument = self._state, self._instrument
        sign = int(state[tactics.SIDE])
        price_ticks = int(state[tactics.LIMIT]) or close_ticks
        per_lot = instrument.notional_atoms(price_ticks, 1)
        self._number += 1
        self._amount_atoms = 0
        if self._sizing == tactics.SIZE_LOTS:
            lots = size
        elif self._sizing == tactics.SIZE_QUOTE:
            lots = size * (ATOMS // MILLION) // per_lot
        else:
            atoms = self._share_of_equity(size)
            if state[tactics.LIMIT] == 0:
                self._amount_atoms = self._amount(atoms, sign, int(state[tactics.HELD]))
            lots = self._lots_for(self._amount_atoms or atoms, price_ticks)
        state[tactics.LOTS] = sign * max(lots, 0)

    def book(self, price_ticks: int, held_atoms: int) -> bool:
        """Let the tactics take the fill, and want what came of an amount."""
        held = self._instrument.position_lots(held_atoms)
        tactics.book_fill(self._state, self._terms, price_ticks, held)
        if self._amount_atoms and held * int(self._state[tactics.SIDE]) > 0:
            self._state[tactics.LOTS] = held
        return self._is_changed()

    def liquidate(self, price_ticks: int) -> bool:
        """Let the tactics take the end of the position."""
        tactics.book_fill(self._state, self._terms, price_ticks, 0)
        return self._is_changed()

    def _is_changed(self) -> bool:
        """Bring the wish up to date; return whether it is another one."""
        before = self.wish
        state: list[int] = self._state.tolist()
        if state[tactics.SIDE] == 0:
            self._amount_atoms = 0
        self.wish = Wish(
            state[tactics.LOTS],
            self._number,
            self._amount_atoms,
            state[tactics.LIMIT],
            state[tactics.STOP],
            state[tactics.TARGET],
        )
        return self.wish != before

    def restore(self, known: Known) -> None:
        """Hold what was held, guarded as it was."""
        held = self._instrument.position_lots(known.held_atoms)
        if held == 0:
            return
        self._known = known
        state = self._state
        state[tactics.SIDE] = 1 if held > 0 else -1
        state[tactics.LOTS] = state[tactics.HELD] = held
        state[tactics.ENTRY] = state[tactics.BEST] = known.entry_ticks
        for record in known.orders:
            if record.intent.role == "stop":
                state[tactics.STOP] = record.intent.trigger_ticks
            elif record.intent.role == "profit":
                state[tactics.TARGET] = record.intent.price_ticks or 0
        self._is_changed()

    def _adopt(self, row: AdviceRow, known: Known) -> None:
        """Measure the guards of a restored position by today's distances, where the journal names no order."""
        self._known = None
        state = self._state
        stop, target, held = state[tactics.STOP], state[tactics.TARGET], int(state[tactics.HELD])
        if held * int(state[tactics.SIDE]) <= 0:
            return
        state[tactics.STOP_BY], state[tactics.TARGET_BY], state[tactics.TRAIL_BY] = (
            row.stop_by,
            row.target_by,
            row.trail_by,
        )
        state[tactics.HELD] = 0
        tactics.book_fill(state, self._terms, known.entry_ticks, held)
        if stop:
            state[tactics.STOP] = stop
        if target:
            state[tactics.TARGET] = target
