"""A view as plain text, for `bot status`."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from bot.control.protocol import View
from bot.core.text import safe_text

DETAIL_MAX: Final = 200


def status_text(view: View) -> str:
    """Return a few lines that say where the bot stands."""
    quote = view.quote_currency
    cause = f" by {view.risk_cause}" if view.risk_cause else ""
    lines = [
        f"time      {_time(view.ts_ns)}, session {view.epoch}",
        f"feed      {view.feed}" + (f": {view.feed_detail}" if view.feed_detail else ""),
        f"risk      {view.risk_state}{cause}",
        *(
            f"latch     {row.state} by {row.name} since {_time(row.since_ns)}: {safe_text(row.detail, DETAIL_MAX)}"
            for row in view.latches
        ),
        f"equity    {_money(view.equity)} {quote}, cash {_money(view.cash)} {quote}",
        f"today     {_money(view.day_pnl)} {quote}, drawdown {view.drawdown_pct:.2f} %",
    ]
    held = [row for row in view.positions if row.quantity]
    lines += [
        f"position  {row.quantity:f} {row.symbol} at {row.entry_price:f}, "
        f"unrealised {_money(row.unrealised_pnl)} {quote}"
        for row in held
    ] or ["position  none"]
    lines += [
        f"order     {row.side} {row.quantity:f} {row.symbol} {row.order_type} "
        f"{'at ' + format(row.price, 'f') if row.price is not None else ''} filled {row.filled:f}, {row.state}"
        for row in view.orders
    ] or ["order     none"]
    if view.differences:
        lines.append(f"books     {len(view.differences)} differences to the exchange's; `bot reconcile` shows them")
    return "\n".join(lines)


def _time(ns: int) -> str:
    return datetime.fromtimestamp(ns / 1e9, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _money(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"{amount:,.2f}"
