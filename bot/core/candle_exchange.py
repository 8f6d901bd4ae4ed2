"""The candle market as an exchange: orders of ours against bars, after `docs/candle-model.md`, to the letter.

It speaks the executor's messages, and is walked by whoever owns the bars: `open` and `walk` are generators that stop
after each event, so that what a fill brings (new guards, cancels) is here before the walk goes on. It knows nothing
of strategies or signals, and keeps an account of its own: what the exchange knows of us.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, sqrt
from typing import Final, Literal

import msgspec

from bot.core import messages as m
from bot.core.equity import Equity
from bot.core.instrument import Instrument, Side, fee_atoms
from bot.core.orders import OrderIntent, OrderState

MILLION: Final = 1_000_000
BILLION: Final = 1_000_000_000

NO_FUNDS: Final = "NO_FUNDS"
"""Free cash buys no more of it."""
NOTHING_HELD: Final = "NOTHING_HELD"
"""There is nothing left to sell, or to reduce."""
WOULD_TAKE: Final = "WOULD_TAKE"
"""A post-only order came to a market that would have filled it at once."""
REFUSALS: Final = frozenset({NO_FUNDS, NOTHING_HELD, WOULD_TAKE})
"""Why this exchange ends an order that nobody asked it to end."""
_BY_US: Final = "canceled by us"
_LIQUIDATED: Final = "LIQUIDATED"
_LEGS: Final = 3

Slippage = Literal["none", "fixed", "spread", "volume"]


class CandleTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What the candle market charges and allows; `bot/backtest/base.py` says what each means."""

    maker_fee_ppm: int = 0
    taker_fee_ppm: int = 0
    slippage: Slippage = "none"
    slippage_ppm: int = 0
    half_spread_ticks: int = 0
    latency_ns: int = 0
    volume_share_ppm: int = 0
    maintenance_ppm: int = 5_000
    liquidation_fee_ppm: int = 5_000


@dataclass(slots=True)
class _Order:
    intent: OrderIntent
    order_id: str
    due_ns: int
    """When it arrives; 0 once it is here."""
    is_resting: bool = False
    """A limit order that waits for its price."""
    is_armed: bool = False
    """A stop order that waits for its trigger; without it a market order that waits for volume."""
    is_over: bool = False
    filled_lots: int = 0
    spent_atoms: int = 0

    @property
    def leaves_lots(self) -> int:
        return self.intent.qty_lots - self.filled_lots

    @property
    def limit_ticks(self) -> int:
        assert self.intent.price_ticks is not None
        return self.intent.price_ticks


@dataclass(slots=True)
class _Market:
    instrument: Instrument
    funding: Sequence[tuple[int, int]]
    funded: int = 0
    """How many of those are past."""
    price_ticks: int = 0
    """The last one walked to."""
    end_ns: int = 0
    """End of the bar that is walked."""
    volume_lots: int = 0
    """Of that bar."""
    volume_left: int | None = None
    """What of it may still be filled; None: no bound."""
    orders: list[_Order] = field(default_factory=list[_Order])
    """Those that are not over, in the order of sending."""
    cancels: list[tuple[int, _Order]] = field(default_factory=list[tuple[int, _Order]])
    """(time of arrival, order)"""


class CandleExchange:
    """The machine. One owner walks it, bar after bar, and hands on what it says before it walks on."""

    def __init__(self, terms: CandleTerms, funding: Mapping[str, Sequence[tuple[int, int]]] | None = None) -> None:
        """Begin without orders. `funding` is (time in ns, rate in billionths) by symbol, rising in time."""
        self._terms = terms
        self._funding = funding or {}
        self._markets: dict[str, _Market] = {}
        self._instruments: dict[str, Instrument] = {}
        self._account = Equity(self._instruments)
        self._orders: dict[str, tuple[_Market, _Order]] = {}
        """Every order that is not over."""
        self._has_perps = False
        self._is_walking = False
        """What is cancelled inside a bar is cancelled at once; at a close it travels."""
        self._epoch = 0
        self._orders_seen = 0
        self._now_ns = 0

    def close(self) -> list[m.AnyMessage]:
        """End every order: there are no more bars."""
        return [self._end(market, order, _BY_US) for market, order in list(self._orders.values())]

    @property
    def is_idle(self) -> bool:
        """Return whether a bar could do nothing: no order waits, and no perpetual is held."""
        return not self._orders and not (self._has_perps and self._holds_perps())

    def _holds_perps(self) -> bool:
        held = self._account.base_atoms
        return any(held.get(symbol) for symbol, listed in self._instruments.items() if listed.is_perp)

    def handle(self, message: m.AnyMessage) -> Iterable[m.AnyMessage]:
        """Take an order or a cancel; return what is said at once."""
        self._now_ns = max(self._now_ns, message.ts_ns)
        match message:
            case m.SubmitOrder():
                return self._take(message.intent)
            case m.CancelOrder():
                return self._cancel(message.client_id)
            case m.InstrumentListed():
                self._list(message.instrument)
            case m.Recovered():
                assert not message.orders, "a candle market begins without orders"
                self._epoch = message.epoch
                self._account.recover(message)
            case m.Tick():
                pass
            case _:
                raise AssertionError(f"not routed to the candle exchange: {message!r}")
        return ()

    def _list(self, instrument: Instrument) -> None:
        self._instruments[instrument.symbol] = instrument
        self._has_perps |= instrument.is_perp
        market = self._markets.get(instrument.symbol)
        if market is None:
            self._markets[instrument.symbol] = _Market(instrument, self._funding.get(instrument.symbol, ()))
        else:
            market.instrument = instrument

    def _take(self, intent: OrderIntent) -> list[m.AnyMessage]:
        market = self._markets[intent.symbol]
        self._orders_seen += 1
        order = _Order(intent, str(self._epoch * 10**9 + self._orders_seen), due_ns=0)
        market.orders.append(order)
        self._orders[intent.client_id] = market, order
        if intent.role == "trade":
            order.due_ns = self._due_ns(market, intent.strategy)
            return []
        # A guard stands at once.
        order.is_armed = intent.order_type == "STOP"
        order.is_resting = not order.is_armed
        return [self._event(order, OrderState.NEW)]

    def _due_ns(self, market: _Market, strategy: str) -> int:
        """Return when an order arrives that is sent now: with the cancel of the one whose place it takes, if any.

        Whatever is sent inside a bar, and takes nobody's place, travels from that bar's close.
        """
        together = [
            due_ns
            for due_ns, order in market.cancels
            # At a close, one that should have arrived by now was of an order that ended before it, on an idle bar.
            if order.intent.strategy == strategy and (self._is_walking or due_ns > self._now_ns)
        ]
        return max(together) if together else self._close_ns(market) + self._terms.latency_ns

    def _close_ns(self, market: _Market) -> int:
        """Return the close that decisions travel from: of the bar that is walked, or of the one that is over now."""
        return market.end_ns if self._is_walking else self._now_ns

    def _cancel(self, client_id: str) -> list[m.AnyMessage]:
        market, order = self._orders.get(client_id, (None, None))
        if market is None or order is None:
            return []  # it ended before the cancel: its last event said how
        if order.intent.role == "trade" and self._terms.latency_ns and not self._is_walking:
            market.cancels.append((self._close_ns(market) + self._terms.latency_ns, order))
            return []
        return [self._end(market, order, _BY_US)]

    # --- the walk

    def open(self, bars: Iterable[m.Bar]) -> Iterator[list[m.AnyMessage]]:
        """Let the bars of one step, in the order of listing, open; yield what is said after each event.

        All that comes of it must have been heard before the next event is asked for.
        """
        self._is_walking = True
        for bar in bars:
            market = self._markets[bar.symbol]
            self._begin(market, bar)
            yield from self._settle_funding(market, bar)
            yield from self._liquidate_at_open(market, bar.open_ticks)
            yield from self._arrive(market, bar.start_ns, bar.open_ticks, bar.open_ticks, is_open=True)
        self._is_walking = False

    def walk(self, bars: Iterable[m.Bar]) -> Iterator[list[m.AnyMessage]]:
        """Let the prices of the same bars go their way; yield as `open` does."""
        self._is_walking = True
        for bar in bars:
            market = self._markets[bar.symbol]
            if market.orders or self._has_perps:
                yield from self._walk_one(market, bar)
        self._is_walking = False

    def _begin(self, market: _Market, bar: m.Bar) -> None:
        self._now_ns = max(self._now_ns, bar.start_ns)
        market.end_ns = bar.start_ns + bar.timeframe_ns
        market.volume_lots = bar.volume_lots
        share = self._terms.volume_share_ppm
        market.volume_left = bar.volume_lots * share // MILLION if share else None
        self._go(market, bar.open_ticks)

    def _go(self, market: _Market, price_ticks: int) -> None:
        market.price_ticks = price_ticks
        if self._has_perps:  # without them nobody asks for equity
            self._account.mark(market.instrument.symbol, price_ticks)

    def _settle_funding(self, market: _Market, bar: m.Bar) -> Iterator[list[m.AnyMessage]]:
        while market.funded < len(market.funding) and market.funding[market.funded][0] <= bar.start_ns:
            at_ns, rate_ppb = market.funding[market.funded]
            market.funded += 1
            atoms = self._held_atoms(market)
            if atoms:
                value = market.instrument.value_atoms(atoms, bar.open_ticks)
                paid = m.FundingPaid(
                    ts_ns=at_ns,
                    symbol=bar.symbol,
                    rate_ppb=rate_ppb,
                    price_ticks=bar.open_ticks,
                    paid_atoms=-(-value * rate_ppb // BILLION),
                )
                self._account.pay(paid)
                yield [paid]

    def _walk_one(self, market: _Market, bar: m.Bar) -> Iterator[list[m.AnyMessage]]:
        low, high = bar.low_ticks, bar.high_ticks
        first, second = (high, low) if self._is_hurt_by_rises(market) else (low, high)
        points = (bar.open_ticks, first, second, bar.close_ticks)
        for leg in range(_LEGS):
            start, end = points[leg], points[leg + 1]
            is_down = end <= start
            self._now_ns = max(self._now_ns, bar.start_ns + leg * bar.timeframe_ns // _LEGS)
            while True:
                due_ns = self._next_due_ns(market)
                gone = _LEGS * (due_ns - bar.start_ns) - leg * bar.timeframe_ns if due_ns else bar.timeframe_ns
                if gone >= bar.timeframe_ns:
                    break
                self._now_ns = max(self._now_ns, due_ns)
                floor = start + (end - start) * gone // bar.timeframe_ns
                top = start - (start - end) * gone // bar.timeframe_ns
                yield from self._pull(market, top if is_down else floor, is_down=is_down)
                yield from self._arrive(market, due_ns, top, floor, is_open=False)
            yield from self._pull(market, end, is_down=is_down)

    def _is_hurt_by_rises(self, market: _Market) -> bool:
        held = market.instrument.position_lots(self._held_atoms(market))
        if held == 0:
            return bool(market.orders) and all(order.intent.side is Side.BUY for order in market.orders)
        return held < 0

    @staticmethod
    def _next_due_ns(market: _Market) -> int:
        """Return when the next order or cancel arrives, 0 for none."""
        dues = [order.due_ns for order in market.orders if order.due_ns]
        dues += [due_ns for due_ns, _ in market.cancels]
        return min(dues, default=0)

    # --- arrivals, and what waits for an open

    def _arrive(
        self, market: _Market, until_ns: int, buy_ticks: int, sell_ticks: int, *, is_open: bool
    ) -> Iterator[list[m.AnyMessage]]:
        """Let in what is due, cancels first; at an open, let what waits there go on as well."""
        due = [order for due_ns, order in market.cancels if due_ns <= until_ns and not order.is_over]
        if due:
            yield [self._end(market, order, _BY_US) for order in due]
        market.cancels = [cancel for cancel in market.cancels if cancel[0] > until_ns]
        if is_open and market.orders:
            yield from self._open_guards(market, buy_ticks)
        for order in [order for order in market.orders if order.intent.role == "trade"]:
            if order.is_over or order.due_ns > until_ns:
                continue
            is_new = order.due_ns > 0
            if is_new or is_open:
                order.due_ns = 0
                price = buy_ticks if order.intent.side is Side.BUY else sell_ticks
                said = self._meet(market, order, price, is_new=is_new)
                if said:
                    yield said

    def _open_guards(self, market: _Market, open_ticks: int) -> Iterator[list[m.AnyMessage]]:
        guards = [order for order in market.orders if order.intent.role != "trade"]
        for order in sorted(guards, key=lambda order: order.is_resting):  # stops first; the sort is stable
            if order.is_over:
                continue
            sign = order.intent.side.sign
            if order.is_resting:
                said = self._meet(market, order, open_ticks, is_new=False)
            elif order.is_armed and sign * (open_ticks - order.intent.trigger_ticks) < 0:
                continue
            else:
                order.is_armed = False
                said = self._fill(market, order, open_ticks, is_maker=False)
            if said:
                yield said

    def _meet(self, market: _Market, order: _Order, price_ticks: int, *, is_new: bool) -> list[m.AnyMessage]:
        """Let a market order fill, a limit order fill or rest, at a price that the market has now."""
        kind = order.intent.order_type
        if kind == "MARKET":
            return self._fill(market, order, price_ticks, is_maker=False)
        better = order.intent.side.sign * (order.limit_ticks - price_ticks)
        if not is_new:
            return self._fill(market, order, order.limit_ticks, is_maker=True) if better > 0 else []
        if better >= 0:
            if kind == "LIMIT_MAKER":
                return [self._end(market, order, WOULD_TAKE)]
            said = self._fill(market, order, price_ticks, is_maker=False, slips=False)
            if said or order.is_over:
                order.is_resting = not order.is_over
                return said
        order.is_resting = True
        return [self._event(order, OrderState.NEW)]

    # --- triggers

    def _pull(self, market: _Market, end_ticks: int, *, is_down: bool) -> Iterator[list[m.AnyMessage]]:
        """Take the price to the end of a leg, by way of every trigger."""
        while True:
            hit = self._nearest(market, end_ticks, is_down=is_down)
            if hit is None:
                break
            price, order = hit
            self._go(market, price)
            if order is None:
                yield self._liquidate(market, price)
            elif order.is_resting:
                yield self._fill(market, order, order.limit_ticks, is_maker=True)
            else:
                order.is_armed = False
                said = self._fill(market, order, price, is_maker=False)
                if said:
                    yield said
        self._go(market, end_ticks)

    def _nearest(self, market: _Market, end_ticks: int, *, is_down: bool) -> tuple[int, _Order | None] | None:
        """Return price and order of the next trigger on the way, no order for a liquidation; None where none is."""
        way = -1 if is_down else 1
        best: tuple[int, int] | None = None
        found: _Order | None = None

        def consider(trigger: int, rank: int, order: _Order | None) -> None:
            nonlocal best, found
            key = max(way * (trigger - market.price_ticks), 0), rank  # what lies behind us fires here
            if best is None or key < best:
                best, found = key, order

        ruin = self._ruin_ticks(market) if self._has_perps else None
        if ruin is not None and (self._held_atoms(market) > 0) == is_down and way * (end_ticks - ruin) >= 0:
            consider(ruin, 0, None)
        for order in market.orders:
            is_buy = order.intent.side is Side.BUY
            if order.is_armed and is_buy != is_down and way * (end_ticks - order.intent.trigger_ticks) >= 0:
                consider(order.intent.trigger_ticks, 1, order)
            elif (
                order.is_resting
                and is_buy == is_down
                and market.volume_left != 0
                and way * (end_ticks - order.limit_ticks) > 0
            ):
                consider(order.limit_ticks, 2, order)
        return None if best is None else (market.price_ticks + way * best[0], found)

    # --- liquidation

    def _ruin_ticks(self, market: _Market) -> int | None:
        """Return the price at which equity is no more than the maintenance margin; None where no price does that.

        Equity is `flow + others + base x price`, the margin is `m x (perps + |base| x price)`.
        """
        instrument = market.instrument
        atoms = self._held_atoms(market)
        if not atoms or not instrument.is_perp:
            return None
        values = self._account.values
        others = sum(value for symbol, value in values.items() if symbol != instrument.symbol)
        perps = sum(
            abs(values.get(symbol, 0))
            for symbol, listed in self._instruments.items()
            if symbol != instrument.symbol and listed.is_perp
        )
        maintenance = self._terms.maintenance_ppm
        spare = MILLION * (self._account.flow_atoms + others) - maintenance * perps
        tick_atoms = abs(atoms) // 10**instrument.price_scale
        if atoms > 0:
            ruin = -spare // (tick_atoms * (MILLION - maintenance))
            return ruin if ruin >= 1 else None
        return max(1, -(-spare // (tick_atoms * (MILLION + maintenance))))

    def _liquidate_at_open(self, market: _Market, open_ticks: int) -> Iterator[list[m.AnyMessage]]:
        ruin = self._ruin_ticks(market) if self._has_perps else None
        if ruin is not None:
            is_long = self._held_atoms(market) > 0
            if open_ticks <= ruin if is_long else open_ticks >= ruin:
                yield self._liquidate(market, open_ticks)

    def _liquidate(self, market: _Market, price_ticks: int) -> list[m.AnyMessage]:
        instrument = market.instrument
        atoms = self._held_atoms(market)
        value = instrument.value_atoms(abs(atoms), price_ticks)
        liquidated = m.Liquidated(
            ts_ns=self._now_ns,
            symbol=instrument.symbol,
            price_ticks=price_ticks,
            signed_lots=-instrument.nearest_lots(atoms),
            fee_atoms=fee_atoms(value, self._terms.liquidation_fee_ppm),
        )
        self._account.liquidate(liquidated)
        return [liquidated, *(self._end(market, order, _LIQUIDATED) for order in list(market.orders))]

    # --- fills

    def _fill(
        self, market: _Market, order: _Order, price_ticks: int, *, is_maker: bool, slips: bool = True
    ) -> list[m.AnyMessage]:
        """Fill what volume, money and coins allow; end the order if it is done or cannot go on."""
        offered = order.leaves_lots
        if market.volume_left is not None:
            offered = min(offered, market.volume_left)
        if offered == 0:
            return []
        if slips and not is_maker:
            price_ticks = self._slipped(market, order, price_ticks, offered)
        allowed = self._allowed_lots(market, order, price_ticks, is_maker=is_maker)
        lots = min(offered, allowed)
        said: list[m.AnyMessage] = []
        if lots > 0:
            said.append(self._book(market, order, price_ticks, lots, is_maker=is_maker))
        amount = order.intent.amount_atoms
        is_spent = amount > 0 and self._amount_lots(market, order, price_ticks) == 0
        if order.leaves_lots == 0 or (is_spent and order.filled_lots):
            said.append(self._end(market, order, ""))
        elif lots < offered:
            is_reduction = order.intent.is_reduce_only or order.intent.side is Side.SELL
            said.append(self._end(market, order, NOTHING_HELD if is_reduction else NO_FUNDS))
        else:
            said.append(self._event(order, OrderState.PARTIALLY_FILLED))
        return said

    def _slipped(self, market: _Market, order: _Order, price_ticks: int, lots: int) -> int:
        terms = self._terms
        match terms.slippage:
            case "none":
                return price_ticks
            case "fixed":
                ticks = -(-price_ticks * terms.slippage_ppm // MILLION)
            case "spread":
                ticks = terms.half_spread_ticks
            case "volume":
                if order.intent.amount_atoms:
                    lots = min(lots, self._amount_lots(market, order, price_ticks))
                ratio = lots / market.volume_lots if market.volume_lots else 1.0
                ticks = ceil(price_ticks * terms.slippage_ppm * sqrt(ratio) / MILLION)
        return max(1, price_ticks + order.intent.side.sign * ticks)

    def _allowed_lots(self, market: _Market, order: _Order, price_ticks: int, *, is_maker: bool) -> int:
        """Return the lots that what we have allows, at least 0."""
        instrument, intent = market.instrument, order.intent
        atoms = self._held_atoms(market)
        is_buy = intent.side is Side.BUY
        if instrument.is_perp:
            if not intent.is_reduce_only:
                return intent.qty_lots
            return max(0, instrument.whole_lots(-atoms if is_buy else atoms))
        if not is_buy:
            return max(0, instrument.whole_lots(atoms))
        if intent.is_reduce_only:
            return 0
        lots = self._lots_for(instrument, price_ticks, self._free_atoms(order), self._fee_ppm(is_maker=is_maker))
        return min(lots, self._amount_lots(market, order, price_ticks)) if intent.amount_atoms else lots

    def _amount_lots(self, market: _Market, order: _Order, price_ticks: int) -> int:
        """Return the lots that the rest of an amount buys."""
        left = order.intent.amount_atoms - order.spent_atoms
        return self._lots_for(market.instrument, price_ticks, left, self._terms.taker_fee_ppm)

    @staticmethod
    def _lots_for(instrument: Instrument, price_ticks: int, atoms: int, fee_ppm: int) -> int:
        per_lot = instrument.notional_atoms(price_ticks, 1)
        if instrument.is_fee_in_quote:
            return max(0, atoms * MILLION // (per_lot * (MILLION + fee_ppm)))
        return max(0, atoms // per_lot)

    def _fee_ppm(self, *, is_maker: bool) -> int:
        return self._terms.maker_fee_ppm if is_maker else self._terms.taker_fee_ppm

    def _free_atoms(self, order: _Order) -> int:
        """Return the cash that no resting spot buy but `order` may still need; perpetuals at their value."""
        needed = sum(
            market.instrument.spent_atoms(other.limit_ticks, other.leaves_lots)
            for market, other in self._orders.values()
            if other.is_resting
            and other is not order
            and other.intent.side is Side.BUY
            and not market.instrument.is_perp
        )
        values = self._account.values
        perps = sum(values.get(symbol, 0) for symbol, listed in self._instruments.items() if listed.is_perp)
        return self._account.flow_atoms + perps - needed

    def _held_atoms(self, market: _Market) -> int:
        return self._account.base_atoms.get(market.instrument.symbol, 0)

    def _book(self, market: _Market, order: _Order, price_ticks: int, lots: int, *, is_maker: bool) -> m.Fill:
        intent, instrument = order.intent, market.instrument
        notional = instrument.notional_atoms(price_ticks, lots)
        is_in_coins = intent.side is Side.BUY and not instrument.is_fee_in_quote
        charged = lots * instrument.base_atoms_per_lot if is_in_coins else notional
        fee = fee_atoms(charged, self._fee_ppm(is_maker=is_maker))
        fill = m.Fill(
            ts_ns=self._now_ns,
            client_id=intent.client_id,
            symbol=intent.symbol,
            trade_id=f"{order.order_id}.{order.filled_lots}",
            order_id=order.order_id,
            side=intent.side,
            price_ticks=price_ticks,
            qty_lots=lots,
            fee_atoms=fee,
            is_maker=is_maker,
        )
        order.filled_lots += lots
        order.spent_atoms += notional if is_in_coins else notional + fee
        if market.volume_left is not None:
            market.volume_left -= lots
        self._account.book(fill)
        return fill

    # --- what is said of orders

    def _end(self, market: _Market, order: _Order, reason: str) -> m.OrderEvent:
        """Take an order off, and say how it ended: filled, if there is no reason."""
        was_here = order.is_resting or order.is_armed or order.filled_lots > 0
        order.is_over = True
        order.is_resting = order.is_armed = False
        market.orders.remove(order)
        del self._orders[order.intent.client_id]
        if not reason:
            state = OrderState.FILLED
        elif order.filled_lots:
            state = OrderState.PARTIALLY_CANCELED
        elif was_here or reason not in REFUSALS:
            state = OrderState.CANCELED
        else:
            state = OrderState.REJECTED
        return self._event(order, state, reason)

    def _event(self, order: _Order, state: OrderState, reason: str = "") -> m.OrderEvent:
        return m.OrderEvent(
            ts_ns=self._now_ns,
            client_id=order.intent.client_id,
            symbol=order.intent.symbol,
            order_id=order.order_id,
            state=state,
            filled_lots=order.filled_lots,
            reason=reason,
        )
