"""Random rule documents over the whole grammar, and random candles to run them on; a seed gives the same again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from bot.core.instrument import Instrument
from bot.core.messages import Bar
from bot.strategies.advice import Candles, Market
from bot.strategies.rules.expressions import PRICES
from bot.strategies.rules.graph import INDICATORS

MINUTE_NS: Final = 60 * 10**9
FIELDS: Final = ("open", "high", "low", "close", "volume")
EPOCH_NS: Final = 1_704_067_200 * 10**9
"""2024-01-01, a Monday."""


def random_document(
    rng: np.random.Generator,
    *,
    timeframe: str = "1m",
    longer: Sequence[str] = ("3m", "5m", "1h"),
    others: Sequence[str] = ("ETH_USDT",),
    side: str = "",
) -> str:
    """Return a document that compiles: own bars of `timeframe`, `longer` ones, `others` to look at; "" any side."""
    return _Writer(rng, longer, others).document(timeframe, side)


class _Writer:
    def __init__(self, rng: np.random.Generator, longer: Sequence[str], others: Sequence[str]) -> None:
        self._rng = rng
        self._longer = longer
        self._others = others
        self._params: list[str] = []
        self._numbers: list[str] = []
        self._conditions: list[str] = []
        self._bundles: list[tuple[str, tuple[str, ...]]] = []

    def _one(self, *choices: str) -> str:
        return choices[int(self._rng.integers(len(choices)))]

    def _often(self, chance: float) -> bool:
        return bool(self._rng.random() < chance)

    def _whole(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))

    def document(self, timeframe: str, side: str) -> str:
        side = side or self._one("long", "short", "both", "both")
        sides = ("long", "short") if side == "both" else (side,)
        lines = [f'timeframe = "{timeframe}"', 'name = "random"', f'side = "{side}"']
        if self._often(0.3):
            lines.append('description = "Nobody knows."')
        if self._often(0.25):
            lines.append(f"max_bars = {self._whole(1, 30)}")
        if self._often(0.25):
            lines.append(f"cool_down = {self._whole(0, 8)}")
        lines += self._params_table()
        lines += self._lets_table()
        for each in sides:
            lines += [f"[entry.{each}]", f"when = {_quoted(self.condition(4))}"]
            lines += [f"[exit.{each}]", f"when = {_quoted(self.condition(3))}"]
        lines += self._size()
        lines += self._order()
        for table, chance in (("stop", 0.5), ("target", 0.4), ("trail", 0.4)):
            if self._often(chance):
                lines += [f"[{table}]", self._distance()]
        if self._often(0.25):
            lines += ["[break_even]", self._one("percent = 0.5", "ticks = 40", "percent = 2")]
        return "\n".join(lines) + "\n"

    def _params_table(self) -> list[str]:
        lines = ["[params]"]
        for number in range(self._whole(0, 3)):
            low = self._whole(2, 5)
            high = low + self._whole(0, 10)
            lines.append(f"p{number} = {{ default = {self._whole(low, high)}, low = {low}, high = {high} }}")
            self._params.append(f"p{number}")
        if self._often(0.3):
            lines.append('share = { default = 0.25, low = 0.1, high = 1, step = 0.05, kind = "float" }')
        return lines

    def _lets_table(self) -> list[str]:
        lines = ["[let]"]
        for number in range(self._whole(0, 4)):
            name = f"v{number}"
            kind = self._one("number", "number", "condition", "bundle")
            if kind == "number":
                lines.append(f"{name} = {_quoted(self.number(3))}")
                self._numbers.append(name)
            elif kind == "condition":
                lines.append(f"{name} = {_quoted(self.condition(2))}")
                self._conditions.append(name)
            else:
                text, outputs = self._indicator(2)
                lines.append(f"{name} = {_quoted(text)}")
                self._bundles.append((name, outputs))
        return lines

    def _size(self) -> list[str]:
        rebalance = ["rebalance = true"] if self._often(0.2) else []
        sizes: tuple[list[str], ...] = (
            [],
            ['kind = "fixed"', f"quantity = {self._whole(1, 50) / 10}"],
            ['kind = "fixed"', f"lots = {self._whole(1, 5000)}"],
            ['kind = "fixed"', f"quote = {self._whole(50, 5000)}"],
            ['kind = "percent"', f"percent = {self._whole(1, 120)}"],
            ['kind = "percent"', f"percent = {_quoted(f'max(5, min(50, abs({self.number(2)})))')}"],
            ['kind = "volatility"', f"target = {self._whole(10, 200)}", f"window = {self._whole(2, 12)}", "cap = 100"],
            ['kind = "kelly"', "fraction = 0.5", f"window = {self._whole(2, 12)}", f"cap = {self._whole(10, 90)}"],
        )
        chosen = sizes[self._whole(0, len(sizes) - 1)]
        return ["[size]", *chosen, *rebalance] if chosen else []

    def _order(self) -> list[str]:
        if not self._often(0.4):
            return ["[order]", 'kind = "market"'] if self._often(0.2) else []
        offset = self._one("offset_percent = 0.1", "offset_ticks = 25", "offset_percent = 0", "")
        return ["[order]", 'kind = "limit"', offset, f"patience = {self._whole(1, 6)}"]

    def _distance(self) -> str:
        return self._one(
            f"percent = {self._whole(2, 60) / 10}",
            f"ticks = {self._whole(5, 500)}",
            f"atr = {self._whole(2, 40) / 10}\nwindow = {self._whole(2, 12)}",
            "atr = 2",
            f"price = {_quoted(f'abs({self.number(2)}) / 10 + close / 500')}",
            f"percent = {_quoted('choose(close > open, 1, 2.5)')}",
        )

    # --- expressions, at most `depth` levels deep

    def number(self, depth: int, where: str = "own") -> str:
        if depth <= 0 or self._often(0.15):
            return self._leaf()
        a, b = (lambda: self.number(depth - 1, where)), (lambda: self.number(depth - 1, where))
        kinds = ["arithmetic", "arithmetic", "indicator", "indicator", "function", "history", "choose"]
        kinds += {"own": ["at", "of"], "of": ["at"], "at": []}[where]
        match self._one(*kinds):
            case "arithmetic":
                return f"({a()} {self._one('+', '-', '*', '/')} {b()})"
            case "indicator":
                text, outputs = self._indicator(depth, where)
                return f"{text}.{self._one(*outputs)}"
            case "function":
                return self._one(
                    f"min({a()}, {b()})", f"max({a()}, {b()}, 1)", f"abs({a()})", f"sqrt({a()})", f"-{a()}"
                )
            case "history":
                return f"({a()})[{self._one('0', '1', '2', '7')}]"
            case "choose":
                return f"choose({self.condition(depth - 1, where)}, {a()}, {b()})"
            case other:
                return self._elsewhere(other, lambda inside: self.number(depth - 1, inside))

    def condition(self, depth: int, where: str = "own") -> str:
        if depth <= 1:
            return f"{self._leaf()} {self._one('<', '>', '<=', '>=')} {self._leaf()}"
        a, b = (lambda: self.number(depth - 1, where)), (lambda: self.number(depth - 1, where))
        c, d = (lambda: self.condition(depth - 1, where)), (lambda: self.condition(depth - 1, where))
        kinds = ["compare", "compare", "compare", "cross", "cross", "and", "or", "not", "history"]
        kinds += ["let"] if self._conditions and where == "own" else []
        kinds += {"own": ["at", "of"], "of": ["at"], "at": []}[where]
        match self._one(*kinds):
            case "compare":
                return f"{a()} {self._one('<', '<=', '>', '>=', '==', '!=')} {b()}"
            case "cross":
                return self._one(f"{a()} crosses {self._one('above', 'below')} {b()}", f"cross_above({a()}, {b()})")
            case "and":
                return f"({c()}) and ({d()})"
            case "or":
                return f"({c()}) or ({d()})"
            case "not":
                return f"not ({c()})"
            case "history":
                return f"({c()})[{self._one('1', '3')}]"
            case "let":
                return self._one(*self._conditions)
            case other:
                return self._elsewhere(other, lambda inside: self.condition(depth - 1, inside))

    def _elsewhere(self, kind: str, inner: Callable[[str], str]) -> str:
        """Return a value of other bars; names of lets are of own bars there too, so they may not look elsewhere."""
        lets = self._numbers, self._conditions, self._bundles
        self._numbers, self._conditions, self._bundles = [], [], []
        if kind == "at" and self._longer:
            text = f"at('{self._one(*self._longer)}', {inner('at')})"
        elif kind == "of" and self._others:
            text = f"of('{self._one(*self._others)}', {inner('of')})"
        else:
            text = inner("at")
        self._numbers, self._conditions, self._bundles = lets
        return text

    def _leaf(self) -> str:
        kinds = ["field", "field", "field", "constant", "clock"]
        kinds += ["param"] if self._params else []
        kinds += ["let"] if self._numbers else []
        kinds += ["bundle"] if self._bundles else []
        match self._one(*kinds):
            case "field":
                return self._one(*FIELDS)
            case "constant":
                return self._one("0", "1", "0.5", "100", "1e3", "1e-7", "2.25")
            case "clock":
                return self._one("hour", "minute", "weekday")
            case "param":
                return self._one(*self._params)
            case "let":
                return self._one(*self._numbers)
            case _:
                name, outputs = self._bundles[self._whole(0, len(self._bundles) - 1)]
                return f"{name}.{self._one(*outputs)}"

    def _indicator(self, depth: int, where: str = "at") -> tuple[str, tuple[str, ...]]:
        indicator = INDICATORS[self._one(*INDICATORS)]
        series = [self.number(min(depth - 1, 1), where) for name in indicator.inputs if name not in PRICES]
        params: list[str] = []
        for param in indicator.params:
            if param.kind == "float":
                value = self._one("0.02", "0.5", "1") if param.high <= 1 else self._one("1.5", "2", "3")
            else:
                value = self._one(str(self._whole(2, 12)), *self._params)
            params.append(f"{param.name} = {value}" if self._often(0.3) or (params and "=" in params[-1]) else value)
        return f"{indicator.name}({', '.join((*series, *params))})", indicator.outputs


def _quoted(text: str) -> str:
    return f'"{text}"'


def instrument(symbol: str = "BTC_USDT", *, price_scale: int = 2, quantity_scale: int = 4) -> Instrument:
    """Return a market."""
    base, _, quote = symbol.partition("_")
    return Instrument(
        symbol=symbol,
        base=base,
        quote=quote,
        price_scale=price_scale,
        quantity_scale=quantity_scale,
        qty_lots_min=1,
        notional_atoms_min=0,
    )


def random_market(
    rng: np.random.Generator,
    bars: int,
    symbol: str = "BTC_USDT",
    *,
    timeframe_ns: int = MINUTE_NS,
    gaps: float = 0.0,
    start_ns: int = EPOCH_NS,
) -> Market:
    """Return a random walk with flat stretches and bars without volume; `gaps` is the share of bars that is missing."""
    steps = rng.integers(-60, 61, bars) * (rng.random(bars) < 0.9)
    close = np.maximum(np.cumsum(steps) + 10_000, 50)
    opened = np.maximum(np.concatenate([close[:1], close[:-1]]) + rng.integers(-5, 6, bars), 10)
    high = np.maximum(opened, close) + rng.integers(0, 30, bars)
    low = np.maximum(np.minimum(opened, close) - rng.integers(0, 30, bars), 1)
    volume = rng.integers(0, 3_000, bars) * (rng.random(bars) < 0.95)
    start = start_ns + np.arange(bars, dtype=np.int64) * timeframe_ns
    keep = rng.random(bars) >= gaps
    columns = (np.ascontiguousarray(each[keep], np.int64) for each in (start, opened, high, low, close, volume))
    none = np.empty(0, np.int64)
    return Market(instrument(symbol), timeframe_ns, Candles(*columns), none, none)


def bars_of(market: Market) -> list[Bar]:
    """Return the candles of a market as the bars that strategies hear."""
    length = market.timeframe_ns
    return [
        Bar(
            ts_ns=start + length,
            symbol=market.instrument.symbol,
            timeframe_ns=length,
            start_ns=start,
            open_ticks=opened,
            high_ticks=high,
            low_ticks=low,
            close_ticks=close,
            volume_lots=volume,
        )
        for start, opened, high, low, close, volume in zip(*(each.tolist() for each in market.candles), strict=True)
    ]
