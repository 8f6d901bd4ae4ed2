"""What a live account holds before the bot's first order on it: where its books begin."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from actors.kill import Access, open_access
from bot.core import messages as m
from bot.exchange.network import Network
from bot.exchange.poloniex.accounts import futures_seen, spot_seen
from bot.exchange.poloniex.client import TRIES, try_again
from bot.exchange.transport import Backoff

REASON: Final = "there before the first session"


@dataclass(frozen=True, slots=True)
class Opening:
    """Cash of the wallets in use, and the other coins in them."""

    cash_atoms: int
    """All wallets together."""
    futures_cash_atoms: int | None
    """None where the futures wallet is not in use."""
    coins: tuple[tuple[m.Wallet, str, int], ...]
    """(wallet, coin, atoms): nobody's, and never sold."""

    def flows(self, ts_ns: int) -> list[m.ExternalFlow]:
        """Return what tells the books of the coins."""
        return [
            m.ExternalFlow(ts_ns=ts_ns, wallet=wallet, currency=coin, atoms=atoms, reason=REASON)
            for wallet, coin, atoms in self.coins
        ]


async def read_opening(access: Access, network: Network, quote: str, backoff: Backoff) -> Opening:
    """Ask the exchange. Positions that are open already are left to the reconciliation: somebody must look at them.

    Raises:
        ExchangeError: it did not say, however often it was asked.

    """

    async def read() -> list[m.AccountSeen]:
        seen: list[m.AccountSeen] = []
        async with AsyncExitStack() as stack:
            exchange = await open_access(stack, access, network)
            if exchange.spot is not None:
                seen.append(spot_seen(0, await exchange.spot.balances(), (), (), {}))
            if exchange.futures is not None:
                seen.append(futures_seen(0, await exchange.futures.balance(), (), ()))
        return seen

    seen = await try_again(read, TRIES, backoff)
    cash = {each.market: each.balances.get(quote, 0) for each in seen}
    return Opening(
        cash_atoms=sum(cash.values()),
        futures_cash_atoms=cash.get("futures"),
        coins=tuple(
            (each.market, coin, atoms)
            for each in seen
            for coin, atoms in sorted(each.balances.items())
            if coin != quote and atoms
        ),
    )
