"""Orders, fills, positions and accounts as the contracts' API writes them, by REST and on the private socket.

Only writing: the dossier's futures-rest.md, sections 4 to 6, and futures-ws.md, section 3. Numbers are text, and so are
the times of REST; the socket's are numbers but for those of `trade` and `account`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from bot.core.instrument import ATOM_SCALE
from bot.core.orders import OrderState
from bot.exchange.simulated.accounts import AccountType, Transfer
from bot.exchange.simulated.futures_clearing import Bill, PositionChange
from bot.exchange.simulated.futures_desk import OrderChange
from bot.exchange.simulated.futures_instruments import SETTLEMENT, Contract
from bot.exchange.simulated.futures_margin import Standing
from bot.exchange.simulated.futures_orders import FillRecord, FuturesOrder, ms
from bot.exchange.simulated.futures_positions import Position
from bot.exchange.simulated.venue import plain

RATIO_SCALE: Final = 8
"""Decimals of margin ratios and average prices beyond the tick."""
PPM_SCALE: Final = 6
TRADING: Final = "TRADING"
TRANSFER: Final = "TRANSFER"
_ENDED_EARLY: Final = (OrderState.CANCELED, OrderState.PARTIALLY_CANCELED)


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False, rename="camel"):
    """The base of rows; keys in the exchange's order."""


class OrderRow(Row, frozen=True, kw_only=True, gc=False):
    """An order by REST."""

    symbol: str
    side: str
    type: str
    ord_id: str
    cl_ord_id: str
    mgn_mode: str
    pos_side: str
    px: str
    sz: str
    lever: str
    state: str
    source: str
    reduce_only: bool
    time_in_force: str
    avg_px: str
    exec_qty: str
    exec_amt: str
    fee_amt: str
    stp_mode: str
    c_time: str
    u_time: str
    cancel_reason: str
    fee_ccy: str = SETTLEMENT
    deduct_ccy: str = ""
    deduct_amt: str = "0"
    q_ccy: str = SETTLEMENT
    tp_trg_px: str = ""
    tp_px: str = ""
    tp_trg_px_type: str = ""
    sl_trg_px: str = ""
    sl_px: str = ""
    sl_trg_px_type: str = ""


class OrderNewsRow(Row, frozen=True, kw_only=True, gc=False):
    """An order on the channel `orders`: one row per change, all amounts cumulative."""

    symbol: str
    side: str
    type: str
    mgn_mode: str
    time_in_force: str
    cl_ord_id: str
    sz: str
    px: str
    reduce_only: bool
    pos_side: str
    ord_id: str
    state: str
    cancel_reason: str
    source: str
    avg_px: str
    exec_qty: str
    exec_amt: str
    fee_amt: str
    c_time: int
    u_time: int
    stp_mode: str
    fee_ccy: str = SETTLEMENT
    deduct_ccy: str = ""
    deduct_amt: str = "0"


class FillRow(Row, frozen=True, kw_only=True, gc=False):
    """A fill by REST."""

    id: str
    trd_id: str
    symbol: str
    side: str
    type: str
    mgn_mode: str
    pos_side: str
    ord_type: str
    ord_id: str
    cl_ord_id: str
    role: str
    px: str
    qty: str
    sz: str
    """The same as `qty`: the Java SDK reads this one."""
    value: str
    fee_amt: str
    fee_rate: str
    c_time: str
    u_time: str
    fee_ccy: str = SETTLEMENT
    deduct_ccy: str = ""
    deduct_amt: str = "0"
    q_ccy: str = SETTLEMENT
    act_type: str = TRADING


class TradeNewsRow(Row, frozen=True, kw_only=True, gc=False):
    """A fill on the channel `trade`; its fee is this fill's alone."""

    symbol: str
    side: str
    ord_id: str
    cl_ord_id: str
    role: str
    trd_id: str
    fee_amt: str
    fpx: str
    fqty: str
    u_time: str
    fee_ccy: str = SETTLEMENT
    deduct_ccy: str = ""
    deduct_amt: str = "0"


class PositionRow(Row, frozen=True, kw_only=True, gc=False):
    """An open position by REST. `qty` is positive: the direction is `side` alone."""

    symbol: str
    pos_side: str
    side: str
    mgn_mode: str
    open_avg_px: str
    qty: str
    avail_qty: str
    lever: str
    liq_px: str
    im: str
    mm: str
    mgn: str
    upl: str
    upl_ratio: str
    pnl: str
    mark_px: str
    last_px: str
    index_px: str
    mgn_ratio: str
    c_time: str
    u_time: str
    max_w_amt: str
    fee: str
    f_fee: str
    adl: str = "0"
    state: str = "NORMAL"
    act_type: str = TRADING
    tp_trg_px: str = ""
    sl_trg_px: str = ""


class PositionNewsRow(Row, frozen=True, kw_only=True, gc=False):
    """A position on the channel `positions`; a closed one has `qty` 0."""

    symbol: str
    pos_side: str
    side: str
    mgn_mode: str
    open_avg_px: str
    qty: str
    old_qty: str
    avail_qty: str
    lever: str
    fee: str
    liq_px: str
    mgn: str
    im: str
    mm: str
    upl: str
    upl_ratio: str
    pnl: str
    f_pnl: str
    f_fee: str
    mark_px: str
    mgn_ratio: str
    c_time: int
    u_time: int
    adl: str = "0"
    state: str = "NORMAL"


class PastPositionRow(Row, frozen=True, kw_only=True, gc=False):
    """A closed position by REST."""

    id: str
    symbol: str
    pos_side: str
    side: str
    mgn_mode: str
    open_avg_px: str
    close_avg_px: str
    qty: str
    closed_qty: str
    pnl: str
    fee: str
    f_fee: str
    c_time: str
    u_time: str
    avail_qty: str = "0"
    state: str = "CLOSED"


class CoinRow(Row, frozen=True, kw_only=True, gc=False):
    """The details of one coin of an account; there is only USDT."""

    ccy: str
    eq: str
    iso_eq: str
    avail: str
    trd_hold: str
    upl: str
    iso_avail: str
    iso_hold: str
    iso_upl: str
    im: str
    mm: str
    mmr: str
    imr: str
    c_time: str
    u_time: str


class AccountRow(Row, frozen=True, kw_only=True, gc=False):
    """An account, by REST and on the channel `account`."""

    eq: str
    iso_eq: str
    im: str
    mm: str
    mmr: str
    upl: str
    avail_mgn: str
    c_time: str
    u_time: str
    details: list[CoinRow]
    state: str = "NORMAL"


class BillRow(Row, frozen=True, kw_only=True, gc=False):
    """One movement of an account's money."""

    id: str
    symbol: str
    mgn_mode: str
    pos_side: str
    sz: str
    c_time: str
    type: str
    ccy: str = SETTLEMENT
    act_type: str = TRADING


class Marks(msgspec.Struct, frozen=True, gc=False):
    """The prices that a position is shown with."""

    mark_ticks: int
    index_ticks: int
    last_ticks: int


# --- numbers


def usdt(atoms: int) -> str:
    """Return a sum as text."""
    return plain(atoms, ATOM_SCALE)


def ratio(part: int, whole: int) -> str:
    """Return a quotient as text, its last decimal cut off; 0 where there is nothing to divide by."""
    if whole <= 0:
        return "0"
    scaled = abs(part) * 10**RATIO_SCALE // whole
    return plain(scaled if part >= 0 else -scaled, RATIO_SCALE)


def price_text(contract: Contract, ticks: int) -> str:
    """Return a price as text."""
    return plain(ticks, contract.instrument.price_scale)


def average_text(contract: Contract, value: int, contracts: int) -> str:
    """Return the average of trades whose price x contracts is `value`, in ticks, as text; cut off."""
    if not contracts:
        return "0"
    return plain(value * 10**RATIO_SCALE // contracts, contract.instrument.price_scale + RATIO_SCALE)


def value_text(contract: Contract, value: int) -> str:
    """Return price x contracts, given in ticks, in USDT."""
    return usdt(contract.value_atoms(1, value))


# --- orders and fills


def order_row(order: FuturesOrder) -> OrderRow:
    """Return an order as it is now."""
    contract = order.contract
    return OrderRow(
        symbol=order.symbol,
        side=order.side,
        type=order.order_type,
        ord_id=str(order.order_id),
        cl_ord_id=order.client_id,
        mgn_mode=order.margin_mode,
        pos_side=order.pos_side,
        px=price_text(contract, order.price_ticks or 0),
        sz=str(order.qty_lots),
        lever=str(order.leverage),
        state=order.state,
        source=order.source,
        reduce_only=order.is_reduce_only,
        time_in_force=order.time_in_force,
        avg_px=average_text(contract, order.filled_value, order.filled_lots),
        exec_qty=str(order.filled_lots),
        exec_amt=value_text(contract, order.filled_value),
        fee_amt=usdt(order.fee_atoms),
        stp_mode=order.stp_mode,
        c_time=str(ms(order.created_ns)),
        u_time=str(ms(order.updated_ns)),
        cancel_reason=order.end_reason or "",
    )


def order_news_row(change: OrderChange) -> OrderNewsRow:
    """Return an order as it was right after a change."""
    order, contract = change.order, change.order.contract
    return OrderNewsRow(
        symbol=order.symbol,
        side=order.side,
        type=order.order_type,
        mgn_mode=order.margin_mode,
        time_in_force=order.time_in_force,
        cl_ord_id=order.client_id,
        sz=str(order.qty_lots),
        px=price_text(contract, order.price_ticks or 0),
        reduce_only=order.is_reduce_only,
        pos_side=order.pos_side,
        ord_id=str(order.order_id),
        state=change.state,
        cancel_reason=(order.end_reason or "") if change.state in _ENDED_EARLY else "",
        source=order.source,
        avg_px=average_text(contract, change.filled_value, change.filled_lots),
        exec_qty=str(change.filled_lots),
        exec_amt=value_text(contract, change.filled_value),
        fee_amt=usdt(change.fee_atoms),
        c_time=ms(order.created_ns),
        u_time=ms(change.ts_ns),
        stp_mode=order.stp_mode,
    )


def fill_row(fill: FillRecord) -> FillRow:
    """Return a fill."""
    return FillRow(
        id=str(fill.fill_id),
        trd_id=str(fill.trade_id),
        symbol=fill.contract.symbol,
        side=fill.side,
        type=fill.type,
        mgn_mode=fill.margin_mode,
        pos_side=fill.pos_side,
        ord_type=fill.order_type,
        ord_id=str(fill.order_id),
        cl_ord_id=fill.client_id,
        role="MAKER" if fill.is_maker else "TAKER",
        px=price_text(fill.contract, fill.price_ticks),
        qty=str(fill.contracts),
        sz=str(fill.contracts),
        value=value_text(fill.contract, fill.price_ticks * fill.contracts),
        fee_amt=usdt(fill.fee_atoms),
        fee_rate=plain(fill.fee_ppm, PPM_SCALE),
        c_time=str(ms(fill.ts_ns)),
        u_time=str(ms(fill.ts_ns)),
    )


def trade_news_row(fill: FillRecord) -> TradeNewsRow:
    """Return a fill for the channel `trade`."""
    return TradeNewsRow(
        symbol=fill.contract.symbol,
        side=fill.side,
        ord_id=str(fill.order_id),
        cl_ord_id=fill.client_id,
        role="MAKER" if fill.is_maker else "TAKER",
        trd_id=str(fill.trade_id),
        fee_amt=usdt(fill.fee_atoms),
        fpx=price_text(fill.contract, fill.price_ticks),
        fqty=str(fill.contracts),
        u_time=str(ms(fill.ts_ns)),
    )


# --- positions and accounts


class _PositionTexts:
    """What both kinds of position row say alike."""

    def __init__(self, position: Position, mark_ticks: int, standing: Standing) -> None:
        contract = position.contract
        unrealised = position.unrealised_atoms(mark_ticks)
        maintenance = position.maintenance_margin_atoms(mark_ticks)
        initial = position.initial_margin_atoms(mark_ticks)
        if position.is_isolated:
            backing, bound = position.margin_atoms + unrealised, maintenance
            margin_ratio = ratio(maintenance, backing)
        else:
            others = standing.cross_maintenance - maintenance
            backing, bound = standing.cross_equity - others, maintenance
            margin_ratio = ratio(standing.cross_maintenance, standing.cross_equity)
        liquidation = position.liquidation_ticks(mark_ticks, backing) if bound else None
        self.average = plain(position.average_atoms, ATOM_SCALE - contract.instrument.quantity_scale)
        self.liquidation = price_text(contract, liquidation or 0)
        self.initial, self.maintenance = usdt(initial), usdt(maintenance)
        self.unrealised = usdt(unrealised)
        self.unrealised_ratio = ratio(unrealised, initial)
        self.margin_ratio = margin_ratio
        self.margin = usdt(position.margin_atoms if position.is_isolated else 0)


def side_of_position(contracts: int) -> str:
    """Return the direction of a position: the side that opened it."""
    return "BUY" if contracts > 0 else "SELL"


def position_row(position: Position, marks: Marks, standing: Standing, closing_contracts: int) -> PositionRow:
    """Return an open position; `closing_contracts` of it wait to be closed by orders."""
    contract, texts = position.contract, _PositionTexts(position, marks.mark_ticks, standing)
    return PositionRow(
        symbol=contract.symbol,
        pos_side=position.pos_side,
        side=side_of_position(position.contracts),
        mgn_mode=position.margin_mode,
        open_avg_px=texts.average,
        qty=str(position.size),
        avail_qty=str(position.size - closing_contracts),
        lever=str(position.leverage),
        liq_px=texts.liquidation,
        im=texts.initial,
        mm=texts.maintenance,
        mgn=texts.margin,
        upl=texts.unrealised,
        upl_ratio=texts.unrealised_ratio,
        pnl=usdt(position.realised_atoms),
        mark_px=price_text(contract, marks.mark_ticks),
        last_px=price_text(contract, marks.last_ticks),
        index_px=price_text(contract, marks.index_ticks),
        mgn_ratio=texts.margin_ratio,
        c_time=str(ms(position.created_ns)),
        u_time=str(ms(position.updated_ns)),
        max_w_amt=usdt(position.removable_atoms(marks.mark_ticks) if position.is_isolated else 0),
        fee=usdt(position.fees_atoms),
        f_fee=usdt(position.funding_atoms),
    )


def position_news_row(change: PositionChange, mark_ticks: int, standing: Standing) -> PositionNewsRow:
    """Return a position as it was right after a change."""
    position = change.position
    texts = _PositionTexts(position, mark_ticks, standing)
    return PositionNewsRow(
        symbol=position.contract.symbol,
        pos_side=position.pos_side,
        side=side_of_position(position.contracts or change.old_contracts),
        mgn_mode=position.margin_mode,
        open_avg_px=texts.average,
        qty=str(position.size),
        old_qty=str(abs(change.old_contracts)),
        avail_qty=str(position.size),
        lever=str(position.leverage),
        fee=usdt(position.fees_atoms),
        liq_px=texts.liquidation,
        mgn=texts.margin,
        im=texts.initial,
        mm=texts.maintenance,
        upl=texts.unrealised,
        upl_ratio=texts.unrealised_ratio,
        pnl=usdt(position.realised_atoms),
        f_pnl=usdt(position.realised_atoms - position.fees_atoms + position.funding_atoms),
        f_fee=usdt(position.funding_atoms),
        mark_px=price_text(position.contract, mark_ticks),
        mgn_ratio=texts.margin_ratio,
        c_time=ms(position.created_ns),
        u_time=ms(position.updated_ns),
    )


def past_position_row(position: Position) -> PastPositionRow:
    """Return a closed position."""
    contract = position.contract
    average = position.closed_value_atoms * 10**RATIO_SCALE // position.closed_contracts
    scale = ATOM_SCALE - contract.instrument.quantity_scale + RATIO_SCALE
    return PastPositionRow(
        id=str(position.id),
        symbol=contract.symbol,
        pos_side=position.pos_side,
        side=side_of_position(position.opened_direction),
        mgn_mode=position.margin_mode,
        open_avg_px=plain(position.average_atoms, ATOM_SCALE - contract.instrument.quantity_scale),
        close_avg_px=plain(average, scale),
        qty=str(position.contracts_most),
        closed_qty=str(position.closed_contracts),
        pnl=usdt(position.realised_atoms),
        fee=usdt(position.fees_atoms),
        f_fee=usdt(position.funding_atoms),
        c_time=str(ms(position.created_ns)),
        u_time=str(ms(position.updated_ns)),
    )


def account_row(standing: Standing, opened_ns: int, now_ns: int) -> AccountRow:
    """Return an account.

    After the dossier: eq = avail + upl, isoEq = isoAvail + isoUpl + isoHold, availMgn = eq - im, mmr = mm / eq; so `im`
    has the margin of working cross orders in it, and `eq` leaves that of isolated ones to `isoEq`.
    """
    available = standing.cross_balance - standing.isolated_held
    equity = available + standing.cross_unrealised
    initial = standing.cross_initial + standing.cross_held
    times = str(ms(opened_ns)), str(ms(now_ns))
    maintenance_ratio = ratio(standing.cross_maintenance, equity)
    coin = CoinRow(
        ccy=SETTLEMENT,
        eq=usdt(equity),
        iso_eq=usdt(standing.isolated_equity),
        avail=usdt(available),
        trd_hold=usdt(standing.cross_held),
        upl=usdt(standing.cross_unrealised),
        iso_avail=usdt(standing.isolated_margin),
        iso_hold=usdt(standing.isolated_held),
        iso_upl=usdt(standing.isolated_unrealised),
        im=usdt(initial),
        mm=usdt(standing.cross_maintenance),
        mmr=maintenance_ratio,
        imr=ratio(initial, equity),
        c_time=times[0],
        u_time=times[1],
    )
    return AccountRow(
        eq=coin.eq,
        iso_eq=coin.iso_eq,
        im=coin.im,
        mm=coin.mm,
        mmr=coin.mmr,
        upl=coin.upl,
        avail_mgn=usdt(standing.available),
        c_time=times[0],
        u_time=times[1],
        details=[coin],
    )


def bill_row(bill: Bill) -> BillRow:
    """Return a movement of money."""
    return BillRow(
        id=str(bill.bill_id),
        symbol=bill.symbol,
        mgn_mode=bill.margin_mode,
        pos_side=bill.pos_side,
        sz=usdt(bill.atoms),
        c_time=str(ms(bill.ts_ns)),
        type=bill.type,
    )


def transfer_row(transfer: Transfer) -> BillRow:
    """Return money that came from spot, or went there."""
    sign = 1 if transfer.target is AccountType.FUTURES else -1
    return BillRow(
        id=str(transfer.transfer_id),
        symbol="",
        mgn_mode="",
        pos_side="",
        sz=usdt(sign * transfer.atoms),
        c_time=str(ms(transfer.ts_ns)),
        type=TRANSFER,
    )
