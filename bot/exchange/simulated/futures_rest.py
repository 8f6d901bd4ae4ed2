"""The contracts' REST API, version 3: which call a request is, whether it may be made, and its answer.

Always the envelope. HTTP 200 with a code for what the exchange refuses; the status of its own for what never reaches
it: a path that is not served, a bad signature (401 was seen in production), too many calls.
"""

from __future__ import annotations

from typing import Final

from bot.exchange.simulated.door import Door
from bot.exchange.simulated.futures_account_calls import ACCOUNT_ROUTES
from bot.exchange.simulated.futures_calls import Call, Exchange, Route, Routes, envelope
from bot.exchange.simulated.futures_market_calls import MARKET_ROUTES
from bot.exchange.simulated.futures_orders import NOT_FOUND, Refusal
from bot.exchange.simulated.futures_trade_calls import TRADE_ROUTES
from bot.exchange.simulated.replies import OK, Reply, Request
from bot.exchange.simulated.replies import Refusal as DoorRefusal

ROUTES: Final[Routes] = {**MARKET_ROUTES, **TRADE_ROUTES, **ACCOUNT_ROUTES}
"""Every call that is served."""
METHOD_NOT_ALLOWED: Final = 405
_PATHS: Final = frozenset(path for _, path in ROUTES)


def answer(exchange: Exchange, door: Door, request: Request) -> Reply:
    """Return the exchange's answer to a request."""
    path = request.path.rstrip("/")
    route = ROUTES.get((request.method, path))
    if route is None:
        if path in _PATHS:
            text = f"Method Not Allowed: {request.method[:20]}"
            return envelope(None, METHOD_NOT_ALLOWED, text, METHOD_NOT_ALLOWED)
        return envelope(None, NOT_FOUND, f"Not Found: {path[:100]}", NOT_FOUND)
    try:
        call = _admitted(exchange, door, request, path, route)
        return envelope(route.answer(call))
    except Refusal as refusal:
        return envelope(None, refusal.code, refusal.text, OK)
    except DoorRefusal as refusal:
        return envelope(None, refusal.code, refusal.message, refusal.reply.status)


def _admitted(exchange: Exchange, door: Door, request: Request, path: str, route: Route) -> Call:
    account = None
    who = request.address
    if route.is_private:
        account = door.admit(request, exchange.feed.time_ms)
        who = account.account_id
    group = f"{route.per_second}" if route.shares else f"{request.method} {path}"
    door.count(who, f"futures {group}", route.per_second, request.arrived_s)
    return Call(exchange, account, request.query, request.body)
