"""The private calls about the account and its positions. Source: the dossier's futures-rest.md, sections 4 and 6."""

from __future__ import annotations

from typing import Final

import msgspec

from bot.core.instrument import ATOM_SCALE, scaled
from bot.errors import BadReply, OffGrid
from bot.exchange.simulated.futures_calls import Call, Route, Routes, names, page, span
from bot.exchange.simulated.futures_clearing import BillType, Member
from bot.exchange.simulated.futures_instruments import SETTLEMENT, Contract
from bot.exchange.simulated.futures_listing import RiskLimitRow, risk_limits
from bot.exchange.simulated.futures_orders import BAD_PARAMETER, Refusal, Text, choice, margin_mode_of, pos_side_of
from bot.exchange.simulated.futures_positions import MarginMode, Position, PositionMode, PosSide
from bot.exchange.simulated.futures_rows import (
    TRANSFER,
    AccountRow,
    BillRow,
    Marks,
    PastPositionRow,
    PositionRow,
    Row,
    account_row,
    bill_row,
    past_position_row,
    position_row,
    transfer_row,
    usdt,
)

BALANCE: Final = 50
OTHER: Final = 10
_OTHER_BILLS: Final = (TRANSFER, "TRIAL_INCOME", "COUPON", "ADL_PNL")
"""Types that are asked for although only the first ever comes here."""


class _Leverage(Row, frozen=True, kw_only=True, gc=False):
    symbol: str
    mgn_mode: str
    pos_side: str
    lever: str


class _Mode(Row, frozen=True, kw_only=True, gc=False):
    pos_mode: str


class _Margin(Row, frozen=True, kw_only=True, gc=False):
    amt: str
    lever: str
    symbol: str
    pos_side: str
    type: str


class _SetLeverage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    symbol: str = ""
    lever: Text = ""
    mgn_mode: str | None = None
    pos_side: str | None = None


class _SetMode(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    pos_mode: str = ""


class _MoveMargin(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    symbol: str = ""
    amt: Text = ""
    type: str = ""
    pos_side: str | None = None
    pos_mode: str | None = None
    """What ccxt calls the side."""


def _balance(call: Call) -> AccountRow:
    return account_row(call.desk.standing(call.client), call.exchange.opened_ns, call.now_ns)


def _bills(call: Call) -> list[BillRow]:
    query = call.query()
    asked, kind = span(query), query.get("type", "").upper()
    if kind and kind not in (*BillType.__members__, *_OTHER_BILLS):
        raise Refusal(BAD_PARAMETER, f"Invalid type: {kind[:40]}")
    bills = [(bill.bill_id, bill.ts_ns, bill_row(bill)) for bill in _member(call).bills]
    moved = (one for one in call.client.transfers if one.currency == SETTLEMENT)
    bills += [(one.transfer_id, one.ts_ns, transfer_row(one)) for one in moved]
    bills.sort(key=lambda bill: -bill[0])
    rows = [bill for bill in bills if asked.holds(bill[1]) and kind in ("", bill[2].type)]
    return [row for _, _, row in page(query, rows, lambda bill: bill[0])]


def _member(call: Call) -> Member:
    return call.desk.clearing.member(call.client)


# --- positions


def _positions(call: Call) -> list[PositionRow]:
    symbol = call.query().get("symbol", "").upper()
    if symbol:
        call.exchange.contract(symbol)
    standing, orders = call.desk.standing(call.client), call.desk.orders(call.client)
    rows: list[PositionRow] = []
    for (name, pos_side), position in _member(call).positions.items():
        if symbol in ("", name):
            market = call.feed.markets[name]
            prices = market.prices
            marks = Marks(prices.mark_ticks or 0, prices.index_ticks or 0, market.last_ticks)
            closing = sum(order.leaves_lots for order in orders.closing((name, pos_side)))
            rows.append(position_row(position, marks, standing, closing))
    return rows


def _past_positions(call: Call) -> list[PastPositionRow]:
    query = call.query()
    asked, symbol = span(query), query.get("symbol", "").upper()
    mode, pos_side = margin_mode_of(query.get("mgnMode")), pos_side_of(query.get("posSide"))

    def is_asked(position: Position) -> bool:
        return (
            asked.holds(position.updated_ns)
            and symbol in ("", position.contract.symbol)
            and mode in (None, position.margin_mode)
            and pos_side in (None, position.pos_side)
        )

    rows = (position for position in reversed(_member(call).finished) if is_asked(position))
    return [past_position_row(position) for position in page(query, rows, lambda position: position.id)]


# --- settings


def _leverages(call: Call) -> list[_Leverage]:
    query, member = call.query(), _member(call)
    contract = call.exchange.contract(query.get("symbol"))
    mode = margin_mode_of(query.get("mgnMode"))
    sides = (PosSide.BOTH,) if member.mode is PositionMode.ONE_WAY else (PosSide.LONG, PosSide.SHORT)
    return [
        _leverage_row(member, contract, one, side) for one in ((mode,) if mode else tuple(MarginMode)) for side in sides
    ]


def _leverage_row(member: Member, contract: Contract, mode: MarginMode, side: PosSide) -> _Leverage:
    lever = str(member.leverage(contract, mode, side))
    return _Leverage(symbol=contract.symbol, mgn_mode=mode, pos_side=side, lever=lever)


def _set_leverage(call: Call) -> _Leverage:
    asked, member = call.fields(_SetLeverage), _member(call)
    contract = call.exchange.contract(asked.symbol)
    mode = margin_mode_of(asked.mgn_mode) or member.margin_modes.get(contract.symbol, MarginMode.CROSS)
    side = pos_side_of(asked.pos_side)
    if side is None:
        if member.mode is PositionMode.HEDGE:
            raise Refusal(BAD_PARAMETER, "posSide is missing")
        side = PosSide.BOTH
    leverage = _number(asked.lever, "lever", 0)
    call.desk.set_leverage(call.client, contract, mode, side, leverage, call.now_ns)
    return _leverage_row(member, contract, mode, side)


def _mode(call: Call) -> _Mode:
    return _Mode(pos_mode=_member(call).mode)


def _set_mode(call: Call) -> dict[str, str]:
    mode = choice(call.fields(_SetMode).pos_mode, "posMode", PositionMode.__members__)
    call.desk.set_mode(call.client, mode)
    return {}


def _move_margin(call: Call) -> _Margin:
    asked = call.fields(_MoveMargin)
    symbol = call.exchange.contract(asked.symbol).symbol
    sign = choice(asked.type, "type", {"ADD": 1, "REDUCE": -1})
    position = call.desk.position(call.client, symbol, pos_side_of(asked.pos_side or asked.pos_mode))
    atoms = _number(asked.amt, "amt", ATOM_SCALE)
    if not atoms:
        raise Refusal(BAD_PARAMETER, "amt must be > 0")
    call.desk.move_margin(call.client, position, sign * atoms, call.now_ns)
    return _Margin(
        amt=usdt(atoms),
        lever=str(position.leverage),
        symbol=symbol,
        pos_side=position.pos_side,
        type=asked.type.upper(),
    )


def _number(value: Text, name: str, scale: int) -> int:
    try:
        return scaled(str(value), scale)
    except (BadReply, OffGrid) as error:
        raise Refusal(BAD_PARAMETER, f"Invalid {name}: {str(value)[:40]}") from error


def _risk_limits(call: Call) -> list[RiskLimitRow]:
    query = call.query()
    mode = margin_mode_of(query.get("mgnMode"))
    asked = names(query.get("symbol")) or list(call.feed.markets)
    modes = (mode,) if mode else tuple(MarginMode)
    return [row for name in asked for row in risk_limits(call.exchange.contract(name), modes)]


ACCOUNT_ROUTES: Final[Routes] = {
    ("GET", "/v3/account/balance"): Route(_balance, BALANCE),
    ("GET", "/v3/account/bills"): Route(_bills, OTHER),
    ("GET", "/v3/trade/position/opens"): Route(_positions, OTHER),
    ("GET", "/v3/trade/position/history"): Route(_past_positions, OTHER),
    ("POST", "/v3/trade/position/margin"): Route(_move_margin, OTHER),
    ("GET", "/v3/position/leverages"): Route(_leverages, OTHER),
    ("POST", "/v3/position/leverage"): Route(_set_leverage, OTHER),
    ("GET", "/v3/position/mode"): Route(_mode, OTHER),
    ("POST", "/v3/position/mode"): Route(_set_mode, OTHER),
    ("GET", "/v3/position/riskLimit"): Route(_risk_limits, OTHER),
}
