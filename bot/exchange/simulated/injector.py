"""What the faults of a schedule do: the fate of each request, each frame, each connection and each cancel.

A pure machine. It is told what passes and when, in seconds of the exchange's clock since its start, and answers what
becomes of it; sockets and waiting are the server's. What befalls a request is drawn once, when it arrives.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec

from bot.exchange.simulated import faults as f
from bot.exchange.simulated.codes import MAINTENANCE_TEXT, Code, refused
from bot.exchange.simulated.generator import Chance
from bot.exchange.simulated.replies import OK, ErrorShape, Reply, encode

FUTURES_PATH: Final = "/v3/"
ANSWERS: Final = "answers"
"""The channel of frames that answer a request."""
KILL_SWITCH_PATH: Final = "/orders/killSwitch"
ORDER_PATHS: Final = ("/orders", "/smartorders", "/v3/trade/")
"""What begins so and is no GET creates or cancels orders."""
TIMESTAMP_PATH: Final = "/timestamp"
SYSTEM_ERROR: Final = 500
TOO_MANY: Final = 429
FUTURES_MAINTENANCE: Final = 1002
NOISE_LENGTH_MAX: Final = 200


class Armed:
    """An event of a schedule that was begun, and how often it struck."""

    def __init__(self, event: f.FaultEvent, seed: bytes, began_s: float) -> None:
        self.event = event
        self.begins_s = began_s + event.at_s
        self.ends_s = began_s + event.end_s
        self.chance = seeded_chance(seed)
        self.matched = 0
        self.struck = 0
        self.told = 0
        """What of it `Injector.begin` has told: 0 nothing, 1 its beginning, 2 its end."""

    def is_on(self, now_s: float) -> bool:
        """Return whether its window is open."""
        return self.begins_s <= now_s < self.ends_s

    def strikes(self, event: f.Strike, account: str) -> bool:
        """Return whether it strikes something that it matches but for the account. It draws for nothing else."""
        if event.account not in ("", account) or self.is_spent(event):
            return False
        self.matched += 1
        # Drawn in any case: what `every` leaves out does not shift the draws of what it takes.
        is_hit = event.probability >= 1 or self.chance.uniform() < event.probability
        if not is_hit or self.matched % event.every:
            return False
        self.struck += 1
        return True

    def is_spent(self, event: f.Strike) -> bool:
        """Return whether it has struck as often as it may."""
        return event.count is not None and self.struck >= event.count

    def count(self) -> None:
        """Note that it struck."""
        self.matched += 1
        self.struck += 1

    def report(self, now_s: float) -> Report:
        """Return how it stands."""
        event = self.event
        is_over = now_s >= self.ends_s or (isinstance(event, f.Strike) and self.is_spent(event))
        state = "over" if is_over else "active" if now_s >= self.begins_s else "waiting"
        return Report(fault=event, state=state, matched=self.matched, struck=self.struck)


def seeded_chance(seed: bytes) -> Chance:
    """Return random numbers that are an event's own: `seed` holds all that it says."""
    return Chance(int.from_bytes(hashlib.blake2b(seed, digest_size=8).digest()))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How an event stands."""

    fault: f.FaultEvent
    state: Literal["waiting", "active", "over"]
    matched: int
    """Of what came by in its window."""
    struck: int


class Reports(msgspec.Struct, frozen=True, kw_only=True):
    """All events, oldest first."""

    now_s: float
    """The exchange's clock, since its start."""
    faults: list[Report]


@dataclass(slots=True)
class RequestFate:
    """What becomes of a request, in the order in which it happens."""

    request_delay_s: float = 0.0
    lost_request: f.Ending | None = None
    instead: Reply | None = None
    """The answer to a request that is not executed."""
    retry_after_s: int | None = None
    answer_delay_s: float = 0.0
    lost_answer: f.Ending | None = None
    afterwards: Reply | None = None
    """The answer to a request that was executed."""
    mangle: Callable[[bytes], bytes] | None = None
    bytes_per_s: float | None = None


class Injector:
    """The events that were begun. Without any it is falsy, and need not be asked."""

    def __init__(self) -> None:
        self._armed: list[Armed] = []

    def __bool__(self) -> bool:
        return bool(self._armed)

    def add(self, schedule: f.FaultSchedule, now_s: float) -> None:
        """Begin a schedule: its windows count from now."""
        occurrences: dict[bytes, int] = {}
        for event in schedule.faults:
            said = encode(event)
            nth = occurrences[said] = occurrences.get(said, 0) + 1
            self._armed.append(Armed(event, b"%d %d " % (schedule.seed, nth) + said, now_s))

    def clear(self) -> None:
        """Forget every event."""
        self._armed.clear()

    def report(self, now_s: float) -> Reports:
        """Return how all events stand."""
        return Reports(now_s=now_s, faults=[armed.report(now_s) for armed in self._armed])

    def on(self, now_s: float) -> Iterator[Armed]:
        """Yield the events whose window is open."""
        return (armed for armed in self._armed if armed.is_on(now_s))

    # --- requests

    def request(self, method: str, path: str, account: str, now_s: float) -> RequestFate:
        """Return what becomes of a request that arrives now. Delays add up; of two answers the first is given."""
        fate = RequestFate()
        for armed in self.on(now_s):
            event = armed.event
            if (
                isinstance(event, f.RequestFault)
                and path.startswith(event.path)
                and event.method in ("", method)
                and armed.strikes(event, account)
            ):
                _befall(fate, event, armed.chance, path)
        return fate

    def refusal(self, method: str, path: str, now_s: float) -> Reply | None:
        """Return the answer to a request that maintenance does not let through, or None."""
        if method == "GET" or not path.startswith(ORDER_PATHS) or path.startswith(KILL_SWITCH_PATH):
            return None
        if not self.refuses_orders(now_s):
            return None
        if path.startswith(FUTURES_PATH):
            return Reply(OK, encode(_Envelope(code=FUTURES_MAINTENANCE, msg=MAINTENANCE_TEXT)))
        return refused(Code.MAINTENANCE).reply

    def is_in_maintenance(self, now_s: float) -> bool:
        """Return whether orders are neither taken nor cancelled now."""
        return any(isinstance(armed.event, f.Maintenance) for armed in self.on(now_s))

    def refuses_orders(self, now_s: float) -> bool:
        """Return whether a request that came for orders is refused by maintenance, and count it."""
        return self._counts(f.Maintenance, now_s)

    def is_post_only(self, now_s: float) -> bool:
        """Return whether orders that could take are refused now."""
        return any(isinstance(armed.event, f.PostOnly) for armed in self.on(now_s))

    def refuses_takers(self, now_s: float) -> bool:
        """Return whether an order that could take is refused by post-only mode, and count it."""
        return self._counts(f.PostOnly, now_s)

    def _counts(self, mode: type[f.Mode], now_s: float) -> bool:
        armed = next((each for each in self.on(now_s) if isinstance(each.event, mode)), None)
        if armed is not None:
            armed.count()
        return armed is not None

    def skew_ms(self, of: Literal["timestamp", "signatures"], now_s: float) -> int:
        """Return how far the exchange's clock is ahead of itself, for one look at it."""
        offset_ms = 0
        for armed in self.on(now_s):
            event = armed.event
            if isinstance(event, f.ClockSkew) and event.of in ("both", of):
                armed.count()
                offset_ms += event.offset_ms
        return offset_ms

    def fill_lots(self, account: str, leaves_lots: int, now_s: float) -> int:
        """Return how much of an order is filled before its cancel takes effect."""
        shares = [
            event.share
            for armed in self.on(now_s)
            if isinstance(event := armed.event, f.FillDuringCancel) and armed.strikes(event, account)
        ]
        return math.ceil(leaves_lots * max(shares)) if shares else 0

    # --- what happens by itself

    @property
    def due_s(self) -> float | None:
        """Return when `begin` has something to tell next."""
        moments = [
            armed.begins_s if armed.told == 0 else armed.ends_s
            for armed in self._armed
            if armed.told < (2 if isinstance(armed.event, f.Mode) else 1)
            and isinstance(armed.event, f.ConnectionFault | f.Mode)
        ]
        return min(moments, default=None)

    def begin(self, now_s: float) -> list[Armed]:
        """Return the faults of whole connections whose window has opened since the last call."""
        begun: list[Armed] = []
        for armed in self._armed:
            if armed.told == 0 and now_s >= armed.begins_s:
                armed.told = 1
                if isinstance(armed.event, f.ConnectionFault) and armed.is_on(now_s):
                    begun.append(armed)
            if armed.told == 1 and now_s >= armed.ends_s:
                armed.told = 2
        return begun


def _befall(fate: RequestFate, event: f.RequestFault, chance: Chance, path: str) -> None:
    match event:
        case f.RequestLatency():
            fate.request_delay_s += delay_s(event.delay, chance)
        case f.AnswerLatency():
            fate.answer_delay_s += delay_s(event.delay, chance)
        case f.LostRequest():
            fate.lost_request = fate.lost_request or event.ends
        case f.LostAnswer():
            fate.lost_answer = fate.lost_answer or event.ends
        case f.ServerError() if event.is_executed:
            fate.afterwards = fate.afterwards or _server_error(path, event.status)
        case f.ServerError():
            fate.instead = fate.instead or _server_error(path, event.status)
        case f.TooManyRequests() if fate.instead is None:
            fate.instead = _refused(path, TOO_MANY, "Too many requests")
            fate.retry_after_s = event.retry_after_s
        case f.GarbageAnswer():
            fate.mangle = lambda body: garbage(body, event.form, chance)
        case f.SlowAnswer():
            fate.bytes_per_s = min(fate.bytes_per_s or math.inf, event.bytes_per_s)
        case _:
            pass


def _server_error(path: str, status: int) -> Reply:
    if status == SYSTEM_ERROR:
        return _refused(path, SYSTEM_ERROR, "System error")
    return Reply(status, b"<html><head><title>%d</title></head><body>cloudflare</body></html>" % status)


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    code: int
    msg: str
    data: None = None


def _refused(path: str, status: int, text: str) -> Reply:
    """Return a refusal in the form of the market that was asked; its code is its status."""
    if path.startswith(FUTURES_PATH):
        return Reply(status, encode(_Envelope(code=status, msg=text)))
    return Reply(status, encode(ErrorShape(code=status, message=text)))


class _ServerTime(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    server_time: int


def shifted_timestamp(reply: Reply, offset_ms: int) -> Reply:
    """Return the answer of a clock that is `offset_ms` fast."""
    if not offset_ms or reply.status != OK:
        return reply
    said = msgspec.json.decode(reply.body, type=_ServerTime)
    return Reply(OK, encode(_ServerTime(server_time=said.server_time + offset_ms)))


def delay_s(delay: f.AnyDelay, chance: Chance) -> float:
    """Return one delay of a distribution."""
    match delay:
        case f.Fixed():
            return delay.s
        case f.Uniform():
            return delay.from_s + (delay.to_s - delay.from_s) * chance.uniform()
        case f.LogNormal():
            return min(delay.median_s * math.exp(delay.sigma * chance.gauss()), delay.most_s)


def garbage(text: bytes, form: Literal["half", "noise"], chance: Chance) -> bytes:
    """Return what is no JSON: the first half of a JSON object or list, or printable noise."""
    if form == "half":
        return text[: len(text) // 2].decode(errors="ignore").encode()
    return b"~" + bytes(33 + chance.below(94) for _ in range(chance.below(NOISE_LENGTH_MAX)))


# --- frames


class Out(NamedTuple):
    """A frame that leaves, after a delay."""

    payload: bytes
    delay_s: float


class End(NamedTuple):
    """The connection ends, with nothing after it."""

    code: int | None
    """Of a close frame; None: there is none."""
    is_reset: bool


@dataclass(slots=True)
class _Held:
    """A frame that others overtake."""

    out: Out
    by: int


@dataclass(slots=True)
class FrameLine:
    """The frames of one connection on their way out."""

    injector: Injector
    path: str
    _silent_until_s: float = -math.inf
    _held: list[_Held] = field(default_factory=list[_Held])

    def is_silent(self, now_s: float) -> bool:
        """Return whether nothing goes in or out, although TCP lives."""
        return now_s < self._silent_until_s

    def send(self, frames: Iterable[bytes], channel: str, account: str, now_s: float) -> Iterator[Out | End]:
        """Yield what leaves in place of `frames` of a channel; `account` is the key of whose connection it is."""
        for frame in frames:
            for step in self._send(frame, channel, account, now_s):
                yield step
                if isinstance(step, End):
                    return

    def strike(self, armed: Armed, account: str, now_s: float) -> End | None:
        """Return how the connection ends when a fault of whole connections begins, if it ends."""
        event = armed.event
        if not isinstance(event, f.ConnectionFault) or event.channel or not self.path.startswith(event.path):
            return None
        return self._fall(armed, event) if armed.strikes(event, account) else None

    def _send(self, frame: bytes, channel: str, account: str, now_s: float) -> Iterator[Out | End]:
        if self.is_silent(now_s):
            return
        struck = [
            (armed, event)
            for armed in self.injector.on(now_s)
            if isinstance(event := armed.event, f.FrameFault)
            and event.channel in ("", channel)
            and self.path.startswith(event.path)
            and armed.strikes(event, account)
        ]
        wait_s, copies, by, is_dropped = 0.0, 1, 0, False
        for armed, event in struck:
            match event:
                case f.HalfOpen() | f.Cut() | f.Reset():
                    end = self._fall(armed, event)
                    if end is not None:
                        yield end
                    return
                case f.DroppedFrame():
                    is_dropped = True
                case f.GarbageFrame():
                    frame = garbage(frame, event.form, armed.chance)
                case f.OversizedFrame():
                    frame = b'"' + b"x" * (event.size_bytes - 2) + b'"'
                case f.DuplicateFrame():
                    copies += event.copies
                case f.ReorderedFrame():
                    by = max(by, event.by)
                case f.FrameLatency():
                    wait_s += delay_s(event.delay, armed.chance)
                case _:
                    pass
        if is_dropped:
            return
        out = Out(frame, wait_s)
        if by:
            self._held += [_Held(out, by) for _ in range(copies)]
            return
        for _ in range(copies):
            yield out
        yield from self._overtaken()

    def _fall(self, armed: Armed, event: f.ConnectionFault) -> End | None:
        if isinstance(event, f.HalfOpen):
            self._silent_until_s = armed.ends_s
            return None
        return End(code=event.code if isinstance(event, f.Cut) else None, is_reset=isinstance(event, f.Reset))

    def _overtaken(self) -> Iterator[Out]:
        """Yield the frames that enough others have overtaken."""
        for held in self._held:
            held.by -= 1
        yield from (held.out for held in self._held if held.by <= 0)
        self._held = [held for held in self._held if held.by > 0]


def channel_name(channel: str) -> str:
    """Return a topic's channel as clients say it: no account, and `book` for each of its depths."""
    name = channel.partition("@")[0]
    return "book" if name.removeprefix("book_").isdigit() else name
