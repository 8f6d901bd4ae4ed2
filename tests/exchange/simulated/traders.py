"""Clients of a simulated exchange without sockets, for the tests of its private half."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode
from typing import Any, cast
from urllib.parse import urlencode

import msgspec

from bot.core.instrument import ATOMS
from bot.exchange.simulated.accounts import Account, Accounts, AccountType, Funding
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.events import MarketEvent
from bot.exchange.simulated.private_session import PrivateSession
from bot.exchange.simulated.replies import Request
from bot.exchange.simulated.spot_desk import SpotTerms
from bot.exchange.simulated.spot_private import SpotExchange
from bot.exchange.simulated.venue import Topic, Venue
from tests.exchange.simulated.builders import BTC, START_NS, Json, instrument, parsed, snapshot

MS_NS = 1_000_000
DELAY_NS = 5 * MS_NS
FUNDS = {"USDT": 1_000 * ATOMS, "BTC": 10 * ATOMS}


def signature(secret: str, method: str, path: str, text: str) -> str:
    return b64encode(hmac.digest(secret.encode(), f"{method}\n{path}\n{text}".encode(), hashlib.sha256)).decode()


class Exchange:
    """The spot half of an exchange with two clients; bids of 1 and asks of 1.02, a lot of 0.0001 BTC."""

    def __init__(self, *symbols: str, terms: SpotTerms | None = None, has_limits: bool = False, **bounds: int) -> None:
        self.wanted: set[Topic] = set()
        listed = [msgspec.structs.replace(instrument(symbol), **bounds) for symbol in symbols or (BTC,)]
        self.venue = Venue(listed, START_NS)
        self.accounts = Accounts()
        self.door = Door(self.accounts, has_limits=has_limits)
        self.spot = SpotExchange(self.venue, self.accounts, self.door, terms or SpotTerms(), self.wanted)
        funds = {**FUNDS, **{symbol.split("_")[0]: 10 * ATOMS for symbol in symbols}}
        self.ann, self.bob = (
            self.accounts.open(Funding(name, f"secret of {name}", funds, {}), START_NS) for name in ("ann", "bob")
        )
        self.arrived_s = 0.0
        for symbol in symbols or (BTC,):
            self.apply(snapshot(symbol=symbol, bids=[(100, 50_000)], asks=[(102, 50_000)]))

    def apply(self, *events: MarketEvent) -> None:
        for event in events:
            self.spot.apply(event)

    def later(self, ms: float) -> None:
        """Let time pass."""
        self.spot.advance(self.venue.time_ns + int(ms * MS_NS))

    def request(
        self, account: Account, method: str, path: str, params: Json | None = None, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        """Send a signed request; return status and answer."""
        query = urlencode(params or {})
        sent = b"" if body is None else msgspec.json.encode(body)
        stamp = headers.pop("stamp", str(self.venue.time_ms))
        if sent:
            text = f"requestBody={sent.decode()}&signTimestamp={stamp}"
        else:
            pairs = sorted([*(params or {}).items(), ("signTimestamp", stamp)])
            text = urlencode(pairs).replace("+", "%20")
        signed = {
            "key": account.key,
            "signtimestamp": stamp,
            "signature": signature(account.secret, method, path, text),
            **headers,
        }
        request = Request(method, path, query, signed, sent, self.arrived_s, "127.0.0.1")
        reply = self.spot.answer(request)
        return reply.status, parsed(reply.body)

    def ask(self, account: Account, method: str, path: str, params: Json | None = None, body: Any = None) -> Any:
        """Send a request that must be answered."""
        status, answer = self.request(account, method, path, params, body)
        assert status == 200, answer
        return answer

    def refused(self, account: Account, method: str, path: str, params: Json | None = None, body: Any = None) -> int:
        """Send a request that must be refused; return the code."""
        status, answer = self.request(account, method, path, params, body)
        assert status == 400, answer
        assert answer.keys() == {"code", "message"}
        return cast("int", answer["code"])

    def place(self, account: Account, side: str, **fields: Any) -> str:
        """Place an order; return its id."""
        return cast("str", self.ask(account, "POST", "/orders", body={"symbol": BTC, "side": side, **fields})["id"])

    def limit(self, account: Account, side: str, price: str, quantity: str, **fields: Any) -> str:
        return self.place(account, side, type="LIMIT", price=price, quantity=quantity, **fields)

    def order(self, account: Account, order_id: str) -> Json:
        return cast("Json", self.ask(account, "GET", f"/orders/{order_id}"))

    def state(self, account: Account, order_id: str) -> str:
        return cast("str", self.order(account, order_id)["state"])

    def money(self, account: Account, currency: str) -> tuple[str, str]:
        """Return (available, hold)."""
        (account_row,) = self.ask(account, "GET", "/accounts/balances", {"accountType": "SPOT"})
        (row,) = (row for row in account_row["balances"] if row["currency"] == currency)
        return row["available"], row["hold"]

    def is_balanced(self) -> bool:
        """Return whether no atom was made or lost, and every frozen one is some order's."""
        held = {
            (account, currency): wallet.hold_atoms
            for account in self.accounts.clients
            for currency, wallet in account.of_type(AccountType.SPOT)
            if wallet.hold_atoms
        }
        reserved: dict[tuple[Account, str], int] = {}
        for account in self.accounts.clients:
            for order in self.spot.desk.folder(account).living.values():
                traded = self.spot.desk.instrument(order.symbol)
                key = account, traded.quote if order.side == "BUY" else traded.base
                reserved[key] = reserved.get(key, 0) + order.reserved_atoms
        return set(self.accounts.totals().values()) == {0} and held == reserved


class Listener:
    """A private connection that is told what its account's orders do."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.session = exchange.spot.session(is_private=True)
        assert isinstance(self.session, PrivateSession)

    def say(self, frame: Any) -> list[Json]:
        """Send a frame; return the answers."""
        text = frame if isinstance(frame, str) else msgspec.json.encode(frame).decode()
        answers = [parsed(answer) for answer in self.session.handle(text)]
        self.exchange.wanted |= set(self.session.topics)
        return answers

    def authenticate(self, account: Account, *, stamp: Any = None, secret: str | None = None) -> Json:
        stamp = self.exchange.venue.time_ms if stamp is None else stamp
        signed = signature(secret or account.secret, "GET", "/ws", f"signTimestamp={stamp}")
        params = {"key": account.key, "signTimestamp": stamp, "signature": signed}
        (answer,) = self.say({"event": "subscribe", "channel": ["auth"], "params": params})
        return answer

    def listen(self, account: Account, *channels: str) -> Listener:
        self.authenticate(account)
        for channel in channels or ("orders", "balances"):
            self.say({"event": "subscribe", "channel": [channel], "symbols": ["all"]})
        return self

    def heard(self) -> list[Json]:
        """Return the rows told since the last call, in order, each with its channel."""
        said = [publication for publication in self.exchange.spot.take() if publication[:2] in self.session.topics]
        frames = [parsed(publication.payload) for publication in said]
        return [{"channel": frame["channel"], **row} for frame in frames for row in frame["data"]]
