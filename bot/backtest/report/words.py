"""Values of metrics as text, the same on a terminal and on a page."""

from __future__ import annotations

import math
from typing import Final

from bot.backtest.metrics import METRICS, Unit, Value

NONE: Final = "-"
"""Shown where a value is not defined."""

GROUPS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (
        "Return",
        ("final_equity", "total_return", "annual_return", "cagr", "buy_and_hold", "best_day", "worst_day"),
    ),
    (
        "Risk",
        (
            "volatility",
            "max_drawdown",
            "max_drawdown_from",
            "max_drawdown_trough",
            "max_drawdown_to",
            "max_drawdown_days",
            "longest_drawdown_days",
            "ulcer_index",
            "cvar",
        ),
    ),
    ("Reward for risk", ("sharpe", "sortino", "calmar", "omega", "tail_ratio")),
    (
        "Trades",
        (
            "trades",
            "open_trades",
            "winning_trades",
            "losing_trades",
            "win_rate",
            "profit_factor",
            "expectancy",
            "payoff",
            "average_win",
            "average_loss",
            "largest_win",
            "largest_loss",
            "winning_streak",
            "losing_streak",
            "average_trade_return",
            "average_bars",
            "trades_a_day",
        ),
    ),
    (
        "Market and costs",
        (
            "exposure_time",
            "exposure",
            "fills",
            "traded_notional",
            "turnover",
            "fees",
            "slippage",
            "funding",
            "liquidations",
            "refusals",
        ),
    ),
)
"""Every metric once, as reports group them."""

HEADLINES: Final = (
    "final_equity",
    "total_return",
    "cagr",
    "sharpe",
    "max_drawdown",
    "win_rate",
    "profit_factor",
    "trades",
)


def metric_text(name: str, value: Value, quote: str) -> str:
    """Return the value of a metric with its unit."""
    return value_text(value, METRICS[name].unit, quote)


def value_text(value: Value, unit: Unit, quote: str) -> str:
    """Return a value with its unit, `NONE` where there is none."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value.replace("T", " ").removesuffix(":00Z").removesuffix("Z")
    if isinstance(value, dict):
        return ", ".join(f"{code} {count:,}" for code, count in value.items()) or "none"
    match unit:
        case "fraction":
            return percent_text(value)
        case "quote":
            return f"{number_text(value)} {quote}"
        case "count":
            return f"{value:,.0f}"
        case "days":
            return f"{number_text(value)} days"
        case "bars":
            return f"{number_text(value)} bars"
        case "bps":
            return f"{number_text(value)} bps"
        case "a day" | "a year":
            return f"{number_text(value)} {unit}"
        case "ratio" | "time" | "counts":
            return number_text(value)


def percent_text(value: float) -> str:
    """Return a fraction as a percentage: `12.34 %`."""
    return f"{number_text(value * 100)} %"


def number_text(value: float) -> str:
    """Return a number with two decimals, more where it is small, powers of ten where it is huge; never `-0.00`."""
    if value == 0:
        return "0.00"
    size = math.floor(math.log10(abs(value)))
    if size >= 15:
        return f"{value:.3e}"
    if size < -8:
        return f"{value:.2e}"
    return f"{value:,.{2 if size >= -1 else 1 - size}f}"


def short_number(value: float) -> str:
    """Return a number in at most six characters or so, for an axis or a cell: `1.2k`, `0.05`, `-3.4M`."""
    size = abs(value)
    for bound, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if size >= bound:
            return f"{value / (1e3 if unit == 'k' else bound):.4g}{unit}"
    return f"{value:.4g}" if size >= 1e-4 or value == 0 else f"{value:.1e}"


def cell_text(value: float) -> str:
    """Return a value of a heat map in at most six characters or so."""
    size = abs(value)
    if size >= 1e4:
        return short_number(value)
    return f"{value:.{2 if size < 100 else 0}f}"


def parameter_text(value: float | str) -> str:
    """Return the value of a parameter: whole numbers without a point."""
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:.6g}"


def metric_title(name: str) -> str:
    """Return the title of a metric, or the name itself where it is none of ours."""
    return METRICS[name].title if name in METRICS else name
