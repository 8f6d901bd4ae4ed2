"""Cancels everything at the exchange, from outside of the daemon, and looks there whether that is true.

It has connections of its own, uses no actor, no journal and no state of the bot, and works while a daemon hangs or is
gone. What counts is what the exchange lists afterwards, not what was sent.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final, Literal, TypeVar

import msgspec
import trio

from bot.config import Settings
from bot.core.instrument import Side
from bot.core.text import safe_text
from bot.errors import BotError, ExchangeError
from bot.exchange.network import HttpPort, Network
from bot.exchange.poloniex import futures_wire as fw
from bot.exchange.poloniex.futures_client import FuturesClient
from bot.exchange.poloniex.futures_codec import FuturesInstrument
from bot.exchange.poloniex.limits import Lane, RateLimits
from bot.exchange.poloniex.outcome import Accepted, Outcome, Refused
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.poloniex.spot_client import SpotClient

log: Final = logging.getLogger(__name__)

CONNECT_TIMEOUT_S: Final = 3.0
REQUEST_TIMEOUT_S: Final = 5.0
RETRY_S: Final = 0.5
SETTLE_S: Final = 1.5
"""Nothing works only if nothing worked twice, so far apart: what a daemon sent last has arrived by then."""
KILL_TIMEOUT_S: Final = 45.0
BOOK_LEVELS: Final = 20
DEPTH_SHARE: Final = 5
"""A position is closed in slices of at most this part of the visible depth: a fifth."""
_HUNDRED: Final = 100

T = TypeVar("T")
Wallets = Sequence[Literal["spot", "futures"]]


@dataclass(frozen=True, slots=True)
class Access:
    """Where to cancel, and with which key."""

    credentials: Credentials
    rest_url: str
    futures_rest_url: str
    wallets: Wallets
    user_agent: str

    @classmethod
    def of(cls, settings: Settings, credentials: Credentials, user_agent: str) -> Access:
        """Return what the settings say."""
        return cls(
            credentials, settings.exchange.rest_url, settings.live.futures_rest_url, settings.live.wallets, user_agent
        )


class KillRow(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of thing at the exchange, and what became of it."""

    what: str
    ended: int
    """Orders that the exchange said it cancels, or contracts closed."""
    left: int | None
    """What it lists at the end; None: it could not be asked."""
    trouble: str = ""
    """The last thing that went wrong, fit for a terminal."""


@dataclass(slots=True)
class _Kind:
    """One list of orders: how to cancel all of it, and how to count it."""

    what: str
    cancel: Callable[[], Awaitable[int | str]]
    """Returns how many are ended by it, or what went wrong."""
    count: Callable[[], Awaitable[int]]
    ended: int = 0
    left: int | None = None
    trouble: str = ""

    @property
    def row(self) -> KillRow:
        return KillRow(what=self.what, ended=self.ended, left=self.left, trouble=self.trouble)

    async def send(self) -> None:
        """Ask for all to be cancelled, once."""
        try:
            ended = await self.cancel()
        except BotError as error:
            ended = safe_text(str(error), 200)
        if isinstance(ended, str):
            self.trouble = ended
        else:
            self.ended += ended

    async def ask(self) -> None:
        """Ask how many there are."""
        try:
            self.left = await self.count()
        except BotError as error:
            self.left, self.trouble = None, safe_text(str(error), 200)

    async def end(self) -> None:
        """Cancel until none was listed twice in a row, for as long as that takes."""
        await self.send()
        zeros = 0
        while True:
            await self.ask()
            if self.left == 0:
                zeros += 1
                if zeros > 1:
                    return
                await trio.sleep(SETTLE_S)
                continue
            zeros = 0
            await trio.sleep(RETRY_S)
            await self.send()


async def _ended(asked: Awaitable[Outcome[tuple[T, ...]]]) -> int | str:
    outcome = await asked
    if isinstance(outcome, Accepted):
        return len(outcome.value)
    return f"refused: {outcome.code} {outcome.text}" if isinstance(outcome, Refused) else outcome.reason


@dataclass(slots=True)
class Exchange:
    """The two wings of the exchange, as far as they are in use."""

    spot: SpotClient | None
    futures: FuturesClient | None
    kinds: list[_Kind] = field(default_factory=list[_Kind])

    def __post_init__(self) -> None:
        if (spot := self.spot) is not None:

            async def count() -> int:
                return len(await spot.open_orders(lane=Lane.CANCEL))

            async def count_smart() -> int:
                return len(await spot.open_smart_orders())

            self.kinds.append(_Kind("spot orders", lambda: _ended(spot.cancel_all(None)), count))
            self.kinds.append(
                _Kind("spot conditional orders", lambda: _ended(spot.cancel_all_smart(None)), count_smart)
            )
        if (futures := self.futures) is not None:

            async def count_futures() -> int:
                return len(await futures.open_orders())

            self.kinds.append(_Kind("futures orders", lambda: _ended(futures.cancel_all_orders(None)), count_futures))


async def open_access(stack: AsyncExitStack, access: Access, network: Network) -> Exchange:
    """Return clients of what `access` names; they live as long as `stack`."""
    limits = RateLimits()

    async def http(url: str) -> HttpPort:
        return await stack.enter_async_context(
            network.open_http(
                url,
                connect_timeout_s=CONNECT_TIMEOUT_S,
                request_timeout_s=REQUEST_TIMEOUT_S,
                user_agent=access.user_agent,
            )
        )

    spot = futures = None
    if "spot" in access.wallets:
        spot = SpotClient(await http(access.rest_url), credentials=access.credentials, limits=limits, tries=1)
    if "futures" in access.wallets:
        futures = FuturesClient(
            await http(access.futures_rest_url), credentials=access.credentials, limits=limits, tries=1
        )
    return Exchange(spot, futures)


async def send_cancels(access: Access, network: Network) -> None:
    """Ask once for everything to be cancelled; what goes wrong is logged. For an end that cannot wait."""
    async with AsyncExitStack() as stack:
        exchange = await open_access(stack, access, network)
        async with trio.open_nursery() as nursery:
            for kind in exchange.kinds:
                nursery.start_soon(kind.send)
        for kind in exchange.kinds:
            log.warning("last cancel of all %s: %s", kind.what, kind.trouble or f"{kind.ended} cancelled")


async def kill(
    access: Access,
    network: Network,
    *,
    timeout_s: float = KILL_TIMEOUT_S,
    flatten: Flatten | None = None,
) -> tuple[KillRow, ...]:
    """Cancel everything, see that nothing is left, then close perpetuals if `flatten` says how; return what became."""
    async with AsyncExitStack() as stack:
        exchange = await open_access(stack, access, network)
        with trio.move_on_after(timeout_s):
            async with trio.open_nursery() as nursery:
                for kind in exchange.kinds:
                    nursery.start_soon(kind.end)
        rows = [kind.row for kind in exchange.kinds]
        if flatten is not None and exchange.futures is not None:
            rows.append(await flatten.close_all(exchange.futures))
        return tuple(rows)


def is_done(rows: Sequence[KillRow]) -> bool:
    """Return whether the exchange lists nothing any more."""
    return all(row.left == 0 for row in rows)


@dataclass(frozen=True, slots=True)
class Flatten:
    """How perpetuals are closed: reduce-only, at once or not at all, no further than `collar_pct` from the mark.

    No coin on spot is ever sold here: without the journal nobody knows which of them the bot bought.
    """

    collar_pct: Decimal
    rounds: int

    async def close_all(self, futures: FuturesClient) -> KillRow:
        """Close in slices, `rounds` times at most; return the contracts closed and those left."""
        first: int | None = None
        left: int | None = None
        trouble = ""
        for _ in range(self.rounds):
            try:
                positions = [row for row in await futures.positions() if row.contracts]
                left = sum(row.contracts for row in positions)
                first = left if first is None else first
                if not positions:
                    break
                instruments = await futures.instruments()
                for row in positions:
                    trouble = await self._close_slice(futures, instruments[row.symbol], row) or trouble
            except ExchangeError as error:
                left, trouble = None, safe_text(str(error), 200)
            await trio.sleep(RETRY_S)
        else:
            left = await _contracts_left(futures)
        return KillRow(what="futures contracts", ended=(first or 0) - (left or 0), left=left, trouble=trouble)

    async def _close_slice(self, futures: FuturesClient, instrument: FuturesInstrument, row: fw.PositionRow) -> str:
        """Send one slice of a position; return what went wrong with it."""
        side = Side.SELL if row.signed_contracts > 0 else Side.BUY
        mark = await futures.mark_price(row.symbol)
        book = await futures.order_book(row.symbol, limit=BOOK_LEVELS)
        levels = book.bids if side is Side.SELL else book.asks
        depth = sum(level.contracts for level in levels)
        lot = instrument.lot_contracts
        size = min(row.contracts, max(lot, depth // DEPTH_SHARE // lot * lot))
        order = fw.FuturesOrder(
            client_id=f"k{secrets.token_hex(6)}",
            symbol=row.symbol,
            side=side,
            order_type="LIMIT",
            contracts=fw.Contracts(size),
            price=self._worst_price(instrument, mark, side),
            margin_mode=row.margin_mode,
            position_side=row.position_side,
            is_reduce_only=row.position_side == "BOTH",
            time_in_force="IOC",
        )
        outcome = await futures.place_order(order, instrument, Lane.CLOSE)
        if isinstance(outcome, Accepted):
            return ""
        return f"{row.symbol}: {outcome.text if isinstance(outcome, Refused) else outcome.reason}"

    def _worst_price(self, instrument: FuturesInstrument, mark: Decimal, side: Side) -> Decimal:
        """Return the furthest price that is taken, rounded towards the mark."""
        away = mark * self.collar_pct / _HUNDRED
        worst = mark - away if side is Side.SELL else mark + away
        rounding = ROUND_CEILING if side is Side.SELL else ROUND_FLOOR
        return (worst / instrument.tick_size).to_integral_value(rounding) * instrument.tick_size


async def _contracts_left(futures: FuturesClient) -> int | None:
    try:
        return sum(row.contracts for row in await futures.positions())
    except ExchangeError:
        return None
