"""Settings: what they are, their bounds, and how the layers of them are read, checked and put together.

`config/default.toml` is the manual and holds every default; nothing here repeats one. This file knows neither
trio nor the screen: reading settings is the first thing that every command does.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, get_args, get_origin

import msgspec

from bot.core.durations import UNITS_NS, duration_ns
from bot.core.toml_lines import KeyPath, key_lines
from bot.errors import SettingsError
from bot.strategies import KINDS, AnyStrategySettings

FILE_BYTES_MAX: Final = 1024 * 1024
ENV_PREFIX: Final = "BOT__"
APP_NAME: Final = "poloniex-bot"
STRATEGIES_MAX: Final = 100
HINTS_MAX: Final = 50
"""After so many problems, unknown keys get no suggestion: the search takes a millisecond each."""

CANDLE_TIMEFRAMES: Final = ("1m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d", "3d", "1w")
"""The candles that the exchange makes; source: Poloniex spot API, "Candles"."""

_CANDLES_NS: Final = frozenset(duration_ns(text) for text in CANDLE_TIMEFRAMES)
_STRATEGY_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}")
_SECRET_NAME: Final = re.compile(r"secret|passw|passphrase|api_?key|token|private_?key|credential", re.IGNORECASE)


class Bound(NamedTuple):
    """The range of a Decimal; msgspec's own bounds are for int and float only."""

    gt: int | None = None
    ge: int | None = None
    le: int | None = None
    decimals: int = 6


Symbol = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Z0-9]{1,20}_[A-Z0-9]{1,20}(_PERP)?\Z", description="a symbol such as BTC_USDT"),
]
HttpUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^https?://[^\s/?#]+[^\s?#]*\Z",
        max_length=500,
        description="an address such as https://example.org",
    ),
]
WsUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^wss?://[^\s/?#]+[^\s?#]*\Z",
        max_length=500,
        description="an address such as wss://example.org/ws",
    ),
]
Percent = Annotated[Decimal, Bound(gt=0, le=100)]
FeeBps = Annotated[Decimal, Bound(ge=0, le=1000)]
SilenceSeconds = Annotated[float, msgspec.Meta(ge=1, le=86_400)]
TimeoutSeconds = Annotated[float, msgspec.Meta(ge=0.1, le=300)]
BackoffSeconds = Annotated[float, msgspec.Meta(ge=0.01, le=3600)]
AgeMs = Annotated[int, msgspec.Meta(ge=100, le=60_000)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file; `config/default.toml` says what its keys mean."""


class BotSettings(_Section, frozen=True, kw_only=True):
    """[bot]."""

    state_dir: str
    seed: Annotated[int, msgspec.Meta(ge=0, le=4_294_967_295)]

    @property
    def state_path(self) -> Path:
        """Return the directory of the journal, the lock and the control socket, as an absolute path."""
        if not self.state_dir:
            import platformdirs

            return platformdirs.user_state_path(APP_NAME, appauthor=False)
        return Path(self.state_dir).expanduser().absolute()


class ExchangeSettings(_Section, frozen=True, kw_only=True):
    """[exchange]."""

    name: Literal["auto", "poloniex", "simulated"]
    symbols: Annotated[tuple[Symbol, ...], msgspec.Meta(min_length=1, max_length=50)]
    rest_url: HttpUrl
    ws_url: WsUrl
    connect_timeout_s: TimeoutSeconds
    request_timeout_s: TimeoutSeconds
    probe_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)]

    @property
    def quote(self) -> str:
        """Return the quote coin that all symbols share."""
        return _quote_of(self.symbols[0])


class FeedSettings(_Section, frozen=True, kw_only=True):
    """[feed]."""

    book_silence_s: SilenceSeconds
    trades_silence_s: SilenceSeconds
    ticker_silence_s: SilenceSeconds
    candles_silence_s: SilenceSeconds
    ping_interval_s: Annotated[float, msgspec.Meta(ge=1, le=25)]
    backoff_min_s: BackoffSeconds
    backoff_max_s: BackoffSeconds
    history_bars: Annotated[int, msgspec.Meta(ge=0, le=500)]


class PaperSettings(_Section, frozen=True, kw_only=True):
    """[paper]."""

    cash: Annotated[Decimal, Bound(gt=0, le=10**12, decimals=12)]
    maker_fee_bps: FeeBps
    taker_fee_bps: FeeBps
    latency_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)]


class RiskSettings(_Section, frozen=True, kw_only=True):
    """[risk]."""

    max_order_value: Annotated[Decimal, Bound(gt=0, le=10**9, decimals=12)]
    max_position_pct: Percent
    max_gross_pct: Percent
    collar_pct: Percent
    stale_ms: AgeMs
    intent_ttl_ms: AgeMs
    orders_per_second: Annotated[int, msgspec.Meta(ge=1, le=50)]
    orders_per_minute: Annotated[int, msgspec.Meta(ge=1, le=3000)]
    max_open_orders: Annotated[int, msgspec.Meta(ge=1, le=200)]
    passive_ttl_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)]
    daily_loss_pct: Percent
    daily_loss_halt_pct: Percent
    drawdown_pct: Percent
    drawdown_halt_pct: Percent


class Settings(_Section, frozen=True, kw_only=True):
    """Everything an operator can set."""

    bot: BotSettings
    exchange: ExchangeSettings
    feed: FeedSettings
    paper: PaperSettings
    risk: RiskSettings
    strategies: dict[str, AnyStrategySettings]
    """In the order of their names, so that no order of files or tables changes a run."""


SECTIONS: Final[dict[str, type[_Section]]] = {
    "bot": BotSettings,
    "exchange": ExchangeSettings,
    "feed": FeedSettings,
    "paper": PaperSettings,
    "risk": RiskSettings,
}
_STRATEGIES: Final = "strategies"
_DEPTH_MAX: Final = 3
"""strategies.NAME.key"""


def load_settings(files: Sequence[Path], environ: Mapping[str, str], sets: Sequence[str]) -> Settings:
    """Return the settings: defaults, `files` in order, `BOT__…` of `environ`, `sets`; later wins.

    Raises:
        SettingsError: anything is wrong; names everything that is.

    """
    problems: list[str] = []
    default = default_file()
    tree = _read_file(default, f"{default.parent.name}/{default.name}", problems)
    has_default_strategies = True
    for path in files:
        layer = _read_file(path, str(path), problems)
        if has_default_strategies and any(key[0] == _STRATEGIES for key in layer):
            _drop_strategies(tree)
            has_default_strategies = False
        _lay(tree, layer)
    _lay(tree, _read_environment(environ, problems))
    for text in sets:
        _lay(tree, _read_set(text, problems))
    settings = _Checker(tree, problems).settings()
    if settings is None:
        raise SettingsError(problems)
    return settings


def default_file() -> Path:
    """Return the path of default.toml: beside this module in a wheel, in config/ in a checkout."""
    packaged = Path(__file__).with_name("default.toml")
    return packaged if packaged.is_file() else Path(__file__).parent.parent / "config" / "default.toml"


def settings_digest(settings: Settings) -> str:
    """Return 64 hexadecimal digits that name these settings, whatever the state directory."""
    anywhere = msgspec.structs.replace(settings, bot=msgspec.structs.replace(settings.bot, state_dir=""))
    return hashlib.sha256(msgspec.json.encode(anywhere, order="deterministic")).hexdigest()


# --- layers: texts become entries, one for each key


@dataclass(frozen=True)
class _Source:
    """Where values come from: a file with its text, or one environment variable or --set without."""

    label: str
    text: str | None = None

    @cached_property
    def _lines(self) -> dict[KeyPath, int]:
        """The line of every key; of a table that has none of its own, the first line that names it."""
        own = {} if self.text is None else key_lines(self.text)
        first: dict[KeyPath, int] = {}
        for path, line in own.items():
            for length in range(1, min(len(path), _DEPTH_MAX) + 1):
                first.setdefault(path[:length], line)
        return {**first, **own}

    def where(self, path: KeyPath) -> str:
        """Return the label, and the line of `path`: itself, what stands in it, or the table that it should be in."""
        for length in range(len(path), 0, -1):
            if line := self._lines.get(path[:length]):
                return f"{self.label}:{line}"
        return self.label


class _Entry(NamedTuple):
    """One value and where it was said."""

    value: object
    source: _Source


_Layer = dict[KeyPath, _Entry]


def _lay(tree: _Layer, layer: _Layer) -> None:
    """Put `layer` over `tree`; an empty table of strategies takes all of them away."""
    if (_STRATEGIES,) in layer:
        _drop_strategies(tree)
    tree.update(layer)


def _drop_strategies(tree: _Layer) -> None:
    for path in [path for path in tree if path[0] == _STRATEGIES]:
        del tree[path]


def _read_file(path: Path, label: str, problems: list[str]) -> _Layer:
    """Return the entries of a file; whatever keeps it from being read is a problem."""
    text = _file_text(path, label, problems)
    if text is None:
        return {}
    try:
        return _entries(_parse_toml(text), _Source(label, text))
    except _BadTomlError as bad:
        problems.append(f"{label}:{bad.line}:{bad.column}: {bad.reason}")
        return {}


def _file_text(path: Path, label: str, problems: list[str]) -> str | None:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        problems.append(f"{label}: cannot be read: {getattr(error, 'strerror', None) or error}")
        return None
    if len(content) > FILE_BYTES_MAX:
        problems.append(f"{label}: is larger than {FILE_BYTES_MAX} bytes")
        return None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.append(f"{label}:{line}: is not UTF-8 text")
        return None


def _read_environment(environ: Mapping[str, str], problems: list[str]) -> _Layer:
    layer: _Layer = {}
    for variable in sorted(environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        source = _Source(f"environment variable {variable}")
        path = _variable_path(variable)
        if path is None:
            problems.append(f"{source.label}: the name must read {ENV_PREFIX}SECTION__KEY")
        else:
            _read_value(path, environ[variable], source, layer, problems)
    return layer


def _variable_path(variable: str) -> KeyPath | None:
    section, _, rest = variable.removeprefix(ENV_PREFIX).lower().partition("__")
    if section == _STRATEGIES:
        name, _, key = rest.rpartition("__")
        return (section, name, key) if name and key else None
    return (section, rest) if section and rest else None


def _read_set(text: str, problems: list[str]) -> _Layer:
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    source = _Source(f"--set {key.strip()}")
    layer: _Layer = {}
    if not equals or not all(re.fullmatch(r"[A-Za-z0-9_-]+", part) for part in path):
        problems.append(f"{source.label}: must read --set section.key=value")
    else:
        _read_value(path, value, source, layer, problems)
    return layer


def _read_value(path: KeyPath, text: str, source: _Source, layer: _Layer, problems: list[str]) -> None:
    """Put the value `text` at `path` into `layer`: TOML, or else the text itself."""
    text = text.strip()
    value: object = text
    try:
        document = _parse_toml(f"value = {text}")
        value = document["value"] if len(document) == 1 else text
    except _BadTomlError as bad:
        if text.startswith(('"', "'", "[", "{")):
            problems.append(f"{source.label}: {bad.reason}")
            return
    for part in reversed(path):
        value = {part: value}
    assert isinstance(value, dict)
    layer.update(_entries(value, source))  # pyright: ignore[reportUnknownArgumentType]  # str keys, made above


def _entries(document: dict[str, Any], source: _Source) -> _Layer:
    """Return one entry a key: two levels deep, three under `strategies`; an empty table is an entry too."""
    layer: _Layer = {}

    def walk(table: dict[str, Any], path: KeyPath) -> None:
        for key, value in table.items():
            here = (*path, key)
            depth = _DEPTH_MAX if here[0] == _STRATEGIES else 2
            if isinstance(value, dict) and value and len(here) < depth:
                walk(value, here)  # pyright: ignore[reportUnknownArgumentType]  # TOML keys are str
            else:
                layer[here] = _Entry(value, source)

    walk(document, ())
    return layer


class _BadTomlError(Exception):
    def __init__(self, reason: str, line: int, column: int) -> None:
        super().__init__(reason)
        self.reason, self.line, self.column = reason, line, column


def _parse_toml(text: str) -> dict[str, Any]:
    """Return the document, with floats as the Decimals that were written."""
    try:
        return tomllib.loads(text, parse_float=_decimal)
    except RecursionError:
        raise _BadTomlError("brackets are nested too deeply", 1, 1) from None
    except ValueError as error:  # TOMLDecodeError is one, and so is Python's refusal of numbers of 4300 digits
        reason, _, _ = str(error).partition(" (at ")
        place = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        if place:
            raise _BadTomlError(reason, int(place[1]), int(place[2])) from error
        end = text.removesuffix("\n")
        raise _BadTomlError(reason, end.count("\n") + 1, len(end) - end.rfind("\n")) from error


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        raise ValueError(f"number {text[:40]} has too large an exponent") from None


# --- checks: entries become settings


@dataclass
class _Checker:
    """Goes through all entries, collects problems, and makes the settings if there are none."""

    tree: _Layer
    problems: list[str]
    good: dict[KeyPath, Any] = field(default_factory=dict[KeyPath, Any])
    """The values that are right taken alone."""

    def settings(self) -> Settings | None:
        """Return the settings, or None after naming every problem."""
        for path, entry in self.tree.items():
            if path[0] not in SECTIONS and path[0] != _STRATEGIES:
                self._unknown(path, entry, self._all_keys())
            elif len(path) == 1 and entry.value != {}:
                self._say(path, f"must be a table, [{path[0]}]")
        for name, section in SECTIONS.items():
            self._check_table((name,), section)
        names = self._strategy_names()
        if len(names) > STRATEGIES_MAX:
            where = next(entry.source.label for path, entry in self.tree.items() if path[:2] == (_STRATEGIES, names[0]))
            self.problems.append(f"{where}: {_STRATEGIES} has {len(names)} tables, more than {STRATEGIES_MAX}")
            names = []
        strategies = {name: self._strategy(name) for name in names}
        self._check_pairs()
        self._check_symbols(names)
        if self.problems:
            return None
        sections: dict[str, Any] = {
            name: section(**{key: self.good[name, key] for key in section.__struct_fields__})
            for name, section in SECTIONS.items()
        }
        return Settings(strategies={name: made for name, made in strategies.items() if made}, **sections)

    def _check_table(self, table: KeyPath, struct: type[msgspec.Struct], also: Iterable[str] = ()) -> None:
        """Check every key of `table` by the field of `struct` that has its name."""
        types = _field_types(struct)
        for path, entry in self.tree.items():
            if path[:-1] != table or path[-1] in also:
                continue
            if path[-1] not in types:
                self._unknown(path, entry, self._all_keys(_dotted((*table, key)) for key in (*types, *also)))
                continue
            try:
                self.good[path] = _converted(entry.value, types[path[-1]])
            except _MisfitError:
                self._say(path, f"must be {_expected(types[path[-1]])}")
        for key, is_required in _required(struct).items():
            if is_required and (*table, key) not in self.tree:
                self._missing((*table, key))

    def _strategy_names(self) -> list[str]:
        return sorted({path[1] for path in self.tree if path[0] == _STRATEGIES and len(path) > 1})

    def _strategy(self, name: str) -> AnyStrategySettings | None:
        """Return the settings of one strategy, or None after naming what is wrong with them."""
        table = (_STRATEGIES, name)
        before = len(self.problems)
        if table in self.tree and self.tree[table].value != {}:
            self._say(table, f"must be a table, [{_dotted(table)}]")
            return None
        if not _STRATEGY_NAME.fullmatch(name):
            where = next(entry.source.where(table) for path, entry in self.tree.items() if path[:2] == table)
            self.problems.append(f"{where}: {_dotted(table)}: a name has 1 to 64 characters a-z, 0-9, _ and -")
        kind = self._kind(table)
        if kind is None:
            return None
        self._check_table(table, kind, also=("kind",))
        self._check_timeframe((*table, "timeframe"))
        if len(self.problems) > before:
            return None
        values = {key: self.good[*table, key] for key in _field_types(kind) if (*table, key) in self.good}
        try:
            return kind(**values)
        except ValueError as error:
            self._say_together(table, str(error))
            return None

    def _kind(self, table: KeyPath) -> type[AnyStrategySettings] | None:
        path = (*table, "kind")
        if path not in self.tree:
            self._missing(path)
            return None
        kind = self.tree[path].value
        if isinstance(kind, str) and kind in KINDS:
            return KINDS[kind]
        hint = _closest(kind, KINDS) if isinstance(kind, str) else ""
        self._say(path, f"must be one of {', '.join(json.dumps(name) for name in KINDS)}{hint}")
        return None

    def _check_timeframe(self, path: KeyPath) -> None:
        text = self.good.get(path)
        if not isinstance(text, str):
            return
        try:
            length_ns = duration_ns(text)
        except ValueError:
            self._say(path, "must be a length of time such as 2s, 5m or 1d")
            return
        if not UNITS_NS["s"] <= length_ns <= UNITS_NS["w"]:
            self._say(path, "must be from 1s to 1w")
        elif length_ns < UNITS_NS["m"] and length_ns % UNITS_NS["s"]:
            self._say(path, "must be a whole number of seconds")
        elif length_ns >= UNITS_NS["m"] and length_ns not in _CANDLES_NS:
            self._say(path, f"must be below 1m or one of {' '.join(CANDLE_TIMEFRAMES)}")

    def _check_pairs(self) -> None:
        """Check what one key asks of another."""
        for section, low, high, may_equal in (
            ("feed", "backoff_min_s", "backoff_max_s", True),
            ("risk", "daily_loss_pct", "daily_loss_halt_pct", False),
            ("risk", "drawdown_pct", "drawdown_halt_pct", False),
        ):
            below, above = self.good.get((section, low)), self.good.get((section, high))
            if below is None or above is None or below < above or (may_equal and below == above):
                continue
            bound = self.tree[section, high]
            relation = "at most" if may_equal else "less than"
            said = f"{section}.{high} = {_shown(bound.value)} ({bound.source.where((section, high))})"
            self._say((section, low), f"must be {relation} {said}")

    def _check_symbols(self, strategies: Iterable[str]) -> None:
        path = ("exchange", "symbols")
        symbols = self.good.get(path)
        if symbols is None:
            return
        self._check_unique(path)
        quotes = sorted({_quote_of(symbol) for symbol in symbols})
        if len(quotes) > 1:
            self._say(path, f"must all have the same quote coin, not {' and '.join(quotes)}")
        for url in (("exchange", "rest_url"), ("exchange", "ws_url")):
            if "@" in self.good.get(url, ""):
                where = self.tree[url].source.where(url)
                self.problems.append(f"{where}: {_dotted(url)} must not hold a user name or a password")
        for name in strategies:
            theirs = (_STRATEGIES, name, "symbols")
            self._check_unique(theirs)
            others = [symbol for symbol in self.good.get(theirs, ()) if symbol not in symbols]
            if others:
                self._say(theirs, f"must be out of exchange.symbols, which has no {' and no '.join(others)}")

    def _check_unique(self, path: KeyPath) -> None:
        symbols: tuple[str, ...] = self.good.get(path, ())
        twice = sorted({symbol for symbol in symbols if symbols.count(symbol) > 1})
        if twice:
            self._say(path, f"must name each symbol once, and names {' and '.join(twice)} twice")

    def _say(self, path: KeyPath, rule: str) -> None:
        entry = self.tree[path]
        shown = "(value not shown)" if _is_secret(path, entry.value) else _shown(entry.value)
        self.problems.append(f"{entry.source.where(path)}: {_dotted(path)} = {shown} {rule}")

    def _say_together(self, table: KeyPath, sentence: str) -> None:
        """Report a strategy's own sentence about its keys, with their full names and places."""
        keys = [path for path in self.tree if path[:-1] == table and re.search(rf"\b{path[-1]} =", sentence)]
        for path in keys:
            sentence = re.sub(rf"(?<![.\w]){path[-1]} =", f"{_dotted(path)} =", sentence)
        places = dict.fromkeys(self.tree[path].source.where(path) for path in keys)
        self.problems.append(f"{', '.join(places) or _dotted(table)}: {sentence}")

    def _missing(self, path: KeyPath) -> None:
        """Report a key that must be given, at the place of its table."""
        table = path[:-1]
        near = next((entry for key, entry in self.tree.items() if key[: len(table)] == table), None)
        where = f"{near.source.where(table)}: " if near else ""
        others = [_dotted(key[:-1]) for key in self.tree if key[0] == _STRATEGIES and key[-1] == "kind"]
        hint = _closest(_dotted(table), others) if path[-1] == "kind" else ""
        self.problems.append(f"{where}{_dotted(path)} is missing{hint}")

    def _unknown(self, path: KeyPath, entry: _Entry, known: Iterable[str]) -> None:
        """Report a key that is no setting. Its value is not shown: nobody knows what it is."""
        where = entry.source.where(path)
        if _is_secret(path, ""):
            reason = "looks like a secret; secrets never stand in settings, they come from the environment"
            if entry.source.label.startswith("environment"):
                reason = "is no setting, and no secret is needed on paper"
        else:
            hint = _closest(_dotted(path), known) if len(self.problems) < HINTS_MAX else ""
            reason = f"is no setting{hint}"
        self.problems.append(f"{where}: {_dotted(path)} {reason}")

    def _all_keys(self, more: Iterable[str] = ()) -> list[str]:
        own = [f"{name}.{key}" for name, section in SECTIONS.items() for key in section.__struct_fields__]
        return [*more, *own, *SECTIONS, _STRATEGIES]


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


def _quote_of(symbol: str) -> str:
    return symbol.split("_")[1]


def _is_secret(path: KeyPath, value: object) -> bool:
    """Return whether a value should be kept out of sight."""
    return bool(_SECRET_NAME.search(path[-1])) or (isinstance(value, str) and "@" in value)


def _dotted(path: KeyPath) -> str:
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in path)


def _shown(value: object) -> str:
    """Return `value` as TOML would show it, on one line of at most 80 characters."""
    match value:
        case dict():
            text = "{…}" if value else "{}"
        case list():
            text = f"[{', '.join(_shown(item) for item in value[:8])}{', …' if len(value) > 8 else ''}]"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        case str() | bool():
            text = json.dumps(value)
        case int() if value.bit_length() > 1000:
            text = "(a very long number)"
        case _:
            text = str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def _closest(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean …?" with the known name nearest to `name`, or nothing."""
    import difflib

    known = list(known)
    last = name.rpartition(".")[2]
    same_key = [key for key in known if "." in key and key.rpartition(".")[2] == last]
    near = same_key[:1] or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
