"""Who may come in, and how often: signatures over the received bytes, their age, and the limits per second.

Source: the dossier's spot-rest.md, sections 2 and 3; the same for spot and futures. Pure: time is an argument, and the
real time is asked of whoever opens the door.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from bot.core.secret import Secret
from bot.exchange.poloniex.signing import (
    KEY,
    RECV_WINDOW,
    TIMESTAMP,
    Freshness,
    freshness,
    is_signed,
    is_websocket_signed,
)
from bot.exchange.simulated.accounts import Account, Accounts
from bot.exchange.simulated.codes import TIMED_OUT, TOO_MANY, UNAUTHORIZED
from bot.exchange.simulated.replies import BAD_REQUEST, Refusal, Request

PUBLIC_LIGHT: Final = "public light"
PUBLIC_HEAVY: Final = "public heavy"
PRIVATE_LIGHT: Final = "private light"
PRIVATE_HEAVY: Final = "private heavy"
SPOT_LIMITS: Final = {PUBLIC_LIGHT: 200, PUBLIC_HEAVY: 10, PRIVATE_LIGHT: 50, PRIVATE_HEAVY: 10}
"""Calls a second: public ones of an address, private ones of an account, whatever keys it has."""
_BAD_SIGNATURE: Final = "Invalid signature"


class Door:
    """Knows every account's secret.

    `wall_ms` tells the real time: a client whose own clock is right may sign by it even where the exchange plays a
    market of another day. Without it, only the exchange's own time counts.
    """

    def __init__(
        self, accounts: Accounts, *, wall_ms: Callable[[], int] | None = None, has_limits: bool = True
    ) -> None:
        self._accounts = accounts
        self._wall_ms = wall_ms
        self._has_limits = has_limits
        self.skew_ms: Callable[[], int] = lambda: 0
        """How far the clock that signatures are measured by is ahead: a fault."""
        self._second = 0
        self._counts: dict[tuple[str, str], int] = {}

    def admit(self, request: Request, now_ms: int) -> Account:
        """Return the account that signed a request.

        Raises:
            Refusal: nobody did, or not now.

        """
        account = self._accounts.by_key(request.headers.get(KEY.lower(), ""))
        if account is None:
            raise Refusal(UNAUTHORIZED, "Invalid key", UNAUTHORIZED)
        headers = request.headers
        if not is_signed(Secret(account.secret), request.method, request.path, request.query, request.body, headers):
            raise Refusal(UNAUTHORIZED, _BAD_SIGNATURE, UNAUTHORIZED)
        match self._freshness(
            request.headers.get(TIMESTAMP.lower(), ""), request.headers.get(RECV_WINDOW.lower()), now_ms
        ):
            case Freshness.FRESH:
                return account
            case Freshness.STALE:
                raise Refusal(TIMED_OUT, "signTimestamp is older than recvWindow", TIMED_OUT)
            case Freshness.AHEAD:
                raise Refusal(BAD_REQUEST, "signTimestamp is more than 1 s ahead", BAD_REQUEST)
            case Freshness.UNREADABLE:
                raise Refusal(BAD_REQUEST, "signTimestamp or recvWindow is not a number", BAD_REQUEST)

    def admit_socket(self, key: str, timestamp: str, signature: str, now_ms: int) -> Account | None:
        """Return the account whose key and signature a private socket has shown, or None."""
        account = self._accounts.by_key(key)
        if account is None or not is_websocket_signed(Secret(account.secret), timestamp, signature):
            return None
        return account if self._freshness(timestamp, None, now_ms) is Freshness.FRESH else None

    def count(self, who: str, group: str, limit: int, now_s: float) -> None:
        """Count a call of a group.

        Raises:
            Refusal: `who` has made `limit` calls of the group in this second already.

        """
        if not self._has_limits:
            return
        if int(now_s) != self._second:
            self._second = int(now_s)
            self._counts.clear()
        done = self._counts[who, group] = self._counts.get((who, group), 0) + 1
        if done > limit:
            raise Refusal(TOO_MANY, f"Too many requests: more than {limit} per second of {group} calls", TOO_MANY)

    def _freshness(self, timestamp: str, window: str | None, now_ms: int) -> Freshness:
        headers = {TIMESTAMP: timestamp} if window is None else {TIMESTAMP: timestamp, RECV_WINDOW: window}
        skew_ms = self.skew_ms()
        by_ours = freshness(headers, now_ms + skew_ms)
        if by_ours is Freshness.FRESH or self._wall_ms is None:
            return by_ours
        by_wall = freshness(headers, self._wall_ms() + skew_ms)
        return by_wall if by_wall is Freshness.FRESH else by_ours
