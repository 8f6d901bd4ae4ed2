"""What goes wrong between a bot and the exchange, and under its feet: values, and the draws that they make.

`bot/exchange/simulated/faults.py` is what the exchange does wrong. This is what the way to it does, and the disk. Every
event draws from a generator of its own, made of the world's seed and of what it says: leaving one out changes nothing
about the others, so a list of them can be shrunk.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from bot.exchange.simulated.faults import AnyDelay
from bot.exchange.simulated.generator import Chance
from bot.exchange.simulated.injector import delay_s, seeded_chance

Way = Literal["out", "in", "both"]
"""From the bot to the exchange, back, or either."""
Where = Literal["rest", "public", "private"]
"""REST, a public socket, a private one."""
Place = Literal["rest", "public", "private", "sockets", "all"]
"""One of these, both kinds of sockets, or everything."""
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class OutageBase(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True):
    """Something that goes wrong in a window of virtual time."""

    at_s: Seconds
    for_s: Seconds

    @property
    def end_s(self) -> float:
        """Return when it is over."""
        return self.at_s + self.for_s


class Chancy(OutageBase, frozen=True, kw_only=True):
    """Strikes each of what it matches with a probability, a number of times at most."""

    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    count: int | None = None


class RequestOutage(Chancy, frozen=True, kw_only=True):
    """Strikes REST requests whose path begins with `path`, on their way out, or their answers on the way in."""

    way: Way = "both"
    path: str = ""
    method: str = ""


class LostPacket(RequestOutage, frozen=True, kw_only=True, tag="lost_packet"):
    """It vanishes; the connection stays open and silent until the client gives up."""


class BrokenRequest(RequestOutage, frozen=True, kw_only=True, tag="broken_request"):
    """The connection breaks under it."""


class Delayed(Chancy, frozen=True, kw_only=True, tag="delayed"):
    """A request, an answer or a frame takes longer."""

    delay: AnyDelay
    way: Way = "both"
    place: Place = "all"


class Partition(OutageBase, frozen=True, kw_only=True, tag="partition"):
    """Nothing passes; what is open stays open and delivers late, and nothing new can be opened."""

    way: Way = "both"
    place: Place = "all"


class SocketsCut(OutageBase, frozen=True, kw_only=True, tag="sockets_cut"):
    """Every socket breaks when the window begins; until it ends new ones are refused."""

    place: Place = "sockets"
    is_reset: bool = False


class NoName(OutageBase, frozen=True, kw_only=True, tag="no_name"):
    """The name of the exchange cannot be resolved: new connections fail at once, open ones live on."""


class Corruption(Chancy, frozen=True, kw_only=True, tag="corruption"):
    """A byte of what travels changes; in the wire tier only."""

    way: Way = "both"
    place: Place = "all"


class SlowDisk(OutageBase, frozen=True, kw_only=True, tag="slow_disk"):
    """Every commit takes longer."""

    delay: AnyDelay


class BadDisk(Chancy, frozen=True, kw_only=True, tag="bad_disk"):
    """A commit fails: the disk is full, or broken."""

    error: Literal["ENOSPC", "EIO"] = "ENOSPC"


class WallJump(OutageBase, frozen=True, kw_only=True, tag="wall_jump"):
    """The machine's own clock is wrong."""

    offset_ms: Annotated[int, msgspec.Meta(ge=-86_400_000, le=86_400_000)]


Outage = (
    LostPacket | BrokenRequest | Delayed | Partition | SocketsCut | NoName | Corruption | SlowDisk | BadDisk | WallJump
)


class _Armed:
    """An outage, its generator, and how often it struck."""

    def __init__(self, outage: Outage, chance: Chance) -> None:
        self.outage = outage
        self.chance = chance
        self.struck = 0

    def strikes(self, outage: Chancy) -> bool:
        """Return whether it strikes something that it matches."""
        if outage.count is not None and self.struck >= outage.count:
            return False
        is_hit = outage.probability >= 1 or self.chance.uniform() < outage.probability
        self.struck += is_hit
        return is_hit


class Outages:
    """All outages of a world. A pure machine: every question names the time, which never goes back."""

    def __init__(self, outages: Sequence[Outage], seed: int) -> None:
        numbered: dict[bytes, int] = {}
        self._armed: list[_Armed] = []
        for outage in outages:
            said = msgspec.json.encode(outage)
            nth = numbered[said] = numbered.get(said, 0) + 1
            self._armed.append(_Armed(outage, seeded_chance(b"%d %d " % (seed, nth) + said)))
        self._on: list[_Armed] = []
        self._changes_s = -math.inf
        """Until when `_on` stays as it is."""
        self._is_healed = False

    def __bool__(self) -> bool:
        """Return whether anything ever goes wrong: otherwise it need not be asked."""
        return bool(self._armed)

    def heal(self) -> None:
        """Let nothing go wrong any more."""
        self._is_healed = True
        self._changes_s = -math.inf

    @property
    def struck(self) -> dict[str, int]:
        """Return by kind how often outages struck; those that are windows count when they begin."""
        found: dict[str, int] = {}
        for armed in self._armed:
            kind = str(type(armed.outage).__struct_config__.tag)
            found[kind] = found.get(kind, 0) + armed.struck
        return found

    def _now(self, now_s: float) -> list[_Armed]:
        if now_s >= self._changes_s:
            armed = () if self._is_healed else self._armed
            self._on = [each for each in armed if each.outage.at_s <= now_s < each.outage.end_s]
            ahead = [edge for each in armed for edge in (each.outage.at_s, each.outage.end_s) if edge > now_s]
            self._changes_s = min(ahead, default=math.inf)
            for each in self._on:
                if not isinstance(each.outage, Chancy):
                    each.struck = max(each.struck, 1)
        return self._on

    # --- the way

    def request(self, way: Way, method: str, path: str, now_s: float) -> Literal["", "lost", "broken"]:
        """Return what becomes of a request (`out`) or of its answer (`in`)."""
        for armed in self._now(now_s):
            outage = armed.outage
            if (
                isinstance(outage, RequestOutage)
                and outage.way in (way, "both")
                and path.startswith(outage.path)
                and outage.method in ("", method)
                and armed.strikes(outage)
            ):
                return "lost" if isinstance(outage, LostPacket) else "broken"
        return ""

    def delay_s(self, way: Way, where: Where, now_s: float) -> float:
        """Return how much longer something takes."""
        total_s = 0.0
        for armed in self._now(now_s):
            outage = armed.outage
            if isinstance(outage, Delayed) and _matches(outage, way, where) and armed.strikes(outage):
                total_s += delay_s(outage.delay, armed.chance)
        return total_s

    def parted_until_s(self, way: Way, where: Where, now_s: float) -> float:
        """Return until when nothing passes; `now_s` itself where it does."""
        ends = [
            each.outage.end_s
            for each in self._now(now_s)
            if isinstance(each.outage, Partition) and _matches(each.outage, way, where)
        ]
        return max(ends, default=now_s)

    def no_connection(self, where: Where, now_s: float) -> Literal["", "no name", "refused", "silent"]:
        """Return why no new connection can be made."""
        for each in self._now(now_s):
            match each.outage:
                case NoName():
                    return "no name"
                case SocketsCut(place=place) if _is_at(place, where):
                    return "refused"
                case Partition(place=place) if _is_at(place, where):
                    return "silent"
                case _:
                    pass
        return ""

    def corrupts(self, way: Way, where: Where, size: int, now_s: float) -> int | None:
        """Return which of `size` bytes changes, if one does."""
        for armed in self._now(now_s):
            outage = armed.outage
            if isinstance(outage, Corruption) and _matches(outage, way, where) and armed.strikes(outage):
                return armed.chance.below(size)
        return None

    def cuts(self) -> list[SocketsCut]:
        """Return all cuts, first the earliest."""
        cuts = [each.outage for each in self._armed if isinstance(each.outage, SocketsCut)]
        return sorted(cuts, key=lambda cut: cut.at_s)

    # --- the machine

    def commit_delay_s(self, now_s: float) -> float:
        """Return how much longer a commit takes."""
        return sum(
            delay_s(each.outage.delay, each.chance) for each in self._now(now_s) if isinstance(each.outage, SlowDisk)
        )

    def commit_error(self, now_s: float) -> str:
        """Return how a commit fails, or nothing."""
        for armed in self._now(now_s):
            outage = armed.outage
            if isinstance(outage, BadDisk) and armed.strikes(outage):
                return outage.error
        return ""

    def wall_offset_ms(self, now_s: float) -> int:
        """Return how far the machine's own clock is ahead."""
        return sum(each.outage.offset_ms for each in self._now(now_s) if isinstance(each.outage, WallJump))


def _matches(outage: Delayed | Partition | Corruption, way: Way, where: Where) -> bool:
    return outage.way in (way, "both") and _is_at(outage.place, where)


def _is_at(place: Place, where: Where) -> bool:
    return place in ("all", where) or (place == "sockets" and where != "rest")
