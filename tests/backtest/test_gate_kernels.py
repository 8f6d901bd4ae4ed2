"""The compiled gate's own arithmetic, where a whole backtest would hardly come by."""

from __future__ import annotations

import numpy as np

from bot.backtest import slots as k
from bot.backtest.gate_kernels import pursue


def test_a_negative_wish_on_spot_never_buys() -> None:
    """A stop filled and its target still works: more is being sold than is held, and less than nothing is missing."""
    box = k.Box(
        run=np.zeros(k.RUN, np.int64),
        book=np.zeros((1, k.BOOK), np.int64),
        orders=np.zeros((1, 4, k.ORDER), np.int64),
        fills=np.zeros((1, k.FILL), np.int64),
    )
    box.run[k.FLOW + 1] = 10**12
    row = box.book[0]
    row[[k.UNIT, k.PER_LOT, k.SCALE_A, k.SCALE_B, k.QTY_MIN, k.MARK]] = 1, 1, 1, 1, 1, 100
    row[k.HAS_WISH], row[k.W_TARGET], row[k.W_NUMBER] = 1, -1, 1
    row[k.COUNT] = 1
    box.orders[0, 0, [k.ROLE, k.SIDE, k.QTY]] = k.PROFIT, -1, 10
    pursue(box, 0)
    orders = box.orders[0, : row[k.COUNT]]
    assert [(order[k.ROLE], order[k.SIDE]) for order in orders if order[k.ROLE] == k.TRADE] == []
