"""REST requests of one account: each waits for its limit, is signed at the last moment, and is judged by its status.

Reads are tried again; writes are sent at most once. Spot and futures clients are made of this; what travels in a
query, a body or a good answer is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec
import trio

from bot.errors import BadReply, ConnectionLost, ExchangeError, RateLimited
from bot.exchange.network import HttpPort
from bot.exchange.poloniex.client import HTTP_OK, READ_BACKOFF, TRIES, good_body, try_again
from bot.exchange.poloniex.codec import decode_timestamp
from bot.exchange.poloniex.limits import Gate, Group, Lane, RateLimits
from bot.exchange.poloniex.outcome import (
    Doubt,
    Market,
    Outcome,
    RefusalKind,
    Refused,
    Unknown,
    Write,
    classify,
    fence_ms,
)
from bot.exchange.poloniex.server_clock import MS_NS, ServerClock
from bot.exchange.poloniex.signing import RECV_WINDOW_MS, Credentials, sign
from bot.exchange.poloniex.spot_codec import decode_refusal
from bot.exchange.transport import HTTP_TOO_MANY_REQUESTS, Backoff, Response

SUBMIT_WITHIN_S: Final = 2.0
"""A burst may wait for the limit's next window; a new order that waited longer for its turn is given up, unsent."""
CONTENT_TYPE: Final = {"Content-Type": "application/json"}
HTTP_BANS: Final = frozenset({403, 418})
"""With a body that is not the exchange's own: the edge in front of it shuts our address out."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked: `path` and `query` as on the wire, `body` as sent, empty for none."""

    method: str
    path: str
    group: Group
    query: str = ""
    body: bytes = b""
    lane: Lane = Lane.DATA
    why_not: Callable[[], str] | None = None
    """Asked in the turn in which a write would be signed and sent: says why it shall not be, or ""."""

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{self.method} {self.path}"


class RestSession:
    """The way to the exchange for one account, or for none: without credentials only public reads work.

    A `ClockSkew` goes up from anything signed: then nothing was sent.
    """

    def __init__(
        self,
        http: HttpPort,
        market: Market,
        *,
        credentials: Credentials | None = None,
        limits: RateLimits | None = None,
        clock: ServerClock | None = None,
        tries: int = TRIES,
        backoff: Backoff = READ_BACKOFF,
        recv_window_ms: int = RECV_WINDOW_MS,
    ) -> None:
        assert tries >= 1
        self._http = http
        self._market = market
        self._credentials = credentials
        self._limits = limits or RateLimits()
        self.clock = clock or ServerClock(self.server_time_ms)
        self._tries = tries
        self._backoff = backoff
        self._recv_window_ms = recv_window_ms

    async def server_time_ms(self) -> int:
        """Return the exchange's time, asked once."""
        await self._limits.gate(Group.PUBLIC_LIGHT).wait(Lane.CLOSE)
        return decode_timestamp(good_body("GET /timestamp", await self._http.get("/timestamp"))) // MS_NS

    # --- reads

    async def read(self, request: Request) -> bytes:
        """Return the body of a good answer to a public question; tried again where that may help.

        Raises:
            ConnectionLost, RateLimited: it stayed so.
            ReadRefused: the exchange said no, with a status and a code.

        """
        return await try_again(lambda: self._read_once(request, self._no_headers), self._tries, self._backoff)

    async def read_signed(self, request: Request) -> bytes:
        """Return the body of a good answer about our account. Raises as `read`, and `ClockSkew`."""
        return await try_again(lambda: self._read_once(request, self._signed_headers), self._tries, self._backoff)

    async def _read_once(self, request: Request, headers: Callable[[Request], Awaitable[dict[str, str]]]) -> bytes:
        gate = self._limits.gate(request.group)
        await gate.wait(request.lane)
        response = await self._http.request(request.method, request.path, request.query, headers=await headers(request))
        self._note(gate, response)
        return good_body(request.name, response)

    async def _no_headers(self, request: Request) -> dict[str, str]:
        del request
        return {}

    async def _signed_headers(self, request: Request) -> dict[str, str]:
        await self.clock.make_ready()
        return self._sign(request, self.clock.now_ms())

    def _sign(self, request: Request, now_ms: int) -> dict[str, str]:
        assert self._credentials is not None, f"{request.name} needs credentials"
        return sign(
            self._credentials,
            request.method,
            request.path,
            request.query,
            request.body,
            now_ms,
            self._recv_window_ms,
        )

    def _note(self, gate: Gate, response: Response) -> None:
        """Let the limits learn from an answer."""
        if response.status == HTTP_TOO_MANY_REQUESTS:
            gate.refused(response.retry_after_s)
        elif response.status in HTTP_BANS and decode_refusal(response.body).code is None:
            self._limits.banned(response.retry_after_s)
        else:
            gate.answered()

    # --- writes

    async def write(
        self, request: Request, write: Write, accept: Callable[[bytes, Unknown], Outcome[T]], *, client_id: str = ""
    ) -> Outcome[T]:
        """Return what became of a write. It is sent at most once; `Unknown` must be cleared up, not sent again.

        `accept` reads the body of a good answer, and is given what to return (with another reason) when it leaves the
        write unknown, as a `BadReply` out of it does. A caller that is cancelled meanwhile learns nothing: to it
        the write is unknown.
        """
        gate = self._limits.gate(request.group)
        patience_s = SUBMIT_WITHIN_S if request.lane is Lane.OPEN else math.inf
        not_sent = await self._wait(gate, request, patience_s)
        if not_sent is not None:
            return not_sent
        if request.why_not is not None and (reason := request.why_not()):
            return Refused(code=0, text=reason, kind=RefusalKind.NOT_SENT)
        signed_ms = self.clock.now_ms()
        unknown = Unknown(
            reason="",
            doubt=Doubt.NO_ANSWER,
            client_id=client_id,
            fence_ms=fence_ms(signed_ms, self._recv_window_ms),
        )
        try:
            response = await self._http.request(
                request.method,
                request.path,
                request.query,
                body=request.body or None,
                headers=self._sign(request, signed_ms) | (CONTENT_TYPE if request.body else {}),
                start_within_s=min(patience_s, self._recv_window_ms / 1e3),
                is_urgent=request.lane <= Lane.CLOSE,
            )
            self._note(gate, response)
            if response.status == HTTP_OK:
                return accept(response.body, unknown)
        except (ConnectionLost, BadReply) as error:
            if isinstance(error, ConnectionLost) and not error.may_have_arrived:
                return Refused(code=0, text=str(error), kind=RefusalKind.NOT_SENT)
            return msgspec.structs.replace(unknown, reason=f"{request.name}: {error}")
        refusal = decode_refusal(response.body)
        judged = classify(
            self._market,
            write,
            status=response.status,
            code=refusal.code,
            text=refusal.text,
            client_id=client_id,
            fence_ms=unknown.fence_ms,
        )
        if isinstance(judged, Refused) and judged.kind is RefusalKind.THROTTLED:
            return msgspec.structs.replace(judged, retry_after_s=response.retry_after_s)
        return judged

    async def _wait(self, gate: Gate, request: Request, patience_s: float) -> Refused | None:
        """Return None when the clock is known and the limit has room, or why the write is given up unsent."""
        try:
            await self.clock.make_ready()
            with trio.move_on_after(patience_s):
                await gate.wait(request.lane)
                return None
        except RateLimited as error:
            return Refused(code=0, text=str(error), kind=RefusalKind.THROTTLED, retry_after_s=error.retry_after_s)
        except ExchangeError as error:  # the exchange's clock could not be read
            return Refused(code=0, text=f"{request.name}: not sent: {error}", kind=RefusalKind.NOT_SENT)
        text = f"{request.name}: not sent, the limit had no room for {patience_s:g} s"
        return Refused(code=0, text=text, kind=RefusalKind.THROTTLED)
