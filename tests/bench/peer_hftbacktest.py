"""hftbacktest on our made-up market: the same book, the same market maker."""
# pyright: basic, reportMissingTypeStubs=false, reportMissingModuleSource=false, reportMissingImports=false

from __future__ import annotations

import numpy as np
from hftbacktest import (
    BUY_EVENT,
    DEPTH_CLEAR_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTX,
    LIMIT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    ROIVectorMarketDepthBacktest,
    event_dtype,
)
from numba import njit

from bot.backtest.book.events import ASK, BID, BOUGHT, CLEAR, KIND, SOLD, BookEvents
from tests.bench.book import MAKER

LATENCY_NS = 20_000_000
END_OF_DATA = 1


_CACHE: dict[int, np.ndarray] = {}


def _data(events: BookEvents) -> np.ndarray:
    """Return our rows as theirs: price in ticks, quantity in lots."""
    if id(events) not in _CACHE:
        kind = events.kind & KIND
        data = np.zeros(len(kind), event_dtype)
        flags = np.full(len(kind), EXCH_EVENT | LOCAL_EVENT, np.uint64)
        flags |= np.where((kind == BID) | (kind == BOUGHT), np.uint64(BUY_EVENT), np.uint64(0))
        flags |= np.where((kind == ASK) | (kind == SOLD), np.uint64(SELL_EVENT), np.uint64(0))
        flags |= np.where((kind == BID) | (kind == ASK), np.uint64(DEPTH_EVENT), np.uint64(0))
        flags |= np.where((kind == BOUGHT) | (kind == SOLD), np.uint64(TRADE_EVENT), np.uint64(0))
        flags |= np.where(kind == CLEAR, np.uint64(DEPTH_CLEAR_EVENT), np.uint64(0))
        data["ev"] = flags
        data["exch_ts"] = events.ts_ns
        data["local_ts"] = events.ts_ns
        data["px"] = events.base_ticks + events.step_ticks * events.price.astype(np.int64)
        data["qty"] = events.lots
        _CACHE[id(events)] = data
    return _CACHE[id(events)]


def _open(events: BookEvents, latency_ns: int):
    asset = (
        BacktestAsset()
        .data([_data(events)])
        .linear_asset(1.0)
        .constant_order_latency(latency_ns, latency_ns)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(1.0)
        .lot_size(1.0)
        .roi_lb(float(events.base_ticks))
        .roi_ub(float(events.base_ticks + events.step_ticks * events.width))
    )
    return ROIVectorMarketDepthBacktest([asset])


@njit
def _pass(hbt, interval_ns, mids):
    count = 0
    while hbt.elapse(interval_ns) == 0:
        if count < len(mids):
            depth = hbt.depth(0)
            mids[count] = (depth.best_bid + depth.best_ask) / 2
        count += 1
    return count


@njit
def _make(hbt, interval_ns, half_spread, lots, bound):
    number = 1
    bid_id, ask_id = 0, 0
    bid_price, ask_price = 0.0, 0.0
    while hbt.elapse(interval_ns) != END_OF_DATA:  # other codes: a cancel came too late
        hbt.clear_inactive_orders(0)
        depth = hbt.depth(0)
        held = hbt.position(0)
        orders = hbt.orders(0)
        new_bid, new_ask = depth.best_bid - half_spread, depth.best_ask + half_spread
        has_bid, has_ask = bid_id in orders, ask_id in orders
        if has_bid and (bid_price != new_bid or held >= bound) and orders.get(bid_id).cancellable:
            hbt.cancel(0, bid_id, False)
            has_bid = False
        if has_ask and (ask_price != new_ask or held <= -bound) and orders.get(ask_id).cancellable:
            hbt.cancel(0, ask_id, False)
            has_ask = False
        if not has_bid and held < bound:
            number += 1
            bid_id, bid_price = number, new_bid
            hbt.submit_buy_order(0, bid_id, new_bid, lots, GTX, LIMIT, False)
        if not has_ask and held > -bound:
            number += 1
            ask_id, ask_price = number, new_ask
            hbt.submit_sell_order(0, ask_id, new_ask, lots, GTX, LIMIT, False)
    return hbt.state_values(0).num_trades


def book_only(events: BookEvents) -> None:
    """Play all of it without an order; one step is longer than all."""
    hbt = _open(events, 0)
    _pass(hbt, int(events.ts_ns[-1] - events.ts_ns[0]) + 10**9, np.empty(0))
    hbt.close()


def mids(events: BookEvents, interval_ns: int) -> np.ndarray:
    """Return the middle at every whole interval after the first event, in ticks."""
    hbt = _open(events, 0)
    found = np.full((events.ts_ns[-1] - events.ts_ns[0]) // interval_ns, np.nan)
    _pass(hbt, interval_ns, found)
    hbt.close()
    return found


def maker(events: BookEvents, interval_ns: int) -> int:
    """Run the market maker; return its trades."""
    hbt = _open(events, LATENCY_NS)
    trades = _make(hbt, interval_ns, float(MAKER.half_spread_ticks), float(MAKER.lots), float(MAKER.position_lots_max))
    hbt.close()
    return trades
