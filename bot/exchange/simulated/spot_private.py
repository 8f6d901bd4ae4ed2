"""The spot half of the exchange, behind one door: REST calls, sessions, market events and the clock. A pure machine.

Public calls are answered from the `Venue`, private ones from the desks, after signature, age and limits are checked.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final
from urllib.parse import unquote

from bot.exchange.simulated import rest
from bot.exchange.simulated.accounts import Accounts
from bot.exchange.simulated.codes import METHOD_NOT_ALLOWED
from bot.exchange.simulated.door import (
    PRIVATE_HEAVY,
    PRIVATE_LIGHT,
    PUBLIC_HEAVY,
    PUBLIC_LIGHT,
    SPOT_LIMITS,
    Door,
)
from bot.exchange.simulated.events import MarketEvent
from bot.exchange.simulated.ports import SessionPort
from bot.exchange.simulated.private_session import PrivateSession
from bot.exchange.simulated.replies import OK, Refusal, Reply, Request, encode
from bot.exchange.simulated.session import Session
from bot.exchange.simulated.smart_desk import SmartDesk
from bot.exchange.simulated.spot_accounts import ACCOUNT_ROUTES
from bot.exchange.simulated.spot_calls import Call
from bot.exchange.simulated.spot_desk import SpotDesk, SpotTerms
from bot.exchange.simulated.spot_smart import SMART_ROUTES
from bot.exchange.simulated.spot_trading import TRADING_ROUTES
from bot.exchange.simulated.spot_wallets import WALLET_ROUTES
from bot.exchange.simulated.venue import Publication, Topic, Venue

ROUTES: Final = {**ACCOUNT_ROUTES, **WALLET_ROUTES, **TRADING_ROUTES, **SMART_ROUTES}
_PATHS: Final = frozenset(path for _, path in ROUTES)
_HEAVY_PUBLIC: Final = re.compile(r"markets|markets/[^/]+/trades|markets(/[^/]+)?/ticker24h|(v2/)?currencies(/[^/]+)?")


class SpotExchange:
    """Implements `WingPort` for the spot markets of a venue."""

    def __init__(
        self, venue: Venue, accounts: Accounts, door: Door, terms: SpotTerms, wanted: Container[Topic]
    ) -> None:
        self.venue = venue
        self.desk = SpotDesk(venue, accounts, terms, wanted)
        self.smart = SmartDesk(self.desk)
        self._door = door

    @property
    def symbols(self) -> Container[str]:
        """Return the listed markets."""
        return self.venue.markets.keys()

    @property
    def due_ns(self) -> int | None:
        """Return when a cancel or a kill switch is due next."""
        return self.desk.due_ns

    def apply(self, event: MarketEvent) -> None:
        """Take the next event of the source."""
        self.desk.apply(event)

    def advance(self, now_ns: int) -> None:
        """Let the time be `now_ns`, if that is later; do what is due."""
        self.desk.advance(now_ns)

    def take(self) -> list[Publication]:
        """Return what is to be said since the last call, in order."""
        out, self.desk.out = self.desk.out, []
        return out

    def session(self, *, is_private: bool) -> SessionPort:
        """Return the protocol side of a new connection."""
        return PrivateSession(self.desk, self._door) if is_private else Session(self.venue)

    def answer(self, request: Request) -> Reply:
        """Answer a REST request, public or private."""
        path = request.path.removeprefix("/").removesuffix("/")
        found = _private_path(path)
        try:
            if found is None:
                return self._answer_public(request, path)
            return self._answer_private(request, *found)
        except Refusal as refusal:
            return refusal.reply

    def _answer_public(self, request: Request, path: str) -> Reply:
        group = PUBLIC_HEAVY if _HEAVY_PUBLIC.fullmatch(path) else PUBLIC_LIGHT
        self._door.count(request.address, group, SPOT_LIMITS[group], request.arrived_s)
        return rest.answer(self.venue, request.method, unquote(request.path), request.query)

    def _answer_private(self, request: Request, pattern: str, arg: str) -> Reply:
        route = ROUTES.get((request.method, pattern))
        if route is None:
            raise Refusal(METHOD_NOT_ALLOWED, f"Method Not Allowed: {request.method[:20]}", METHOD_NOT_ALLOWED)
        account = self._door.admit(request, self.venue.time_ms)
        group = PRIVATE_HEAVY if route.is_heavy else PRIVATE_LIGHT
        self._door.count(account.account_id, group, SPOT_LIMITS[group], request.arrived_s)
        call = Call(self.desk, self.smart, account, unquote(arg), request.query, request.body)
        return Reply(OK, encode(route.answer(call)))


def _private_path(path: str) -> tuple[str, str] | None:
    """Return the pattern of a private path and what stands in it for the id, or None."""
    if path in _PATHS:
        return path, ""
    parts = path.split("/")
    for at in range(len(parts) - 1, 0, -1):
        pattern = "/".join((*parts[:at], "*", *parts[at + 1 :]))
        if pattern in _PATHS:
            return pattern, parts[at]
    return None
