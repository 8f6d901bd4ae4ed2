"""From the bookkeeper's integers to what a screen shows, in whole currency units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

from bot.control.protocol import DifferenceRow, FillRow, LatchRow, MarketRow, Note, OrderRow, PositionRow, View
from bot.core import messages as m
from bot.core.bookkeeper import Bookkeeper
from bot.core.instrument import ATOM_SCALE, Side, decimal_of
from bot.core.latches import latch_name
from bot.core.orders import OrderRecord, OrderState
from bot.core.text import safe_text

_PERCENT: Final = 100
DIFFERENCE_NAME_MAX: Final = 64


@dataclass(slots=True)
class FeedStatus:
    """How the feed is; owned and written by the feed actor."""

    state: Literal["connecting", "live", "lost", "ended"] = "connecting"
    detail: str = ""
    frames: int = 0
    """Frames with market data, since the start."""
    reconnects: int = 0
    bad_frames: int = 0
    gaps: int = 0
    symbols: list[str] = field(default_factory=list[str])


_WORST_FIRST: Final = ("lost", "connecting", "ended", "live")


def together(feeds: Sequence[FeedStatus]) -> FeedStatus:
    """Return several feeds as one: as well as the worst of them, with the sums of what was counted."""
    if len(feeds) == 1:
        return feeds[0]
    worst = min(feeds, key=lambda feed: _WORST_FIRST.index(feed.state))
    return FeedStatus(
        state=worst.state,
        detail=worst.detail,
        frames=sum(feed.frames for feed in feeds),
        reconnects=sum(feed.reconnects for feed in feeds),
        bad_frames=sum(feed.bad_frames for feed in feeds),
        gaps=sum(feed.gaps for feed in feeds),
        symbols=[symbol for feed in feeds for symbol in feed.symbols],
    )


def money(atoms: int) -> Decimal:
    """Return atoms as whole currency units."""
    return decimal_of(atoms, ATOM_SCALE)


def make_view(
    keeper: Bookkeeper, feed: FeedStatus, signals: int, now_ns: int, progress: tuple[int, int] | None
) -> View:
    """Return the whole state at one moment."""
    ledger = keeper.ledger
    equity = keeper.equity_atoms
    marked = ledger.equity
    day_pnl: Decimal | None = None
    drawdown_pct = Decimal(0)
    if equity is not None and marked is not None:
        day_pnl = money(equity - marked.day_start_atoms)
        peak = max(marked.peak_atoms, equity)
        drawdown_pct = Decimal(_PERCENT * (peak - equity)) / peak if peak > 0 else drawdown_pct
    return View(
        ts_ns=now_ns,
        feed=feed.state,
        feed_detail=feed.detail,
        quote_currency=ledger.quote,
        equity=None if equity is None else money(equity),
        cash=money(ledger.cash_atoms),
        day_pnl=day_pnl,
        drawdown_pct=round(drawdown_pct, 4),
        risk_state=ledger.risk_state,
        risk_cause=ledger.risk_cause,
        latches=tuple(_latch_row(latch) for latch in ledger.latches),
        epoch=ledger.epoch,
        markets=tuple(_market_row(keeper, symbol, now_ns) for symbol in feed.symbols),
        positions=tuple(
            _position_row(keeper, symbol)
            for symbol, position in sorted(ledger.positions.items())
            if position.base_atoms or position.realised_atoms
        ),
        orders=tuple(_order_row(keeper, record) for record in ledger.live_orders),
        fills=tuple(_fill_row(keeper, booked) for booked in keeper.fills),
        equity_history=tuple((ts_ns, money(atoms)) for ts_ns, atoms in keeper.equity_history),
        counters={
            "frames": feed.frames,
            "signals": signals,
            **keeper.counts,
            "reconnects": feed.reconnects,
            "gaps": feed.gaps,
            "bad_frames": feed.bad_frames,
        },
        progress=progress,
        compared=tuple(sorted(keeper.compared)),
        differences=difference_rows(keeper),
    )


def difference_rows(keeper: Bookkeeper) -> tuple[DifferenceRow, ...]:
    """Return where the books and the exchange's differed when they were last compared, wallet by wallet."""
    return tuple(
        _difference_row(keeper, wallet, difference)
        for wallet in sorted(keeper.compared)
        for difference in keeper.compared[wallet].differences
    )


def _difference_row(keeper: Bookkeeper, wallet: m.Wallet, difference: m.Difference) -> DifferenceRow:
    is_money = difference.kind in ("cash", "coin")
    scale = ATOM_SCALE if is_money else 0
    name = keeper.ledger.quote if difference.kind == "cash" else safe_text(difference.name, DIFFERENCE_NAME_MAX)
    action = "bot reconcile --apply takes the exchange's word"
    if difference.kind == "order":
        action = "cancel it at the exchange" if difference.theirs else "abandon it, if it stays away"
    return DifferenceRow(
        wallet=wallet,
        kind=difference.kind,
        name=name,
        exchange=decimal_of(difference.theirs, scale),
        ours=decimal_of(difference.ours, scale),
        unit=name if is_money else "contracts" if difference.kind == "position" else "lots",
        action=action,
    )


def _latch_row(latch: m.RiskStateChanged) -> LatchRow:
    return LatchRow(
        name=latch_name(latch),
        scope=latch.scope,
        cause=latch.cause,
        state=latch.state,
        since_ns=latch.ts_ns,
        detail=latch.detail,
    )


def _market_row(keeper: Bookkeeper, symbol: str, now_ns: int) -> MarketRow:
    quote = keeper.quotes.get(symbol)
    instrument = keeper.ledger.instruments.get(symbol)
    if quote is None or instrument is None:
        return MarketRow(symbol=symbol, bid=None, ask=None, age_ms=None)
    return MarketRow(
        symbol=symbol,
        bid=instrument.price(quote.bid_ticks),
        ask=instrument.price(quote.ask_ticks),
        age_ms=max(0, now_ns - quote.ts_ns) // 1_000_000,
    )


def _position_row(keeper: Bookkeeper, symbol: str) -> PositionRow:
    instrument = keeper.ledger.instruments[symbol]
    position = keeper.ledger.positions[symbol]
    mark = keeper.marks.get(symbol)
    value = None if mark is None else instrument.value_atoms(position.base_atoms, mark)
    quantity = decimal_of(position.base_atoms, ATOM_SCALE)
    cost = money(position.cost_atoms)
    return PositionRow(
        symbol=symbol,
        quantity=quantity,
        entry_price=round(cost / quantity, instrument.price_scale) if quantity else Decimal(0),
        mark_price=None if mark is None else instrument.price(mark),
        value=None if value is None else money(value),
        unrealised_pnl=None if value is None else money(value - position.cost_atoms),
        realised_pnl=money(position.realised_atoms),
    )


def _order_row(keeper: Bookkeeper, record: OrderRecord) -> OrderRow:
    intent = record.intent
    instrument = keeper.ledger.instruments[intent.symbol]
    price_ticks = intent.price_ticks or intent.trigger_ticks
    is_leaving = record.is_cancel_requested and not record.state.is_final
    return OrderRow(
        client_id=intent.client_id,
        strategy=intent.strategy,
        symbol=intent.symbol,
        side=intent.side,
        order_type=intent.order_type,
        price=instrument.price(price_ticks) if price_ticks else None,
        quantity=instrument.quantity(intent.qty_lots),
        filled=instrument.quantity(record.filled_lots),
        state=OrderState.PENDING_CANCEL if is_leaving else record.state,
        submitted_ns=record.submitted_ns,
    )


def _fill_row(keeper: Bookkeeper, booked: m.FillBooked) -> FillRow:
    fill = booked.fill
    instrument = keeper.ledger.instruments[fill.symbol]
    return FillRow(
        ts_ns=fill.ts_ns,
        strategy=booked.strategy,
        symbol=fill.symbol,
        side=fill.side,
        price=instrument.price(fill.price_ticks),
        quantity=instrument.quantity(fill.qty_lots),
        fee=decimal_of(fill.fee_atoms, ATOM_SCALE),
        fee_currency=fill.fee_currency or instrument.fee_coin(fill.side),
        is_maker=fill.is_maker,
    )


def note_of(keeper: Bookkeeper, fact: m.AnyMessage) -> Note | None:
    """Return the line that an operator reads about `fact`, or None where a table shows it already."""
    level: Literal["info", "warning", "error"] = "info"
    match fact:
        case m.Fill():
            instrument = keeper.ledger.instruments[fact.symbol]
            role = "maker" if fact.is_maker else "taker"
            verb = "bought" if fact.side is Side.BUY else "sold"
            price, quantity = instrument.price(fact.price_ticks), instrument.quantity(fact.qty_lots)
            text = f"{verb} {quantity:f} {fact.symbol} at {price:f} ({role})"
            record = keeper.ledger.order(fact.client_id)
            if record is not None and record.has_late_fill:
                level, text = "warning", f"{text}, after its order was {record.state}"
        case m.Liquidated():
            instrument = keeper.ledger.instruments[fact.symbol]
            verb = "bought back" if fact.signed_lots > 0 else "sold"
            price, quantity = instrument.price(fact.price_ticks), instrument.quantity(abs(fact.signed_lots))
            level, text = "error", f"liquidated: {verb} {quantity:f} {fact.symbol} at {price:f}"
        case m.FundingPaid():
            verb = "paid" if fact.paid_atoms >= 0 else "received"
            text = f"funding {verb}: {money(abs(fact.paid_atoms)):f} {keeper.ledger.quote} on {fact.symbol}"
        case m.OrderDenied():
            level, text = "warning", f"denied {fact.side} by {fact.reason}: {fact.detail} ({fact.strategy})"
        case m.OrderEvent() if fact.state in (OrderState.REJECTED, OrderState.FAILED, OrderState.EXPIRED):
            level, text = "warning", f"order {fact.client_id} on {fact.symbol} {fact.state}: {fact.reason}"
        case m.RiskStateChanged():
            is_good = fact.state is m.RiskState.NORMAL
            level = "info" if is_good else "warning" if fact.cause == "operator" else "error"
            by = f" by {fact.who}" if fact.who else ""
            text = f"risk is {fact.state} by {latch_name(fact)}: {fact.detail}"
            text = f"{latch_name(fact)} is open again{by}: {fact.detail}" if is_good else text
        case m.OrderEvent() if fact.state in (OrderState.UNKNOWN, OrderState.NEVER_ACCEPTED, OrderState.ABANDONED):
            level, text = "warning", f"order {fact.client_id} on {fact.symbol} is {fact.state}: {fact.reason}"
        case m.AccountCompared():
            lines = [f"{each.kind} {each.name}" for each in fact.differences]
            level = "error" if lines else "info"
            text = f"{fact.market} books differ: {', '.join(lines)}" if lines else f"{fact.market} books are equal"
        case m.ExternalFlow():
            amount = f"{money(fact.atoms):+f} {fact.currency}"
            level, text = "warning", f"{fact.wallet} {amount} without an order of ours: {fact.reason}"
        case m.OperatorAnswered() if fact.detail:
            level, text = "warning", f"{fact.verb}: {fact.detail}"
        case m.SessionStarted():
            text = f"session {fact.epoch} started"
        case m.SessionEnded():
            text = f"session ended: {fact.reason}"
        case _:
            return None
    return Note(ts_ns=fact.ts_ns, level=level, text=text)
