"""What became of a write: accepted, refused, or unknown. Pure; spot and futures.

An answer code means what appendix A of the dossier's faults.md says; any code that is not in it leaves a write
unknown. Unknown is never sent again blindly: `Search` says when a question by the same client id proves something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T")


class Market(StrEnum):
    """Whose codes are meant."""

    SPOT = "spot"
    FUTURES = "futures"


class Write(StrEnum):
    """What was asked for; it decides how far a code can be trusted."""

    SUBMIT = "submit"
    CANCEL = "cancel"
    TRANSFER = "transfer"
    WITHDRAW = "withdraw"
    SETTING = "setting"
    """A kill switch, a leverage, a deposit address: done again, it is the same as done once."""


class RefusalKind(StrEnum):
    """What a refusal is about, and so who should act on it."""

    ORDER = "order"
    """This order, transfer or setting, as it is."""
    THROTTLED = "throttled"
    """We asked too often."""
    MODE = "mode"
    """The market or the exchange is in maintenance, or takes only some orders."""
    ACCOUNT = "account"
    """The account may not trade: stop."""
    AUTH = "auth"
    """The key, the signature or the time of signing."""
    NO_SWITCH = "no_switch"
    """No kill switch is armed."""
    NOT_SENT = "not_sent"
    """It never left this machine; the code is 0."""
    NEVER_ACCEPTED = "never_accepted"
    """Its answer was lost, and the exchange was then asked until it was certain that it is not there; the code is 0."""


class Doubt(StrEnum):
    """Why an outcome is unknown."""

    NO_ANSWER = "no_answer"
    """It may have arrived, and no whole, readable answer came."""
    AMBIGUOUS = "ambiguous"
    """The exchange says that it failed, but not that it did nothing."""
    EXISTS = "exists"
    """The client id is taken: an earlier attempt arrived."""
    RACE = "race"
    """The order to be cancelled is finished, unknown or being finished: ask for it and for its trades."""


class Accepted(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """The exchange took it. For an order that says nothing of fills, for a cancel nothing of its success."""

    value: T


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """It did not happen and will not happen. `text` is fit for a terminal."""

    code: int
    text: str
    kind: RefusalKind = RefusalKind.ORDER
    retry_after_s: float | None = None


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """It may have happened. `reason` is fit for a terminal."""

    reason: str
    doubt: Doubt
    client_id: str = ""
    code: int | None = None
    fence_ms: int = 0
    """Until then, on the exchange's clock, the request may still arrive and be accepted."""


Outcome = Accepted[T] | Refused | Unknown


# --- codes (faults.md, appendix A)


class CodeClass(StrEnum):
    """The rows of appendix A."""

    REFUSED = "refused"
    EXISTS = "exists"
    AMBIGUOUS = "ambiguous"
    THROTTLED = "throttled"
    RACE = "race"
    MODE = "mode"
    ACCOUNT = "account"
    NO_SWITCH = "no_switch"


def _table(*rows: tuple[CodeClass, Iterable[int]]) -> dict[int, CodeClass]:
    # A code in two rows belongs to the later one, which says more.
    return {code: kind for kind, codes in rows for code in codes}


SPOT_CODES: Final = _table(
    (
        CodeClass.REFUSED,
        [
            *(601, 602),
            *range(21309, 21312),
            *range(21317, 21323),
            *range(21327, 21331),
            *range(21335, 21338),
            *range(21347, 21351),
            *(21356, 21360, 21709, 21721, 10020, 10040, 10041, 24101),
        ],
    ),
    (CodeClass.EXISTS, [21312, 25004, 25006]),
    (CodeClass.AMBIGUOUS, [500, 603, 415, 24201]),
    (CodeClass.THROTTLED, [429]),
    (CodeClass.RACE, [21301, 21304, 21305, 21307, 21359]),
    (CodeClass.MODE, range(21340, 21344)),
    (CodeClass.ACCOUNT, [21351, 21601, 21711, 21353, 21354]),
    (CodeClass.NO_SWITCH, [25020]),
)
FUTURES_CODES: Final = _table(
    (
        CodeClass.REFUSED,
        [400, 403, *range(10000, 10009), *range(10010, 10017), 10018, 10019, 21001, 21002, 24101],
    ),
    (CodeClass.EXISTS, [250]),
    (CodeClass.AMBIGUOUS, [500, 503, 24201]),
    (CodeClass.THROTTLED, [429]),
    (CodeClass.RACE, [11004, 11008]),
    (CodeClass.MODE, [1002, 10005, 10006, 10015]),
    (CodeClass.ACCOUNT, [1003, 12004]),
)
_CODES: Final[Mapping[Market, Mapping[int, CodeClass]]] = {Market.SPOT: SPOT_CODES, Market.FUTURES: FUTURES_CODES}

TRANSFER_REFUSALS: Final = frozenset({*range(250001, 250006), 250008, 250012})
"""Appendix A speaks of orders; these name what is wrong with a transfer (spot-rest.md, section 11)."""
WITHDRAW_REFUSALS: Final = frozenset({820181, 820201, 830111})
"""And these what is wrong with a withdrawal."""
REFUSED_AT_THE_DOOR: Final = frozenset({400, 401, 403, 408})
"""With the same number as code: a bad key or signature, or a time outside `recvWindow` (spot-rest.md, section 2)."""
_SMART_NOT_FOUND: Final = frozenset({25013, 25014, 25015})
_NOT_FOUND: Final = frozenset({21301, *_SMART_NOT_FOUND})
_CANCEL_RACES: Final = frozenset({*range(25009, 25013), 25016, 25017, *_SMART_NOT_FOUND})
"""Smart orders that could not be cancelled: to a cancel the same as the races of appendix A."""
HTTP_SERVER_ERROR: Final = 500
HTTP_TOO_MANY_REQUESTS: Final = 429

_KINDS: Final[Mapping[CodeClass, RefusalKind]] = {
    CodeClass.REFUSED: RefusalKind.ORDER,
    CodeClass.THROTTLED: RefusalKind.THROTTLED,
    CodeClass.MODE: RefusalKind.MODE,
    CodeClass.ACCOUNT: RefusalKind.ACCOUNT,
    CodeClass.NO_SWITCH: RefusalKind.NO_SWITCH,
}
_DOUBTS: Final[Mapping[CodeClass, Doubt]] = {
    CodeClass.EXISTS: Doubt.EXISTS,
    CodeClass.AMBIGUOUS: Doubt.AMBIGUOUS,
    CodeClass.RACE: Doubt.RACE,
}


def is_not_found(code: int | None) -> bool:
    """Return whether a question by id was answered "no such order", spot."""
    return code in _NOT_FOUND


def classify(
    market: Market,
    write: Write,
    *,
    status: int,
    code: int | None,
    text: str,
    client_id: str = "",
    fence_ms: int = 0,
) -> Refused | Unknown:
    """Return what a failure means; `code` is None when the body had none that could be read.

    `status` is that of the HTTP answer: 200 for an item of a batch, and for a futures envelope that says no.
    """
    reason = f"status {status}, code {code}: {text}" if code is not None else f"status {status}: {text}"
    unknown = Unknown(reason=reason, doubt=Doubt.AMBIGUOUS, client_id=client_id, code=code, fence_ms=fence_ms)
    if status >= HTTP_SERVER_ERROR:
        return unknown
    if status == HTTP_TOO_MANY_REQUESTS:
        return Refused(code=code or status, text=text, kind=RefusalKind.THROTTLED)
    if code is None:
        return msgspec.structs.replace(unknown, doubt=Doubt.NO_ANSWER)
    kind = _kind(market, write, code)
    if kind is None and status == code and status in REFUSED_AT_THE_DOOR:
        return Refused(code=code, text=text, kind=RefusalKind.AUTH)
    if kind is None:
        return unknown
    if kind in _KINDS:
        return Refused(code=code, text=text, kind=_KINDS[kind])
    return msgspec.structs.replace(unknown, doubt=_DOUBTS[kind])


def _kind(market: Market, write: Write, code: int) -> CodeClass | None:
    """Return the class of a code, or None for one that is not known."""
    if write is Write.TRANSFER and code in TRANSFER_REFUSALS:
        return CodeClass.REFUSED
    if write is Write.WITHDRAW and code in WITHDRAW_REFUSALS:
        return CodeClass.REFUSED
    if write is Write.CANCEL and market is Market.SPOT and code in _CANCEL_RACES:
        return CodeClass.RACE
    return _CODES[market].get(code)


# --- resolving an unknown submit

MARGIN_MS: Final = 1_500
"""What is added to a fence: the exchange's own tolerance of a second for clocks, and half of one for ours."""
SLOW_MARGIN_MS: Final = 10_000
"""The same after a failure inside the exchange: it may queue behind its own door."""
NOT_FOUND_TIMES: Final = 2
NOT_FOUND_APART_MS: Final = 1_000
QUERY_AFTER_S: Final = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
"""Pauses between two questions; the last one repeats."""


def fence_ms(signed_ms: int, recv_window_ms: int) -> int:
    """Return until when a request signed at `signed_ms` may still be accepted, on the exchange's clock."""
    return signed_ms + recv_window_ms + MARGIN_MS


def search_fence_ms(unknown: Unknown) -> int:
    """Return from when on "not found" counts for `unknown`; later after a failure inside the exchange."""
    wide_ms = SLOW_MARGIN_MS - MARGIN_MS if unknown.doubt is Doubt.AMBIGUOUS else 0
    return unknown.fence_ms + wide_ms


@dataclass(slots=True)
class Search:
    """Counts "not found" answers to questions by client id, until they prove that the order was never accepted."""

    fence_ms: int
    _counted: int = 0
    _last_ms: int = 0

    def not_found(self, asked_ms: int) -> None:
        """Take note of a question asked at `asked_ms` on the exchange's clock, and answered "not found"."""
        if asked_ms <= self.fence_ms or (self._counted and asked_ms < self._last_ms + NOT_FOUND_APART_MS):
            return
        self._counted += 1
        self._last_ms = asked_ms

    @property
    def is_absent(self) -> bool:
        """Return whether the questions agree that there is no such order; the lists must then agree too."""
        return self._counted >= NOT_FOUND_TIMES
