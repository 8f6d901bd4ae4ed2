"""Markets that were taken out of the settings while something was left there: they are watched, not traded."""

from __future__ import annotations

import pytest
import trio

from actors.clock import MarketClock, WallClock
from actors.feed import Feed, Market
from actors.ports import Ports
from actors.trader import Terms, Trader
from bot.config import load_settings
from bot.control.view import FeedStatus
from bot.core import messages as m
from bot.core.orders import OrderState
from bot.core.secret import Secret
from bot.errors import SettingsError
from bot.exchange.network import INTERNET
from bot.exchange.poloniex.client import PublicClient
from bot.exchange.poloniex.signing import Credentials
from bot.exchange.simulated.generator import GeneratedMarket
from bot.exchange.simulated.server import open_exchange
from bot.storage.base import GENESIS, Record, sealed
from bot.storage.memory import MemoryJournal
from bot.storage.replay import encode_fact
from tests.actors.test_futures_feed import SETTINGS, Listening
from tests.exchange.simulated.builders import START_NS
from tests.support.builders import BTC, ETH, NOW_NS, approved, buy, event, fill, listed, session

PERP = "BTC_USDT_PERP"
GONE = "GONE_USDT"


async def heard(*, symbols: tuple[str, ...], left: tuple[str, ...], is_quoted: bool) -> tuple[Listening, FeedStatus]:
    """Let a feed run until it is ready and, with `is_quoted`, has said a price of what is left."""
    office, status, ready = Listening(), FeedStatus(), trio.Event()
    async with (
        open_exchange(GeneratedMarket((BTC, ETH), 1, START_NS), speed=20.0) as exchange,
        INTERNET.open_http(exchange.rest_url, connect_timeout_s=5, request_timeout_s=5, user_agent="test") as http,
    ):
        market = Market(exchange.ws_url, symbols, dict.fromkeys(symbols, (60 * m.SECOND_NS,)), left)
        feed = Feed(
            market,
            PublicClient(http),
            SETTINGS,
            WallClock(),
            office,
            status,
            connect_timeout_s=5,
            on_ready=ready.set,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(feed.run)
            with trio.fail_after(30):
                await ready.wait()
                exchange.start()
                while is_quoted and not any(isinstance(each, m.Quote) and each.symbol == ETH for each in office.said):
                    await trio.sleep(0.02)
            nursery.cancel_scope.cancel()
    return office, status


async def test_a_market_in_which_something_is_left_has_a_price() -> None:
    office, status = await heard(symbols=(BTC,), left=(ETH, GONE), is_quoted=True)
    said = [each.instrument.symbol for each in office.said if isinstance(each, m.InstrumentListed)]
    assert said == status.symbols == [BTC, ETH]


async def test_a_feed_of_what_is_left_lives_although_nothing_of_it_is_listed() -> None:
    _, status = await heard(symbols=(), left=(GONE,), is_quoted=False)
    assert (status.state, status.symbols) == ("live", [])


def journal(symbol: str, *, is_open: bool) -> list[Record]:
    """Return what is written of a bought lot, and of an order that may still live."""
    first, second = buy(1, 100, symbol=symbol), buy(1, 100, number=2, symbol=symbol)
    facts: list[m.Journalled] = [session(), listed(symbol, is_perp=symbol == PERP), approved(first)]
    facts += [fill(first, 1, 100), event(first, OrderState.FILLED, 1)]
    facts += [approved(second)] if is_open else []
    return list(sealed((0, GENESIS), [(fact.ts_ns, encode_fact(fact)) for fact in facts]))


def trader(records: list[Record], *, is_live: bool = True, symbols: tuple[str, ...] = (BTC,)) -> Trader:
    terms = Terms(
        settings=load_settings([], {}, ['live.wallets=["spot"]']),
        account="a",
        symbols=symbols,
        rest_url="",
        ws_url="",
        futures_rest_url="there",
        futures_ws_url="there",
        credentials=Credentials(Secret("key"), Secret("secret")) if is_live else None,
    )
    return Trader(terms, Ports(MemoryJournal(), MarketClock(NOW_NS)), records)


@pytest.mark.parametrize("is_open", [True, False])
def test_what_is_held_and_what_is_ordered_is_left_behind(is_open: bool) -> None:
    def watched(symbol: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
        return [(wing.symbols, wing.left) for wing in trader(journal(symbol, is_open=is_open))._wings]

    assert watched(BTC) == [((BTC,), ())]
    assert watched(ETH) == [((BTC,), (ETH,))]
    assert watched(PERP) == [((BTC,), ()), ((), (PERP,))]


@pytest.mark.parametrize("is_open", [True, False])
async def test_what_is_left_in_a_wallet_that_is_not_traded_with_is_an_error_that_names_both(is_open: bool) -> None:
    with pytest.raises(SettingsError, match=r"live\.wallets lacks 'futures', where something .* in BTC_USDT_PERP: add"):
        await trader(journal(PERP, is_open=is_open)).run()
    trader(journal(PERP, is_open=is_open), is_live=False)._mind_what_is_left()


def test_a_market_that_is_listed_no_more_is_known_from_the_journal_and_closed() -> None:
    known = trader(journal(ETH, is_open=False))._delisted(ETH)
    assert (known.symbol, known.is_open) == (ETH, False)
