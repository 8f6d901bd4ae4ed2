"""One backtest by vectorbt, out of a file: FILE FAST SLOW FEE CAPITAL. See `research_first.py`."""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import numpy as np

warnings.simplefilter("ignore")

import pandas as pd  # noqa: E402  # pandas and vectorbt warn as they are imported
import vectorbt  # noqa: E402

vbt: Any = vectorbt
pandas: Any = pd
file, fast, slow, fee, capital = sys.argv[1:]
bars = pandas.read_csv(file)
bars.index = pandas.to_datetime(bars.time, unit="ms")
in_ticks = (bars.close * 100).round()
above = vbt.MA.run(in_ticks, int(fast)).ma.to_numpy() > vbt.MA.run(in_ticks, int(slow)).ma.to_numpy()
wants = np.concatenate(([False], above[:-1]))
book = vbt.Portfolio.from_signals(
    bars.close,
    entries=pandas.Series(wants, index=bars.index),
    exits=pandas.Series(~wants, index=bars.index),
    price=bars.open,
    fees=float(fee),
    init_cash=float(capital),
    freq="1min",
)
summary = {"maxDrawdown": float(book.max_drawdown()), "sharpeRatio": float(book.sharpe_ratio())}
figures = {"finalEquity": float(book.final_value()), "totalTrades": int(book.trades.closed.count())}
print(json.dumps(summary | figures))
