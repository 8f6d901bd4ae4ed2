"""Fault schedules: what goes wrong at the simulated exchange, when, to whom and how often. Values, and their reading.

A schedule is a seed and a list of events. Each event draws from random numbers of its own, made of the seed and of what
the event says, so that leaving one out changes nothing about the others: a schedule can be shrunk. What an event does
is decided in `injector`. The form, with an example of each kind, is in docs/faults.md.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar, cast, get_args, get_origin

import msgspec

from bot.errors import SettingsError

EVENTS_MAX: Final = 1_000
SECONDS_MAX: Final = 1e9
SEED_DEFAULT: Final = 1
_SHOWN_MAX: Final = 60

Seconds = Annotated[float, msgspec.Meta(ge=0, le=SECONDS_MAX)]
_DelayS = Annotated[float, msgspec.Meta(ge=0, le=600)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


# --- delays


class Delay(msgspec.Struct, frozen=True, kw_only=True, tag_field="shape", omit_defaults=True):
    """How long something takes, in seconds of the client."""


class Fixed(Delay, frozen=True, kw_only=True, tag="fixed"):
    """Always the same."""

    s: _DelayS


class Uniform(Delay, frozen=True, kw_only=True, tag="uniform"):
    """Anything between two bounds."""

    from_s: _DelayS
    to_s: _DelayS

    def __post_init__(self) -> None:
        if self.from_s > self.to_s:
            raise ValueError(f"from_s: {self.from_s:g} must be <= to_s {self.to_s:g}")


class LogNormal(Delay, frozen=True, kw_only=True, tag="log_normal"):
    """Mostly near the median, now and then far above it, as real networks are."""

    median_s: _DelayS
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.5
    """Of the logarithm."""
    most_s: _DelayS = 30.0
    """What is longer is cut to this."""


AnyDelay = Fixed | Uniform | LogNormal


# --- events


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """A fault, and its window on the exchange's clock, counted from when its schedule began."""

    at_s: Seconds = 0.0
    for_s: Annotated[float, msgspec.Meta(gt=0, le=SECONDS_MAX)] | None = None
    """None: to the end."""

    @property
    def end_s(self) -> float:
        """Return when the window ends."""
        return math.inf if self.for_s is None else self.at_s + self.for_s


class Strike(Event, frozen=True, kw_only=True):
    """A fault that strikes some of what it matches: each with a probability, or one in so many, up to a count."""

    account: str = ""
    """The key of the account that is struck; empty: any, and what is of no account."""
    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    every: _Count = 1
    """Of what matches, only each so many-th is struck (with `probability`)."""
    count: _Count | None = None
    """How often it strikes at most; None: no bound."""


class RequestFault(Strike, frozen=True, kw_only=True):
    """A fault of REST requests whose path begins with `path`."""

    path: str = ""
    method: Literal["", "GET", "POST", "PUT", "DELETE"] = ""
    """Empty: any."""


class FrameFault(Strike, frozen=True, kw_only=True):
    """A fault of WebSocket frames to connections whose path begins with `path`."""

    path: str = ""
    channel: str = ""
    """A channel's name as clients say it, or `answers` for all that answers a request; empty: every frame."""


class RequestLatency(RequestFault, frozen=True, kw_only=True, tag="request_latency"):
    """A request takes long to arrive; it is judged, its signature's age too, when it does."""

    delay: AnyDelay


class AnswerLatency(RequestFault, frozen=True, kw_only=True, tag="answer_latency"):
    """A request is executed at once, and its answer takes long to leave."""

    delay: AnyDelay


Ending = Literal["close", "reset", "silence"]
"""How a client learns that no answer comes: the connection ends, breaks (TCP reset), or stays open and silent."""


class LostRequest(RequestFault, frozen=True, kw_only=True, tag="lost_request"):
    """A request never reaches the exchange."""

    ends: Ending = "close"


class LostAnswer(RequestFault, frozen=True, kw_only=True, tag="lost_answer"):
    """A request is executed, and its answer never leaves."""

    ends: Ending = "close"


class ServerError(RequestFault, frozen=True, kw_only=True, tag="server_error"):
    """A status 5xx, although the request was executed or without executing it."""

    status: Annotated[int, msgspec.Meta(ge=500, le=599)] = 503
    """500 has a body of the exchange, any other one of the edge in front of it."""
    is_executed: bool = False


class TooManyRequests(RequestFault, frozen=True, kw_only=True, tag="too_many_requests"):
    """A status 429 without executing the request."""

    retry_after_s: Annotated[int, msgspec.Meta(ge=0, le=3600)] | None = 1
    """What its Retry-After says; None: there is none."""


class GarbageAnswer(RequestFault, frozen=True, kw_only=True, tag="garbage_answer"):
    """A request is executed, and the body of its answer is no JSON: half of it, or noise."""

    form: Literal["half", "noise"] = "noise"


class SlowAnswer(RequestFault, frozen=True, kw_only=True, tag="slow_answer"):
    """The body of an answer drips."""

    bytes_per_s: Annotated[float, msgspec.Meta(gt=0)] = 10.0


class FrameLatency(FrameFault, frozen=True, kw_only=True, tag="frame_latency"):
    """A frame takes long to leave; those behind it wait, so the order stays."""

    delay: AnyDelay


class DuplicateFrame(FrameFault, frozen=True, kw_only=True, tag="duplicate_frame"):
    """A frame is sent more than once."""

    copies: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    """Beside the frame itself."""


class ReorderedFrame(FrameFault, frozen=True, kw_only=True, tag="reordered_frame"):
    """A frame is sent only after the next `by` frames of its connection."""

    by: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1


class DroppedFrame(FrameFault, frozen=True, kw_only=True, tag="dropped_frame"):
    """A frame is never sent: a gap."""


class GarbageFrame(FrameFault, frozen=True, kw_only=True, tag="garbage_frame"):
    """In place of a frame comes text that is no JSON: half of it, or noise."""

    form: Literal["half", "noise"] = "noise"


class OversizedFrame(FrameFault, frozen=True, kw_only=True, tag="oversized_frame"):
    """In place of a frame comes a long one: JSON, and nothing that a client asked for."""

    size_bytes: Annotated[int, msgspec.Meta(ge=2, le=64 * 2**20)] = 2 * 2**20


class HalfOpen(FrameFault, frozen=True, kw_only=True, tag="half_open"):
    """A connection falls silent until the window ends: TCP lives, nothing is sent, and what comes in is not read."""


class Cut(FrameFault, frozen=True, kw_only=True, tag="cut"):
    """A connection ends in place of a frame, and also when the window begins."""

    code: Annotated[int, msgspec.Meta(ge=1000, le=4999)] | None = None
    """Of a WebSocket close frame; None: TCP just ends."""


class Reset(FrameFault, frozen=True, kw_only=True, tag="reset"):
    """A connection breaks in place of a frame, and also when the window begins: TCP reset."""


class Maintenance(Event, frozen=True, kw_only=True, tag="maintenance"):
    """Orders are neither taken nor cancelled, by REST and by socket; the channel `exchange` says so."""


class PostOnly(Event, frozen=True, kw_only=True, tag="post_only"):
    """Spot orders that could take are refused; markets are listed so, and the channel `exchange` says so."""


class ClockSkew(Event, frozen=True, kw_only=True, tag="clock_skew"):
    """The exchange's clock is wrong: what `/timestamp` says, what the age of signatures is measured by, or both."""

    offset_ms: Annotated[int, msgspec.Meta(ge=-86_400_000, le=86_400_000)]
    """More than 0: it is fast."""
    of: Literal["both", "timestamp", "signatures"] = "both"


class FillDuringCancel(Strike, frozen=True, kw_only=True, tag="fill_during_cancel"):
    """An order that is asked to be cancelled is first filled in part, or wholly: the cancel loses."""

    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Of what is left of the order, rounded up to a lot."""


FaultEvent = (
    RequestLatency
    | AnswerLatency
    | LostRequest
    | LostAnswer
    | ServerError
    | TooManyRequests
    | GarbageAnswer
    | SlowAnswer
    | FrameLatency
    | DuplicateFrame
    | ReorderedFrame
    | DroppedFrame
    | GarbageFrame
    | OversizedFrame
    | HalfOpen
    | Cut
    | Reset
    | Maintenance
    | PostOnly
    | ClockSkew
    | FillDuringCancel
)
KINDS: Final[Mapping[str, type[FaultEvent]]] = {str(kind.__struct_config__.tag): kind for kind in get_args(FaultEvent)}
"""Every kind, by its name."""
Mode = Maintenance | PostOnly
"""What the channel `exchange` announces."""
ConnectionFault = HalfOpen | Cut | Reset
"""What strikes a connection as a whole, and so also one that has nothing to say."""


class FaultSchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Faults to come."""

    seed: int = SEED_DEFAULT
    faults: tuple[FaultEvent, ...] = ()


# --- reading

KindT = TypeVar("KindT", bound=msgspec.Struct)


def decode_schedule(data: bytes, name: str, *, is_toml: bool = False) -> FaultSchedule:
    """Return a schedule out of JSON or TOML; `name` is what errors call it. A JSON list stands for its events.

    Raises:
        SettingsError: it is none; says every mistake with its place, its value and its bound.

    """
    try:
        raw: object = tomllib.loads(data.decode()) if is_toml else msgspec.json.decode(data)
    except (ValueError, RecursionError) as error:  # of JSON, TOML and UTF-8 alike
        raise SettingsError(f"{name}: is not {'TOML' if is_toml else 'JSON'}: {error}") from error
    problems: list[str] = []
    schedule = _schedule(raw, problems)
    if problems:
        raise SettingsError([f"{name}: {problem}" for problem in problems])
    return schedule


def _schedule(raw: object, problems: list[str]) -> FaultSchedule:
    table: object = cast("object", {"faults": raw} if isinstance(raw, list) else raw)
    if not isinstance(table, dict):
        problems.append(f"{_shown(table)} must be a table with faults, or a list of them")
        return FaultSchedule()
    fields = cast("dict[str, object]", table)
    problems += [f"{key}: there is no such key; there are seed, faults" for key in fields if key not in _SCHEDULE]
    seed, listed = fields.get("seed", SEED_DEFAULT), fields.get("faults", [])
    if type(seed) is not int:
        problems.append(f"seed: {_shown(seed)} must be a whole number")
        seed = SEED_DEFAULT
    if not isinstance(listed, list):
        problems.append(f"faults: {_shown(listed)} must be a list")
        return FaultSchedule()
    raws = cast("list[object]", listed)
    if len(raws) > EVENTS_MAX:
        problems.append(f"faults: {len(raws)} of them, more than {EVENTS_MAX}")
        return FaultSchedule()
    read = [_record(each, KINDS, "kind", f"faults[{at}]", problems) for at, each in enumerate(raws)]
    return FaultSchedule(seed=seed, faults=tuple(event for event in read if event is not None))


def _record(raw: object, types: Mapping[str, type[KindT]], tag: str, where: str, problems: list[str]) -> KindT | None:
    """Return a record out of `types`, the one that its tag names; or note what is wrong with it, and return None."""
    if not isinstance(raw, dict):
        problems.append(f"{where}: {_shown(raw)} must be a table with {tag}")
        return None
    fields = cast("dict[str, object]", raw)
    kind = fields.get(tag)
    found = types.get(kind) if isinstance(kind, str) else None
    if found is None:
        said = _shown(kind) if tag in fields else "is missing and"
        problems.append(f"{where}.{tag}: {said} must be one of {', '.join(types)}")
        return None
    before = len(problems)
    known = {field.name: field for field in msgspec.structs.fields(found)}
    values: dict[str, Any] = {}
    for key, value in fields.items():
        if key == tag:
            continue
        if key not in known:
            problems.append(f"{where}.{key}: {kind} has no such key; it has {', '.join(known)}")
        elif key == "delay":
            values[key] = _record(value, _DELAYS, "shape", f"{where}.{key}", problems)
        else:
            values[key] = _value(value, known[key].type, f"{where}.{key}", problems)
    problems += [
        f"{where}.{each.name}: is missing" for each in known.values() if each.required and each.name not in fields
    ]
    if len(problems) > before:
        return None
    try:
        return found(**values)
    except ValueError as error:
        problems.append(f"{where}.{error}")
        return None


def _value(value: object, wanted: object, where: str, problems: list[str]) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        problems.append(f"{where}: {value} must be a finite number")
        return None
    if get_origin(wanted) is Literal and value not in get_args(wanted):
        problems.append(f"{where}: {_shown(value)} must be one of {', '.join(map(repr, get_args(wanted)))}")
        return None
    try:
        return msgspec.convert(value, cast("type[object]", wanted))
    except msgspec.ValidationError as error:
        problems.append(f"{where}: {_shown(value)} is wrong: {str(error).replace('Expected', 'expected')}")
        return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}…"


_SCHEDULE: Final = ("seed", "faults")
_DELAYS: Final[Mapping[str, type[Delay]]] = {str(each.__struct_config__.tag): each for each in get_args(AnyDelay)}
