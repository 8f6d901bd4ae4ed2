"""Records of the protocol, filled with what a test does not care about."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from bot.control.protocol import FillRow, Hello, LatchRow, MarketRow, OrderRow, PositionRow, Research, View
from bot.core.instrument import Side
from bot.core.messages import SECOND_NS, RiskState
from bot.core.orders import OrderState

NOW_NS = 1_767_323_045 * SECOND_NS
"""2026-01-02 03:04:05 UTC."""


def hello(**changes: Any) -> Hello:
    base = Hello(version="0.1.0", pid=4711, mode="paper", exchange="poloniex", state_dir="/var/lib/bot")
    return msgspec.structs.replace(base, **changes)


def position(**changes: Any) -> PositionRow:
    base = PositionRow(
        symbol="BTC_USDT",
        quantity=Decimal("0.1250"),
        entry_price=Decimal("64120.50"),
        mark_price=Decimal("64512.25"),
        value=Decimal("8064.03125"),
        unrealised_pnl=Decimal("48.96875"),
        realised_pnl=Decimal("-3.20"),
    )
    return msgspec.structs.replace(base, **changes)


def order(**changes: Any) -> OrderRow:
    base = OrderRow(
        client_id="1-42",
        strategy="crossover",
        symbol="BTC_USDT",
        side=Side.BUY,
        order_type="LIMIT",
        price=Decimal("63900.00"),
        quantity=Decimal("0.0500"),
        filled=Decimal("0.0100"),
        state=OrderState.PARTIALLY_FILLED,
        submitted_ns=NOW_NS - 90 * SECOND_NS,
    )
    return msgspec.structs.replace(base, **changes)


def research(**changes: Any) -> Research:
    base = Research(
        id="7", name="sweep crossover", done=1_500, total=10_000, rate=2_345.6, left_s=93.0, best="3.21 at 5"
    )
    return msgspec.structs.replace(base, **changes)


def fill(**changes: Any) -> FillRow:
    base = FillRow(
        ts_ns=NOW_NS - 30 * SECOND_NS,
        strategy="crossover",
        symbol="BTC_USDT",
        side=Side.BUY,
        price=Decimal("63900.00"),
        quantity=Decimal("0.0100"),
        fee=Decimal("0.00001"),
        fee_currency="BTC",
        is_maker=True,
    )
    return msgspec.structs.replace(base, **changes)


def latch(**changes: Any) -> LatchRow:
    base = LatchRow(
        name="drawdown",
        scope="",
        cause="drawdown",
        state=RiskState.HALTED,
        since_ns=NOW_NS - 60 * SECOND_NS,
        detail="drawdown 1250 bps >= 1200 bps",
    )
    return msgspec.structs.replace(base, **changes)


def market(**changes: Any) -> MarketRow:
    base = MarketRow(symbol="BTC_USDT", bid=Decimal("64512.20"), ask=Decimal("64512.30"), age_ms=180)
    return msgspec.structs.replace(base, **changes)


def view(**changes: Any) -> View:
    """Return a view of a quiet account that holds nothing."""
    base = View(
        ts_ns=NOW_NS,
        feed="live",
        feed_detail="",
        quote_currency="USDT",
        equity=Decimal("10000"),
        cash=Decimal("10000"),
        day_pnl=Decimal("0"),
        drawdown_pct=Decimal("0"),
        risk_state=RiskState.NORMAL,
        risk_cause="",
        epoch=1,
        markets=(),
        positions=(),
        orders=(),
        fills=(),
        equity_history=(),
        counters={},
    )
    return msgspec.structs.replace(base, **changes)


def busy_view(**changes: Any) -> View:
    """Return a view with a row or more in every table."""
    eth = {"symbol": "ETH_USDT"}
    wave = (0, 4, 9, 7, 12, 18, 15, 22, 30, 27, 21, 25, 33, 41, 38, 30, 24, 28, 36, 44, 52, 49, 55, 61)
    history = tuple((NOW_NS - (24 - i) * 60 * SECOND_NS, Decimal(10000) + Decimal(rise)) for i, rise in enumerate(wave))
    busy = view(
        equity=Decimal("10061.44"),
        cash=Decimal("3155.10"),
        day_pnl=Decimal("61.44"),
        drawdown_pct=Decimal("0.41"),
        markets=(market(), market(**eth, bid=Decimal("3120.11"), ask=Decimal("3120.25"), age_ms=920)),
        positions=(
            position(),
            position(
                **eth,
                quantity=Decimal("-1.5"),
                entry_price=Decimal("3101.00"),
                mark_price=Decimal("3120.18"),
                value=Decimal("-4680.27"),
                unrealised_pnl=Decimal("-28.77"),
                realised_pnl=Decimal("12.00"),
            ),
        ),
        orders=(order(), order(**eth, client_id="1-43", side=Side.SELL, price=Decimal("3150.00"))),
        fills=tuple(fill(ts_ns=NOW_NS - i * 61 * SECOND_NS, is_maker=i % 2 == 0) for i in range(1, 9)),
        equity_history=history,
        counters={"frames": 120345, "signals": 88, "orders": 41, "denied": 2, "fills": 37, "reconnects": 1},
    )
    return msgspec.structs.replace(busy, **changes)
