"""Small contracts, positions and clearing houses for the tests of the simulated futures exchange."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import msgspec

from bot.core.instrument import ATOM_SCALE, ATOMS, Instrument
from bot.core.secret import Secret
from bot.exchange.poloniex.signing import Credentials, sign
from bot.exchange.simulated.accounts import Accounts, AccountType, Funding
from bot.exchange.simulated.door import Door
from bot.exchange.simulated.events import BookSnapshot, MarketTrade, TakerSide
from bot.exchange.simulated.futures_instruments import Contract, RiskTier
from bot.exchange.simulated.futures_positions import MarginMode, Position, PosSide
from bot.exchange.simulated.futures_session import private_channel
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.ports import WingParts
from bot.exchange.simulated.replies import Request
from bot.exchange.simulated.spot_desk import SpotTerms
from bot.exchange.simulated.spot_private import SpotExchange
from bot.exchange.simulated.venue import Topic, Venue
from tests.exchange.simulated.builders import instrument

PERP = "BTC_USDT_PERP"
NOW_NS = 1_700_000_000_000_000_000
USDT = ATOMS


def keys(text: str) -> set[str]:
    """Return the names in a text."""
    return set(text.split())


def usdt(text: str) -> int:
    """Return a sum in atoms."""
    sign = -1 if text.startswith("-") else 1
    whole, _, fraction = text.lstrip("-").partition(".")
    return sign * (int(whole) * ATOMS + int(fraction.ljust(ATOM_SCALE, "0") or "0"))


def contract(symbol: str = PERP, *, contract_scale: int = 3, tiers: tuple[RiskTier, ...] | None = None) -> Contract:
    """Return a contract of 0.001 coins with a tick of 0.01 USDT: 1 tick of 1 contract is 0.00001 USDT."""
    base, quote = symbol.split("_")[:2]
    made = Contract(
        instrument=Instrument(
            symbol=symbol,
            base=base,
            quote=quote,
            price_scale=2,
            quantity_scale=contract_scale,
            qty_lots_min=1,
            notional_atoms_min=0,
        )
    )
    return made if tiers is None else Contract(instrument=made.instrument, tiers=tiers)


def position(
    contracts: int = 0,
    price: int = 60_000,
    *,
    leverage: int = 10,
    margin_mode: MarginMode = MarginMode.CROSS,
    pos_side: PosSide = PosSide.BOTH,
    of: Contract | None = None,
) -> Position:
    """Return a position opened at a price in whole USDT."""
    made = Position(contract=of or contract(), pos_side=pos_side, margin_mode=margin_mode, leverage=leverage, id=1)
    if contracts:
        made.increase(contracts, price * 100)
    return made


class _Everything(Container[Topic]):
    def __contains__(self, topic: object) -> bool:
        return True


class Floor:
    """A futures wing with a spot market beside it, clients that sign, and books to set. One tick is 0.01 USDT."""

    def __init__(
        self, *, clients: int = 3, is_open: bool = True, symbols: tuple[str, ...] = (PERP,), **bounds: int
    ) -> None:
        self.accounts = Accounts()
        self.door = Door(self.accounts, has_limits=False)
        perps = [msgspec.structs.replace(contract(symbol).instrument, **bounds) for symbol in symbols]
        spot_venue = Venue([instrument()], NOW_NS)
        wanted = _Everything()
        self.spot = SpotExchange(spot_venue, self.accounts, self.door, SpotTerms(), wanted)
        self.wing = FuturesWing(WingParts(self.accounts, self.door, self.spot.desk, wanted, tuple(perps), NOW_NS))
        for number in range(clients):
            self.accounts.open(Funding(f"key{number}", "secret", {}, {"USDT": 10_000 * USDT}), NOW_NS)
        self.wing.take()
        for symbol in symbols if is_open else ():
            self.book(symbol=symbol)
        self.wing.take()

    def book(
        self, bid: int = 59_999, ask: int = 60_001, *, size: int = 1_000, at_s: float = 0.0, symbol: str = PERP
    ) -> None:
        """Let the market quote `size` contracts at a bid and an ask, in whole USDT."""
        at_ns = NOW_NS + int(at_s * 10**9)
        self.wing.apply(BookSnapshot(at_ns, symbol, ((bid * 100, size),), ((ask * 100, size),)))

    def trade(self, price: int, contracts: int, taker_side: TakerSide, *, at_s: float = 0.0) -> None:
        """Let the market trade at a price in whole USDT."""
        at_ns = NOW_NS + int(at_s * 10**9)
        self.wing.apply(MarketTrade(at_ns, PERP, "1", price * 100, contracts, taker_side))

    def request(self, method: str, path: str, query: str = "", body: bytes = b"", *, number: int | None = 0) -> Request:
        headers: dict[str, str] = {}
        if number is not None:
            credentials = Credentials(Secret(f"key{number}"), Secret("secret"))
            headers = sign(credentials, method, path, query, body, self.wing.feed.time_ms)
        lower = {name.lower(): value for name, value in headers.items()}
        return Request(method, path, query, lower, body, 0.0, "1.2.3.4")

    def ask(self, method: str, path: str, query: str = "", body: Any = None, *, number: int | None = 0) -> Any:
        """Return the whole envelope of an answer; `path` without the `/v3`."""
        sent = b"" if body is None else msgspec.json.encode(body)
        reply = self.wing.answer(self.request(method, f"/v3{path}", query, sent, number=number))
        answer = msgspec.json.decode(reply.body)
        assert answer.keys() == {"code", "msg", "data"}
        assert reply.status == (answer["code"] if answer["code"] in (401, 404, 405, 408) else 200)
        return answer

    def get(self, path: str, query: str = "", *, number: int | None = 0) -> Any:
        answer = self.ask("GET", path, query, number=number)
        assert answer["code"] == 200, answer
        assert answer["msg"] == "Success"
        return answer["data"]

    def do(self, method: str, path: str, body: Any = None, *, number: int = 0) -> Any:
        answer = self.ask(method, path, "", body, number=number)
        assert answer["code"] == 200, answer
        return answer["data"]

    def refused(self, method: str, path: str, body: Any = None, query: str = "", *, number: int | None = 0) -> int:
        answer = self.ask(method, path, query, body, number=number)
        assert answer["data"] is None
        assert answer["msg"]
        return answer["code"]

    def order(self, side: str, contracts: int, price: int | None = None, *, number: int = 0, **further: Any) -> str:
        """Place an order, at the market without a price in whole USDT; return its id."""
        return self.do("POST", "/trade/order", self.order_body(side, contracts, price, **further), number=number)[
            "ordId"
        ]

    @staticmethod
    def order_body(side: str, contracts: int, price: int | None = None, **further: Any) -> dict[str, Any]:
        kind = {"type": "MARKET"} if price is None else {"type": "LIMIT", "px": str(price)}
        return {"symbol": PERP, "side": side, "sz": str(contracts), **kind, **further}

    def state(self, order_id: str, *, number: int = 0) -> tuple[str, str, str]:
        """Return an order's state, filled contracts and reason."""
        row = self.get("/trade/order/details", f"ordId={order_id}", number=number)
        return row["state"], row["execQty"], row["cancelReason"]

    def position(self, *, number: int = 0) -> tuple[str, str] | None:
        """Return side and size of the only position, or None."""
        rows = self.get("/trade/position/opens", number=number)
        return (rows[0]["side"], rows[0]["qty"]) if rows else None

    def news(self, channel: str, *, number: int = 0) -> list[Any]:
        """Return the rows of a client's channel since the last call; all other news is dropped."""
        name = private_channel(channel, self.accounts.clients[number])
        frames = [msgspec.json.decode(each.payload) for each in self.wing.take() if each.channel == name]
        assert all(frame["channel"] == channel for frame in frames)
        return [row for frame in frames for row in frame["data"]]

    def worth_atoms(self) -> int:
        """Return what all clients' futures and the exchange's own accounts have, the market's side at mark too."""
        clients = sum(self.wing.desk.standing(account).equity for account in self.accounts.clients)
        held = sum(
            position.unrealised_atoms(self.wing.feed.markets[symbol].prices.mark_ticks or 0)
            for member in self.wing.desk.clearing.members.values()
            for (symbol, _), position in member.positions.items()
        )
        own = (self.accounts.house, self.accounts.fees, self.accounts.insurance)
        wallets = sum(one.wallet(AccountType.FUTURES, "USDT").total_atoms for one in own)
        return clients - held + wallets
