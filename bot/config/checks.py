"""Checks of settings: a tree of entries becomes the record, or a list of everything that is wrong with it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec

from bot.config import strategy_files
from bot.config.layers import Entry, Layer
from bot.config.settings import CANDLE_TIMEFRAMES, SECTIONS, STRATEGIES, Bound, Settings, quote_of
from bot.config.words import closest_hint, dotted, is_secret, shown_value
from bot.core.durations import UNITS_NS, duration_ns
from bot.core.toml_lines import KeyPath
from bot.errors import SettingsError
from bot.strategies import KINDS, AnyStrategySettings
from bot.strategies.definition import PythonSettings, RulesSettings

STRATEGIES_MAX: Final = 100
DEAD_MAN_S_MIN: Final = 10
"""The shortest time that the exchange's kill switch takes."""
HINTS_MAX: Final = 50
EXECUTION_NS_MIN: Final = 10 * UNITS_NS["s"]
URLS: Final = (
    ("exchange", "rest_url"),
    ("exchange", "ws_url"),
    ("live", "private_ws_url"),
    ("live", "futures_rest_url"),
    ("live", "futures_public_ws_url"),
    ("live", "futures_ws_url"),
)
CANDLES_NS: Final = frozenset(duration_ns(text) for text in CANDLE_TIMEFRAMES)
STRATEGY_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")


@dataclass
class Checker:
    """Goes through all entries, collects problems, and makes the settings if there are none."""

    tree: Layer
    problems: list[str]
    good: dict[KeyPath, Any] = field(default_factory=dict[KeyPath, Any])
    """The values that are right taken alone."""
    watched: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Strategy to the other symbols that it looks at."""

    def settings(self) -> Settings | None:
        """Return the settings, or None after naming every problem."""
        for path, entry in self.tree.items():
            if path[0] not in SECTIONS and path[0] != STRATEGIES:
                self._unknown(path, entry, self._all_keys())
            elif len(path) == 1 and entry.value != {}:
                self._say(path, f"must be a table, [{path[0]}]")
        for name, section in SECTIONS.items():
            self._check_table((name,), section)
        names = self._strategy_names()
        if len(names) > STRATEGIES_MAX:
            where = next(entry.source.label for path, entry in self.tree.items() if path[:2] == (STRATEGIES, names[0]))
            self.problems.append(f"{where}: {STRATEGIES} has {len(names)} tables, more than {STRATEGIES_MAX}")
            names = []
        strategies = {name: self._strategy(name) for name in names}
        self._check_pairs()
        self._check_symbols(names)
        self._check_live()
        self._check_risk()
        if self.problems:
            return None
        sections: dict[str, Any] = {
            name: section(**{key: self.good[name, key] for key in section.__struct_fields__})
            for name, section in SECTIONS.items()
        }
        return Settings(strategies={name: made for name, made in strategies.items() if made}, **sections)

    def _check_table(
        self, table: KeyPath, struct: type[msgspec.Struct], also: Iterable[str] = (), hidden: Iterable[str] = ()
    ) -> None:
        """Check every key of `table` by the field of `struct` that has its name, but for those that are no settings."""
        types = {name: kind for name, kind in _field_types(struct).items() if name not in hidden}
        for path, entry in self.tree.items():
            if path[:-1] != table or path[-1] in also:
                continue
            if path[-1] not in types:
                self._unknown(path, entry, self._all_keys(dotted((*table, key)) for key in (*types, *also)))
                continue
            try:
                self.good[path] = _converted(entry.value, types[path[-1]])
            except _MisfitError:
                self._say(path, f"must be {_expected(types[path[-1]])}")
        for key, is_required in _required(struct).items():
            if is_required and (*table, key) not in self.tree:
                self._missing((*table, key))

    def _strategy_names(self) -> list[str]:
        return sorted({path[1] for path in self.tree if path[0] == STRATEGIES and len(path) > 1})

    def _strategy(self, name: str) -> AnyStrategySettings | None:
        """Return the settings of one strategy, or None after naming what is wrong with them."""
        table = (STRATEGIES, name)
        before = len(self.problems)
        if table in self.tree and self.tree[table].value != {}:
            self._say(table, f"must be a table, [{dotted(table)}]")
            return None
        if not STRATEGY_NAME.fullmatch(name):
            where = next(entry.source.where(table) for path, entry in self.tree.items() if path[:2] == table)
            self.problems.append(f"{where}: {dotted(table)}: a name has 1 to 64 characters a-z, 0-9, _ and -")
        kind = self._kind(table)
        if kind is None:
            return None
        self._check_table(table, kind, also=("kind",), hidden=("text",))
        self._check_timeframe((*table, "timeframe"))
        self._check_length((*table, "execution_time"))
        if len(self.problems) > before:
            return None
        values = {key: self.good[*table, key] for key in _field_types(kind) if (*table, key) in self.good}
        if kind is RulesSettings:
            values.update(self._rules(table, values.get("timeframe", "")))
        elif kind is PythonSettings:
            values["file"] = str(self._named_file((*table, "file")))
            values["params"] = self._params(table)
        else:
            self._refuse_params(table)
        if len(self.problems) > before:
            return None
        try:
            return kind(**values)
        except ValueError as error:
            self._say_together(table, str(error))
            return None

    def _rules(self, table: KeyPath, timeframe: str) -> dict[str, Any]:
        """Return what the document of a strategy adds to its settings, after naming all that is wrong with it."""
        path = (*table, "document")
        params = self._params(table)
        for name in [name for name, value in params.items() if isinstance(value, bool | str)]:
            self._say((*table, "params", name), "must be a finite number")
            del params[name]
        document = self._named_file(path)
        try:
            read = strategy_files.read_rules(document, params, timeframe)
        except SettingsError as error:
            self.problems += error.problems
            return {}
        for name in sorted(set(params) - read.params):
            where = self.tree[*table, "params", name].source.where((*table, "params", name))
            hint = closest_hint(name, read.params)
            self.problems.append(f"{where}: {dotted((*table, 'params', name))} is no parameter of {document}{hint}")
        if not timeframe and (rule := timeframe_rule(read.timeframe)):
            self._say(path, f"has a timeframe of {read.timeframe}, which {rule}; give another timeframe")
        self.watched[table[-1]] = read.definition.watches
        numbers = {name: float(value) for name, value in params.items()}
        return {
            "document": str(document),
            "text": read.text,
            "params": numbers,
            "timeframe": timeframe or read.timeframe,
        }

    def _named_file(self, path: KeyPath) -> Path:
        return strategy_files.path_of(self.good[path], self.tree[path].source)

    def _params(self, table: KeyPath) -> dict[str, Any]:
        """Return the parameters of a strategy that are numbers, texts or true and false; name those that are not."""
        params: dict[str, Any] = {}
        for path, entry in self.tree.items():
            if path[:-1] == (*table, "params"):
                value = strategy_files.plain(entry.value)
                is_wrong = isinstance(value, float) and not math.isfinite(value)
                if is_wrong or not isinstance(value, bool | int | float | str):
                    self._say(path, "must be a finite number, a text, true or false")
                else:
                    params[path[-1]] = value
        return params

    def _refuse_params(self, table: KeyPath) -> None:
        for path, entry in self.tree.items():
            if path[:-1] == (*table, "params"):
                self._unknown(path, entry, [])

    def _kind(self, table: KeyPath) -> type[AnyStrategySettings] | None:
        path = (*table, "kind")
        if path not in self.tree:
            self._missing(path)
            return None
        kind = self.tree[path].value
        if isinstance(kind, str) and kind in KINDS:
            return KINDS[kind]
        hint = closest_hint(kind, KINDS) if isinstance(kind, str) else ""
        self._say(path, f"must be one of {', '.join(json.dumps(name) for name in KINDS)}{hint}")
        return None

    def _check_timeframe(self, path: KeyPath) -> None:
        text = self.good.get(path)
        if not isinstance(text, str):
            return
        rule = timeframe_rule(text)
        if rule:
            self._say(path, rule)

    def _check_length(self, path: KeyPath) -> None:
        text = self.good.get(path)
        if not isinstance(text, str):
            return
        try:
            length_ns = duration_ns(text)
        except ValueError as error:
            self._say(path, str(error))
            return
        if not EXECUTION_NS_MIN <= length_ns <= UNITS_NS["d"]:
            self._say(path, "must be from 10s to 1d")

    def _check_pairs(self) -> None:
        """Check what one key asks of another."""
        for section, low, high, may_equal in (
            ("feed", "backoff_min_s", "backoff_max_s", True),
            ("risk", "daily_loss_pct", "daily_loss_halt_pct", False),
            ("risk", "drawdown_pct", "drawdown_halt_pct", False),
            ("risk", "differences_s", "differences_halt_s", False),
            ("risk", "unknown_order_s", "unknown_order_halt_s", False),
            ("risk", "liquidation_flatten_pct", "liquidation_pct", True),
        ):
            below, above = self.good.get((section, low)), self.good.get((section, high))
            if below is None or above is None or below < above or (may_equal and below == above):
                continue
            bound = self.tree[section, high]
            relation = "at most" if may_equal else "less than"
            said = f"{section}.{high} = {shown_value(bound.value)} ({bound.source.where((section, high))})"
            self._say((section, low), f"must be {relation} {said}")

    def _check_live(self) -> None:
        """Check what the exchange asks of the section [live]."""
        dead_man_s = self.good.get(("live", "dead_man_s"), 0)
        if 0 < dead_man_s < DEAD_MAN_S_MIN:
            self._say(("live", "dead_man_s"), f"must be 0, or at least {DEAD_MAN_S_MIN}")
        key_file = self.good.get(("live", "key_file"), "")
        if key_file and not key_file.startswith(("/", "~")):
            self._say(("live", "key_file"), "must be an absolute path, or begin with ~: no key is looked for elsewhere")
        mode = "bot", "mode"
        if self.good.get(mode) == "live" and self.tree[mode].source.text is None:
            self._say(mode, "must stand in a settings file: live trading is not switched on in passing")
        if self.good.get(mode) == "live" and not self.good.get(("live", "account")):
            self._say(mode, "needs a name for the account: live.account")
        wallets = self.good.get(("live", "wallets"), ())
        if len(set(wallets)) < len(wallets):
            self._say(("live", "wallets"), "must name each wallet once")

    def _check_risk(self) -> None:
        """Check the symbols that the section [risk] names."""
        symbols = self.good.get(("exchange", "symbols"), ())
        if not symbols:
            return
        groups: tuple[str, ...] = self.good.get(("risk", "groups"), ())
        quantities: tuple[str, ...] = self.good.get(("risk", "max_order_qty"), ())
        allowed: tuple[str, ...] = self.good.get(("risk", "allowed"), ())
        for key, named in (
            ("allowed", [symbol for symbol in allowed if symbol != "all"]),
            ("groups", [symbol for text in groups for symbol in text.partition("=")[2].split(",")]),
            ("max_order_qty", [text.partition("=")[0] for text in quantities]),
        ):
            others = [symbol for symbol in named if symbol not in symbols]
            if others:
                self._say(("risk", key), f"must be out of exchange.symbols, which has no {' and no '.join(others)}")
            elif len(set(named)) < len(named):
                self._say(("risk", key), "must name each symbol once")

    def _check_symbols(self, strategies: Iterable[str]) -> None:
        path = ("exchange", "symbols")
        symbols = self.good.get(path)
        if symbols is None:
            return
        self._check_unique(path)
        quotes = sorted({quote_of(symbol) for symbol in symbols})
        if len(quotes) > 1:
            self._say(path, f"must all have the same quote coin, not {' and '.join(quotes)}")
        for url in URLS:
            if "@" in self.good.get(url, ""):
                where = self.tree[url].source.where(url)
                self.problems.append(f"{where}: {dotted(url)} must not hold a user name or a password")
        for name in strategies:
            theirs = (STRATEGIES, name, "symbols")
            self._check_unique(theirs)
            others = [symbol for symbol in self.good.get(theirs, ()) if symbol not in symbols]
            unseen = [symbol for symbol in self.watched.get(name, ()) if symbol not in symbols]
            if unseen:
                missing = " and no ".join(unseen)
                self._say((STRATEGIES, name, "document"), f"looks at symbols; exchange.symbols has no {missing}")
            if others:
                self._say(theirs, f"must be out of exchange.symbols, which has no {' and no '.join(others)}")

    def _check_unique(self, path: KeyPath) -> None:
        symbols: tuple[str, ...] = self.good.get(path, ())
        twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if twice:
            self._say(path, f"must name each symbol once, and names {' and '.join(twice)} twice")

    def _say(self, path: KeyPath, rule: str) -> None:
        entry = self.tree[path]
        shown = "(value not shown)" if is_secret(path, entry.value) else shown_value(entry.value)
        self.problems.append(f"{entry.source.where(path)}: {dotted(path)} = {shown} {rule}")

    def _say_together(self, table: KeyPath, sentence: str) -> None:
        """Report a strategy's own sentence about its keys, with their full names and places."""
        keys = [path for path in self.tree if path[:-1] == table and re.search(rf"\b{path[-1]} =", sentence)]
        for path in keys:
            sentence = re.sub(rf"(?<![.\w]){path[-1]} =", f"{dotted(path)} =", sentence)
        places = dict.fromkeys(self.tree[path].source.where(path) for path in keys)
        self.problems.append(f"{', '.join(places) or dotted(table)}: {sentence}")

    def _missing(self, path: KeyPath) -> None:
        """Report a key that must be given, at the place of its table."""
        table = path[:-1]
        near = next((entry for key, entry in self.tree.items() if key[: len(table)] == table), None)
        where = f"{near.source.where(table)}: " if near else ""
        others = [dotted(key[:-1]) for key in self.tree if key[0] == STRATEGIES and key[-1] == "kind"]
        hint = closest_hint(dotted(table), others) if path[-1] == "kind" else ""
        self.problems.append(f"{where}{dotted(path)} is missing{hint}")

    def _unknown(self, path: KeyPath, entry: Entry, known: Iterable[str]) -> None:
        """Report a key that is no setting. Its value is not shown: nobody knows what it is."""
        where = entry.source.where(path)
        if is_secret(path, ""):
            reason = "looks like a secret; secrets never stand in settings, they come from the environment"
            if entry.source.label.startswith("environment"):
                reason = "is no setting, and no secret is needed on paper"
        else:
            hint = closest_hint(dotted(path), known) if len(self.problems) < HINTS_MAX else ""
            reason = f"is no setting{hint}"
        self.problems.append(f"{where}: {dotted(path)} {reason}")

    def _all_keys(self, more: Iterable[str] = ()) -> list[str]:
        own = [f"{name}.{key}" for name, section in SECTIONS.items() for key in section.__struct_fields__]
        return [*more, *own, *SECTIONS, STRATEGIES]


def timeframe_rule(text: str) -> str:
    """Return which rule of live bars a timeframe breaks, or nothing."""
    try:
        length_ns = duration_ns(text)
    except ValueError:
        return "must be a length of time such as 2s, 5m or 1d"
    if not UNITS_NS["s"] <= length_ns <= UNITS_NS["w"]:
        return "must be from 1s to 1w"
    if length_ns < UNITS_NS["m"] and length_ns % UNITS_NS["s"]:
        return "must be a whole number of seconds"
    if length_ns >= UNITS_NS["m"] and length_ns not in CANDLES_NS:
        return f"must be below 1m or one of {' '.join(CANDLE_TIMEFRAMES)}"
    return ""


class _MisfitError(Exception):
    """A value is not what its key takes."""


def _converted(value: object, kind: object) -> Any:
    """Return `value` as the annotated type `kind`. Raises _MisfitError."""
    base, bounds = _split(kind)
    if base is Decimal:
        return _bounded(value, next(bound for bound in bounds if isinstance(bound, Bound)))
    if isinstance(value, Decimal) and not value.is_finite():
        raise _MisfitError
    try:
        converted = msgspec.convert(value, kind)
    except (msgspec.ValidationError, OverflowError):
        raise _MisfitError from None
    if isinstance(converted, float) and not math.isfinite(converted):
        raise _MisfitError
    return converted


def _bounded(value: object, bound: Bound) -> Decimal:
    """Return `value` as a Decimal without zeros at the end. Raises _MisfitError when it is out of bounds."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise _MisfitError
    number = Decimal(value)
    is_inside = (
        number.is_finite()
        and (bound.gt is None or number > bound.gt)
        and (bound.ge is None or number >= bound.ge)
        and (bound.le is None or number <= bound.le)
    )
    if not is_inside:
        raise _MisfitError
    rounded = number.quantize(Decimal(1).scaleb(-bound.decimals))
    if rounded != number:
        raise _MisfitError
    whole = rounded.to_integral_value()
    # `+ 0` turns -0 into 0; one value has one form, so that the digest of the settings is one too.
    return whole.quantize(Decimal(1)) + 0 if whole == rounded else rounded.normalize()


@cache
def _field_types(struct: type[msgspec.Struct]) -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(struct)}


@cache
def _required(struct: type[msgspec.Struct]) -> dict[str, bool]:
    return {field.name: field.required for field in msgspec.structs.fields(struct)}


def _split(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its annotations, and these."""
    if get_origin(kind) is Annotated:
        base, *bounds = get_args(kind)
        return base, tuple(bounds)
    return kind, ()


_NAMES: Final[dict[Any, str]] = {
    int: "a whole number",
    float: "a finite number",
    Decimal: "a finite number",
    bool: "true or false",
    str: "text in quotes",
}


def _expected(kind: Any) -> str:
    """Return in words what a key of this type takes."""
    base, bounds = _split(kind)
    if get_origin(base) is Literal:
        return f"one of {', '.join(json.dumps(choice) for choice in get_args(base))}"
    if get_origin(base) is dict:
        return "a table"
    if get_origin(base) is tuple:
        return f"a list{_range_words(bounds)}, of which each is {_expected(get_args(base)[0])}"
    described = [bound.description for bound in bounds if getattr(bound, "description", None)]
    return described[0] if described else _NAMES[base] + _range_words(bounds)


def _range_words(bounds: tuple[Any, ...]) -> str:
    words: list[str] = []
    for bound in bounds:
        for name, text in (("gt", "more than"), ("ge", "at least"), ("le", "at most")):
            limit = getattr(bound, name, None)
            if limit is not None:
                words.append(f"{text} {limit}")
        if isinstance(bound, Bound):
            words.append(f"with at most {bound.decimals} decimals")
        elif bound.min_length is not None:
            words.append(f"of {bound.min_length} to {bound.max_length} items")
    return f" {', '.join(words)}" if words else ""
