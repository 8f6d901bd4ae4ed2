"""One backtest by raptorbt, out of a file: FILE FAST SLOW FEE CAPITAL. See `research_first.py`."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import raptorbt
from numpy.typing import NDArray

raptor: Any = raptorbt
file, fast, slow, fee, capital = sys.argv[1:]
columns: NDArray[np.float64] = np.ascontiguousarray(np.loadtxt(file, delimiter=",", skiprows=1).T)
time_ms, open_, high, low, close, volume = columns
in_ticks = (columns[4] * 100).round()
wants = raptor.sma(in_ticks, int(fast)) > raptor.sma(in_ticks, int(slow))
config = raptor.BacktestConfig(initial_capital=float(capital), fees=float(fee), fill_timing="next_bar_open")
start_ns = time_ms.astype(np.int64) * 1_000_000
metrics = raptor.run_single_backtest(start_ns, open_, high, low, close, volume, wants, ~wants, config=config).metrics
final_equity = float(capital) * (1 + metrics.total_return_pct / 100)
print(json.dumps({"finalEquity": final_equity, "totalTrades": metrics.total_closed_trades}))
