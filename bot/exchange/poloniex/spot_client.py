"""Every spot REST call of Poloniex, as a typed method.

Questions are tried again and raise when they fail. Writes never are and never do: they return an `Outcome`, and
`resolve` clears up an unknown one. Connections, limits and signatures are `rest`; reading and checking is `spot_codec`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import chain, repeat
from typing import Final, TypeVar

import msgspec
import trio

from bot.core.text import safe_text
from bot.errors import BadReply, ConnectionLost, NotListed, OrderRefusedHere, RateLimited, ReadRefused
from bot.exchange.network import HttpPort
from bot.exchange.poloniex import spot_codec as codec
from bot.exchange.poloniex import spot_wire as wire
from bot.exchange.poloniex.client import READ_BACKOFF, TRIES
from bot.exchange.poloniex.limits import Lane, RateLimits
from bot.exchange.poloniex.outcome import (
    QUERY_AFTER_S,
    Accepted,
    Doubt,
    Market,
    Outcome,
    RefusalKind,
    Refused,
    Search,
    Unknown,
    Write,
    classify,
    is_not_found,
    search_fence_ms,
)
from bot.exchange.poloniex.rest import Request, RestSession
from bot.exchange.poloniex.server_clock import ServerClock
from bot.exchange.poloniex.signing import RECV_WINDOW_MS, Credentials
from bot.exchange.poloniex.wire import TimestampReply
from bot.exchange.transport import Backoff

OK: Final = 200
NO_KILL_SWITCH: Final = 25020
OPEN_ORDERS_MAX: Final = 2000
SPOT: Final = "SPOT"
SEARCH_BACK_MS: Final = 60_000
"""How long before its fence an order's trades are looked for."""
SEARCH_TRADES: Final = 100
"""More than this many trades since then may hide one, and prove nothing."""
FIRST_PAGE: Final = wire.Page()

T = TypeVar("T")
Accept = Callable[[bytes, Unknown], Outcome[T]]
"""Reads a good answer to a write; the second argument is what to return when it leaves the write unknown."""
OrderRef = wire.OrderRef
by_id = codec.by_id
by_client_id = codec.by_client_id


class SpotClient:
    """One account's view of the spot exchange; without credentials only the public part works.

    Questions raise `ConnectionLost`, `RateLimited`, `ReadRefused` and `BadReply`; anything signed may raise
    `ClockSkew`. A write raises only before anything is sent: `OrderRefusedHere`, `NotListed`, or what reading the rules
    of its market raised; `markets` reads them all beforehand.
    """

    def __init__(
        self,
        http: HttpPort,
        *,
        credentials: Credentials | None = None,
        limits: RateLimits | None = None,
        clock: ServerClock | None = None,
        tries: int = TRIES,
        backoff: Backoff = READ_BACKOFF,
        recv_window_ms: int = RECV_WINDOW_MS,
    ) -> None:
        self._rest = RestSession(
            http,
            Market.SPOT,
            credentials=credentials,
            limits=limits,
            clock=clock,
            tries=tries,
            backoff=backoff,
            recv_window_ms=recv_window_ms,
        )
        self._markets: dict[str, wire.SpotMarket] = {}

    @property
    def clock(self) -> ServerClock:
        """The exchange's clock; run its `keep_measured` beside a client that writes."""
        return self._rest.clock

    # --- public

    async def server_time_ms(self) -> int:
        """Return the exchange's time."""
        return codec.decode(await self._public(wire.TIMESTAMP), TimestampReply).server_time

    async def markets(self) -> dict[str, wire.SpotMarket]:
        """Return every market that can be read, by symbol; orders are checked against these from now on."""
        self._markets = codec.decode_markets(await self._public(wire.MARKETS))
        return dict(self._markets)

    async def market(self, symbol: str) -> wire.SpotMarket:
        """Return one market; orders are checked against it from now on."""
        market = codec.decode_one(await self._public(wire.MARKET, symbol=symbol), wire.SpotMarket)
        self._markets[market.symbol] = market
        return market

    async def currencies(self, *, include_multi_chain: bool = False) -> dict[str, wire.CurrencyRow]:
        """Return all currencies by name."""
        params = {"includeMultiChainCurrencies": include_multi_chain}
        return codec.decode_currencies(await self._public(wire.CURRENCIES, params))

    async def currency(self, currency: str, *, include_multi_chain: bool = False) -> wire.CurrencyRow:
        """Return one currency."""
        params = {"includeMultiChainCurrencies": include_multi_chain}
        rows = codec.decode_currencies(await self._public(wire.CURRENCY, params, currency=currency))
        if currency not in rows:
            raise BadReply(f"GET /currencies/{currency}: another currency", safe_text(" ".join(rows), 100))
        return rows[currency]

    async def coins(self) -> tuple[wire.CoinRow, ...]:
        """Return all coins with their networks."""
        return codec.decode(await self._public(wire.COINS), tuple[wire.CoinRow, ...])

    async def coin(self, coin: str) -> wire.CoinRow:
        """Return one coin with its networks."""
        return codec.decode_one(await self._public(wire.COIN, coin=coin), wire.CoinRow)

    async def prices(self) -> tuple[wire.PriceRow, ...]:
        """Return the last prices of all markets."""
        return codec.decode(await self._public(wire.PRICES), tuple[wire.PriceRow, ...])

    async def price(self, symbol: str) -> wire.PriceRow:
        """Return the last price of one market."""
        return codec.decode_one(await self._public(wire.PRICE, symbol=symbol), wire.PriceRow)

    async def mark_prices(self) -> tuple[wire.MarkPriceRow, ...]:
        """Return the mark prices of all cross-margin markets."""
        return codec.decode(await self._public(wire.MARK_PRICES), tuple[wire.MarkPriceRow, ...])

    async def mark_price(self, symbol: str) -> wire.MarkPriceRow:
        """Return the mark price of one cross-margin market."""
        return codec.decode_one(await self._public(wire.MARK_PRICE, symbol=symbol), wire.MarkPriceRow)

    async def mark_price_components(self, symbol: str) -> wire.MarkPriceComponents:
        """Return what a mark price is made of."""
        body = await self._public(wire.MARK_PRICE_COMPONENTS, symbol=symbol)
        return codec.decode_one(body, wire.MarkPriceComponents)

    async def order_book(self, symbol: str, *, limit: int = 10, scale: Decimal | None = None) -> wire.OrderBook:
        """Return the best levels; `limit` is one of `codec.ORDER_BOOK_LIMITS`, `scale` a price step to add up by."""
        assert limit in codec.ORDER_BOOK_LIMITS
        params = {"limit": limit, "scale": None if scale is None else f"{scale:f}"}
        return codec.decode_order_book(await self._public(wire.ORDER_BOOK, params, symbol=symbol))

    async def candles(
        self,
        symbol: str,
        interval: str,
        *,
        limit: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
    ) -> tuple[wire.SpotCandle, ...]:
        """Return candles, oldest first; the last one may still run."""
        params = {"interval": interval, "limit": limit, "startTime": start_ms, "endTime": end_ms}
        body = await self._public(wire.CANDLES, params, symbol=symbol)
        return codec.decode(body, tuple[wire.SpotCandle, ...])

    async def public_trades(self, symbol: str, *, limit: int | None = None) -> tuple[wire.PublicTrade, ...]:
        """Return everybody's last trades."""
        body = await self._public(wire.PUBLIC_TRADES, {"limit": limit}, symbol=symbol)
        return codec.decode(body, tuple[wire.PublicTrade, ...])

    async def tickers(self) -> tuple[wire.SpotTicker, ...]:
        """Return the last 24 hours of all markets."""
        return codec.decode(await self._public(wire.TICKERS), tuple[wire.SpotTicker, ...])

    async def ticker(self, symbol: str) -> wire.SpotTicker:
        """Return the last 24 hours of one market."""
        return codec.decode_one(await self._public(wire.TICKER, symbol=symbol), wire.SpotTicker)

    async def collaterals(self) -> tuple[wire.CollateralRow, ...]:
        """Return what every currency counts for as collateral."""
        return codec.decode(await self._public(wire.COLLATERALS), tuple[wire.CollateralRow, ...])

    async def collateral(self, currency: str) -> wire.CollateralRow:
        """Return what one currency counts for as collateral."""
        return codec.decode_one(await self._public(wire.COLLATERAL, currency=currency), wire.CollateralRow)

    async def borrow_rates(self) -> tuple[wire.BorrowTier, ...]:
        """Return what borrowing costs, by tier."""
        return codec.decode(await self._public(wire.BORROW_RATES), tuple[wire.BorrowTier, ...])

    # --- accounts

    async def accounts(self) -> tuple[wire.AccountRow, ...]:
        """Return our accounts."""
        return codec.decode(await self._private(wire.ACCOUNTS), tuple[wire.AccountRow, ...])

    async def balances(self, account_type: str | None = None) -> tuple[wire.AccountBalances, ...]:
        """Return the balances of our accounts."""
        body = await self._private(wire.BALANCES, {"accountType": account_type})
        return codec.decode(body, tuple[wire.AccountBalances, ...])

    async def account_balances(self, account_id: str) -> tuple[wire.AccountBalances, ...]:
        """Return the balances of one account."""
        body = await self._private(wire.ACCOUNT_BALANCES, id=account_id)
        return codec.decode(body, tuple[wire.AccountBalances, ...])

    async def activity(
        self, *, activity_type: int | None = None, currency: str | None = None, page: wire.Page = FIRST_PAGE
    ) -> tuple[wire.ActivityRow, ...]:
        """Return what changed our accounts beside trades: 200 all, 201 airdrop, 202 commission rebate, and so on."""
        params = codec.page_params(page) | {"activityType": activity_type, "currency": currency}
        return codec.decode(await self._private(wire.ACTIVITY, params), tuple[wire.ActivityRow, ...])

    async def transfer(
        self, currency: str, amount: Decimal, *, from_account: str, to_account: str
    ) -> Outcome[wire.TransferId]:
        """Move money between our accounts (`SPOT`, `FUTURES`)."""
        body = wire.TransferBody(
            currency=currency,
            amount=codec.plain_number("amount", amount),
            from_account=from_account,
            to_account=to_account,
        )
        return await self._write(wire.TRANSFER, body, Write.TRANSFER, _as(wire.TransferId))

    async def transfers(
        self, *, currency: str | None = None, page: wire.Page = FIRST_PAGE
    ) -> tuple[wire.TransferRow, ...]:
        """Return the transfers between our accounts."""
        body = await self._private(wire.TRANSFERS, codec.page_params(page) | {"currency": currency})
        return codec.decode(body, tuple[wire.TransferRow, ...])

    async def transfer_by_id(self, transfer_id: str) -> wire.TransferRow:
        """Return one transfer between our accounts."""
        return codec.decode_one(await self._private(wire.ONE_TRANSFER, id=transfer_id), wire.TransferRow)

    async def fee_info(self) -> wire.FeeInfo:
        """Return our fees."""
        return codec.decode(await self._private(wire.FEE_INFO), wire.FeeInfo)

    async def interest(self, page: wire.Page = FIRST_PAGE) -> tuple[wire.InterestRow, ...]:
        """Return the interest that we paid; 90 days at most."""
        body = await self._private(wire.INTEREST, codec.page_params(page))
        return codec.decode(body, tuple[wire.InterestRow, ...])

    # --- subaccounts

    async def subaccounts(self) -> tuple[wire.SubaccountRow, ...]:
        """Return our subaccounts and the primary account."""
        return codec.decode(await self._private(wire.SUBACCOUNTS), tuple[wire.SubaccountRow, ...])

    async def subaccounts_balances(self) -> tuple[wire.SubaccountBalances, ...]:
        """Return the balances of all subaccounts."""
        body = await self._private(wire.SUBACCOUNTS_BALANCES)
        return codec.decode(body, tuple[wire.SubaccountBalances, ...])

    async def subaccount_balances(self, account_id: str) -> tuple[wire.SubaccountBalances, ...]:
        """Return the balances of one subaccount."""
        body = await self._private(wire.SUBACCOUNT_BALANCES, id=account_id)
        return codec.decode(body, tuple[wire.SubaccountBalances, ...])

    async def subaccount_transfer(
        self,
        currency: str,
        amount: Decimal,
        *,
        from_account_id: str,
        from_account_type: str,
        to_account_id: str,
        to_account_type: str,
    ) -> Outcome[wire.TransferId]:
        """Move money between subaccounts."""
        body = wire.SubaccountTransferBody(
            currency=currency,
            amount=codec.plain_number("amount", amount),
            from_account_id=from_account_id,
            from_account_type=from_account_type,
            to_account_id=to_account_id,
            to_account_type=to_account_type,
        )
        return await self._write(wire.SUBACCOUNT_TRANSFER, body, Write.TRANSFER, _as(wire.TransferId))

    async def subaccount_transfers(
        self,
        *,
        currency: str | None = None,
        from_account_id: str | None = None,
        from_account_type: str | None = None,
        to_account_id: str | None = None,
        to_account_type: str | None = None,
        page: wire.Page = FIRST_PAGE,
    ) -> tuple[wire.SubaccountTransferRow, ...]:
        """Return the transfers between subaccounts; the last 7 days unless `page` says otherwise."""
        params = codec.page_params(page) | {
            "currency": currency,
            "fromAccountId": from_account_id,
            "fromAccountType": from_account_type,
            "toAccountId": to_account_id,
            "toAccountType": to_account_type,
        }
        body = await self._private(wire.SUBACCOUNT_TRANSFERS, params)
        return codec.decode(body, tuple[wire.SubaccountTransferRow, ...])

    async def subaccount_transfer_by_id(self, transfer_id: str) -> wire.SubaccountTransferRow:
        """Return one transfer between subaccounts."""
        body = await self._private(wire.ONE_SUBACCOUNT_TRANSFER, id=transfer_id)
        return codec.decode_one(body, wire.SubaccountTransferRow)

    # --- wallets

    async def addresses(self, currency: str | None = None) -> dict[str, str]:
        """Return our deposit addresses by currency."""
        return codec.decode_addresses(await self._private(wire.ADDRESSES, {"currency": currency}))

    async def wallets_activity(
        self, start_s: int, end_s: int, *, activity_type: str | None = None
    ) -> wire.WalletsActivity:
        """Return deposits and withdrawals between two times, in seconds."""
        params = {"start": start_s, "end": end_s, "activityType": activity_type}
        return codec.decode(await self._private(wire.WALLETS_ACTIVITY, params), wire.WalletsActivity)

    async def new_address(self, currency: str) -> Outcome[wire.AddressRow]:
        """Make a deposit address."""
        body = wire.NewAddressBody(currency=currency)
        return await self._write(wire.NEW_ADDRESS, body, Write.SETTING, _as(wire.AddressRow))

    async def withdraw(
        self,
        currency: str,
        amount: Decimal,
        address: str,
        *,
        payment_id: str | None = None,
        allow_borrow: bool = False,
    ) -> Outcome[wire.WithdrawalId]:
        """Send money away. It has no client id: an unknown outcome can only be looked up in `wallets_activity`."""
        body = wire.WithdrawBody(
            currency=currency,
            amount=codec.plain_number("amount", amount),
            address=address,
            payment_id=payment_id,
            allow_borrow=allow_borrow,
        )
        return await self._write(wire.WITHDRAW, body, Write.WITHDRAW, _as(wire.WithdrawalId))

    async def withdraw_coin(
        self,
        coin: str,
        network: str,
        amount: Decimal,
        address: str,
        *,
        address_tag: str | None = None,
        allow_borrow: bool = False,
    ) -> Outcome[wire.WithdrawalId]:
        """Send money away over a named network (v2). An unknown outcome is as that of `withdraw`."""
        body = wire.WithdrawCoinBody(
            coin=coin,
            network=network,
            amount=codec.plain_number("amount", amount),
            address=address,
            address_tag=address_tag,
            allow_borrow=allow_borrow,
        )
        return await self._write(wire.WITHDRAW_COIN, body, Write.WITHDRAW, _as(wire.WithdrawalId))

    # --- margin

    async def margin(self, account_type: str = SPOT) -> wire.MarginRow:
        """Return how far the account is from its margin's end."""
        return codec.decode_one(await self._private(wire.MARGIN, {"accountType": account_type}), wire.MarginRow)

    async def borrow_status(self, currency: str | None = None) -> tuple[wire.BorrowStatusRow, ...]:
        """Return what we have borrowed."""
        body = await self._private(wire.BORROW_STATUS, {"currency": currency})
        return codec.decode(body, tuple[wire.BorrowStatusRow, ...])

    async def max_size(self, symbol: str) -> wire.MaxSizeRow:
        """Return how much of a market we could trade."""
        return codec.decode_one(await self._private(wire.MAX_SIZE, {"symbol": symbol}), wire.MaxSizeRow)

    # --- orders

    async def place(
        self, order: wire.NewOrder, *, lane: Lane = Lane.OPEN, why_not: Callable[[], str] | None = None
    ) -> Outcome[wire.OrderIds]:
        """Place an order; `lane` is `Lane.CLOSE` when it makes a position smaller. Accepted says nothing of fills.

        `why_not` is asked at the last moment, when the limit has room: it says why it shall not be sent after all.
        """
        body = codec.order_body(order, await self._rules(order.symbol))
        return await self._submit(wire.PLACE, body, order.client_id, lane, why_not=why_not)

    async def place_batch(
        self, orders: Sequence[wire.NewOrder], *, lane: Lane = Lane.OPEN
    ) -> tuple[Outcome[wire.OrderIds], ...]:
        """Place up to 20 orders; each has an outcome of its own, in the order given."""
        if not 1 <= len(orders) <= codec.BATCH_MAX:
            raise OrderRefusedHere(f"a batch of {len(orders)} orders: 1 to {codec.BATCH_MAX}")
        client_ids = [order.client_id for order in orders]
        if len(set(client_ids)) < len(client_ids):
            raise OrderRefusedHere("a batch with one client id twice")
        bodies = [codec.order_body(order, await self._rules(order.symbol)) for order in orders]
        answer = await self._write(
            wire.PLACE_BATCH,
            bodies,
            Write.SUBMIT,
            lambda body, unknown: Accepted(value=_batch(body, client_ids, unknown)),
            lane=lane,
        )
        return _each(answer, client_ids)

    async def replace(
        self, symbol: str, order: OrderRef, change: wire.Replacement, *, lane: Lane = Lane.OPEN
    ) -> Outcome[wire.OrderIds]:
        """Cancel an order of `symbol` and place it anew, changed. If unknown, ask for both the old and the new one."""
        body = codec.replace_body(change, await self._rules(symbol))
        return await self._submit(wire.REPLACE, body, change.client_id, lane, order)

    async def open_orders(
        self,
        symbol: str | None = None,
        *,
        side: str | None = None,
        account_type: str | None = None,
        page: wire.Page = FIRST_PAGE,
        lane: Lane = Lane.DATA,
    ) -> tuple[wire.OrderRow, ...]:
        """Return living orders."""
        params = codec.page_params(page) | {"symbol": symbol, "side": side, "accountType": account_type}
        return codec.decode(await self._private(wire.OPEN_ORDERS, params, lane), tuple[wire.OrderRow, ...])

    async def order(self, order: OrderRef, *, lane: Lane = Lane.DATA) -> wire.OrderRow:
        """Return one order, living or finished; an unknown one raises `ReadRefused` with code 21301."""
        return codec.decode_one(await self._private(wire.ORDER, lane=lane, id=order.text), wire.OrderRow)

    async def cancel(self, order: OrderRef) -> Outcome[wire.CancelRow]:
        """Ask for an order to be cancelled. Accepted is not the end of it: a fill may still win."""
        return await self._cancel(wire.CANCEL, order)

    async def cancel_some(
        self, *, order_ids: Sequence[str] = (), client_ids: Sequence[str] = ()
    ) -> tuple[Outcome[wire.CancelRow], ...]:
        """Ask for some orders to be cancelled; outcomes come in the order of the ids, then of the client ids."""
        return await self._cancel_some(wire.CANCEL_SOME, order_ids, client_ids)

    async def cancel_all(self, symbols: Iterable[str] | None) -> Outcome[tuple[wire.CancelRow, ...]]:
        """Ask for all orders in some markets to be cancelled, or with None in all. Rows have codes of their own."""
        return await self._cancel_all(wire.CANCEL_ALL, symbols)

    async def set_kill_switch(self, timeout_s: int | None) -> Outcome[wire.KillSwitchRow]:
        """Have the exchange cancel everything, smart orders too, in 10 to 600 s unless told again; None disarms."""
        body = codec.kill_switch_body(timeout_s)
        return await self._write(wire.KILL_SWITCH, body, Write.SETTING, _as(wire.KillSwitchRow), lane=Lane.CANCEL)

    async def kill_switch(self) -> wire.KillSwitchRow | None:
        """Return when the kill switch will cancel everything, or None when it is not armed."""
        try:
            return codec.decode_one(await self._private(wire.KILL_SWITCH_STATUS), wire.KillSwitchRow)
        except ReadRefused as refusal:
            if refusal.code == NO_KILL_SWITCH:
                return None
            raise

    async def order_history(
        self,
        *,
        symbol: str | None = None,
        side: str | None = None,
        order_type: str | None = None,
        account_type: str | None = None,
        states: Iterable[str] = (),
        hide_cancel: bool | None = None,
        page: wire.Page = FIRST_PAGE,
    ) -> tuple[wire.OrderRow, ...]:
        """Return finished orders; those cancelled without a fill are forgotten after 7 days."""
        params = _history(symbol, side, order_type, account_type, states, hide_cancel, page)
        return codec.decode(await self._private(wire.ORDER_HISTORY, params), tuple[wire.OrderRow, ...])

    async def trades(
        self, symbols: Iterable[str] = (), *, page: wire.Page = FIRST_PAGE, lane: Lane = Lane.DATA
    ) -> tuple[wire.TradeRow, ...]:
        """Return our trades; the `from_id` of a page is a `page_id`."""
        params = codec.page_params(page) | {"symbols": ",".join(symbols) or None}
        return codec.decode(await self._private(wire.TRADES, params, lane), tuple[wire.TradeRow, ...])

    async def order_trades(self, order_id: str) -> tuple[wire.TradeRow, ...]:
        """Return the trades of one order, by the exchange's id only."""
        return codec.decode(await self._private(wire.ORDER_TRADES, id=order_id), tuple[wire.TradeRow, ...])

    async def resolve(self, symbol: str, unknown: Unknown) -> Accepted[wire.OrderRow] | Refused:
        """Return what became of a submit or a cancel that is unknown, by asking for its client id.

        An order that is found is `Accepted`, whatever its state. `Refused` as never accepted needs proof: it is asked
        for twice after its fence, and the living orders and the trades know nothing of it. Without either it asks for
        ever, so set a deadline: after it the order is still unknown.
        """

        async def find(ref: OrderRef) -> wire.OrderRow:
            return await self.order(ref, lane=Lane.CLOSE)

        async def in_lists() -> set[str | None] | None:
            since = wire.Page(start_ms=max(0, unknown.fence_ms - SEARCH_BACK_MS), limit=SEARCH_TRADES)
            living = await self.open_orders(symbol, page=wire.Page(limit=OPEN_ORDERS_MAX), lane=Lane.CLOSE)
            traded = await self.trades([symbol], page=since, lane=Lane.CLOSE)
            is_whole = len(living) < OPEN_ORDERS_MAX and len(traded) < SEARCH_TRADES
            return {row.client_order_id for row in chain(living, traded)} if is_whole else None

        return await self._resolve(unknown, find, in_lists)

    async def resolve_smart(self, unknown: Unknown) -> Accepted[wire.SmartOrderRow] | Refused:
        """Return what became of a conditional order's submit or cancel that is unknown; as `resolve`."""

        async def in_lists() -> set[str | None] | None:
            return {row.client_order_id for row in await self.open_smart_orders()}

        return await self._resolve(unknown, self.smart_order, in_lists)

    async def _resolve(
        self,
        unknown: Unknown,
        find: Callable[[OrderRef], Awaitable[T]],
        in_lists: Callable[[], Awaitable[set[str | None] | None]],
    ) -> Accepted[T] | Refused:
        """Ask for a client id until it is found or proven absent; `in_lists` is None when the lists prove nothing."""
        assert unknown.client_id, "only a client id can be asked for without an answer"
        search = Search(search_fence_ms(unknown))
        # A client id that is taken, or an order that could not be cancelled, is there: absence proves nothing.
        may_be_absent = unknown.doubt not in {Doubt.EXISTS, Doubt.RACE}
        for pause_s in chain(QUERY_AFTER_S, repeat(QUERY_AFTER_S[-1])):
            await trio.sleep(pause_s)
            try:
                await self.clock.make_ready()
                asked_ms = self.clock.now_ms()
                found = await _unless_not_found(find(by_client_id(unknown.client_id)))
                if found is not None:
                    return Accepted(value=found)
                search.not_found(asked_ms)
                if not (may_be_absent and search.is_absent):
                    continue
                listed = await in_lists()
            except (ConnectionLost, RateLimited, ReadRefused, BadReply):
                continue
            if listed is not None and unknown.client_id not in listed:
                text = f"client id {unknown.client_id}: never accepted; its answer was lost ({unknown.reason})"
                return Refused(code=0, text=text, kind=RefusalKind.NEVER_ACCEPTED)
        raise AssertionError("unreachable: the search has no end of its own")

    # --- smart orders

    async def place_smart(
        self, order: wire.NewSmartOrder, *, lane: Lane = Lane.OPEN, why_not: Callable[[], str] | None = None
    ) -> Outcome[wire.OrderIds]:
        """Place a conditional order, as `place`. Its funds are frozen only when it triggers, which may then fail."""
        body = codec.smart_order_body(order, await self._rules(order.symbol))
        return await self._submit(wire.PLACE_SMART, body, order.client_id, lane, why_not=why_not)

    async def replace_smart(
        self, symbol: str, order: OrderRef, change: wire.Replacement, *, lane: Lane = Lane.OPEN
    ) -> Outcome[wire.OrderIds]:
        """Cancel a conditional order of `symbol` and place it anew, changed."""
        body = codec.replace_body(change, await self._rules(symbol), is_smart=True)
        return await self._submit(wire.REPLACE_SMART, body, change.client_id, lane, order)

    async def open_smart_orders(self, *, limit: int | None = None) -> tuple[wire.SmartOrderRow, ...]:
        """Return the conditional orders that have not triggered."""
        body = await self._private(wire.OPEN_SMART_ORDERS, {"limit": limit})
        return codec.decode(body, tuple[wire.SmartOrderRow, ...])

    async def smart_order(self, order: OrderRef) -> wire.SmartOrderRow:
        """Return one conditional order; an unknown one raises `ReadRefused` with code 25013, 25014 or 25015."""
        return codec.decode_one(await self._private(wire.SMART_ORDER, id=order.text), wire.SmartOrderRow)

    async def cancel_smart(self, order: OrderRef) -> Outcome[wire.CancelRow]:
        """Ask for a conditional order to be cancelled."""
        return await self._cancel(wire.CANCEL_SMART, order)

    async def cancel_some_smart(
        self, *, order_ids: Sequence[str] = (), client_ids: Sequence[str] = ()
    ) -> tuple[Outcome[wire.CancelRow], ...]:
        """Ask for some conditional orders to be cancelled; outcomes as those of `cancel_some`."""
        return await self._cancel_some(wire.CANCEL_SOME_SMART, order_ids, client_ids)

    async def cancel_all_smart(self, symbols: Iterable[str] | None) -> Outcome[tuple[wire.CancelRow, ...]]:
        """Ask for all conditional orders in some markets to be cancelled, or with None in all."""
        return await self._cancel_all(wire.CANCEL_ALL_SMART, symbols)

    async def smart_order_history(
        self,
        *,
        symbol: str | None = None,
        side: str | None = None,
        order_type: str | None = None,
        account_type: str | None = None,
        states: Iterable[str] = (),
        hide_cancel: bool | None = None,
        page: wire.Page = FIRST_PAGE,
    ) -> tuple[wire.SmartOrderRow, ...]:
        """Return conditional orders that are finished."""
        params = _history(symbol, side, order_type, account_type, states, hide_cancel, page)
        body = await self._private(wire.SMART_ORDER_HISTORY, params)
        return codec.decode(body, tuple[wire.SmartOrderRow, ...])

    # --- the ways there

    async def _public(
        self, endpoint: wire.Endpoint, params: Mapping[str, str | int | bool | None] | None = None, **names: str
    ) -> bytes:
        return await self._rest.read(_question(endpoint, params or {}, Lane.DATA, names))

    async def _private(
        self,
        endpoint: wire.Endpoint,
        params: Mapping[str, str | int | bool | None] | None = None,
        lane: Lane = Lane.DATA,
        **names: str,
    ) -> bytes:
        return await self._rest.read_signed(_question(endpoint, params or {}, lane, names))

    async def _rules(self, symbol: str) -> wire.SpotMarket:
        """Return the market that an order is checked against; asked for once."""
        if symbol not in self._markets:
            await self.market(symbol)
        if symbol not in self._markets:
            raise NotListed(f"{symbol}: the exchange does not list it")
        return self._markets[symbol]

    async def _write(
        self,
        endpoint: wire.Endpoint,
        body: wire.Body | wire.CancelAllBody | Sequence[wire.Body] | None,
        write: Write,
        accept: Accept[T],
        *,
        lane: Lane = Lane.OPEN,
        client_id: str = "",
        order: OrderRef | None = None,
        why_not: Callable[[], str] | None = None,
    ) -> Outcome[T]:
        request = Request(
            method=endpoint.method,
            path=endpoint.path if order is None else codec.path(endpoint, id=order.text),
            group=endpoint.group,
            body=b"" if body is None else codec.encode(body),
            lane=lane,
            why_not=why_not,
        )
        return await self._rest.write(request, write, accept, client_id=client_id)

    async def _submit(
        self,
        endpoint: wire.Endpoint,
        body: wire.Body,
        client_id: str,
        lane: Lane,
        order: OrderRef | None = None,
        *,
        why_not: Callable[[], str] | None = None,
    ) -> Outcome[wire.OrderIds]:
        def accept(answer: bytes, _unknown: Unknown) -> Outcome[wire.OrderIds]:
            return Accepted(value=_own(codec.decode(answer, wire.OrderIds), client_id, answer))

        return await self._write(
            endpoint, body, Write.SUBMIT, accept, lane=lane, client_id=client_id, order=order, why_not=why_not
        )

    async def _cancel(self, endpoint: wire.Endpoint, order: OrderRef) -> Outcome[wire.CancelRow]:
        client_id = order.text.partition("cid:")[2]

        def accept(answer: bytes, unknown: Unknown) -> Outcome[wire.CancelRow]:
            return _cancelled(codec.decode_one(answer, wire.CancelRow), unknown)

        return await self._write(
            endpoint, None, Write.CANCEL, accept, lane=Lane.CANCEL, client_id=client_id, order=order
        )

    async def _cancel_some(
        self, endpoint: wire.Endpoint, order_ids: Sequence[str], client_ids: Sequence[str]
    ) -> tuple[Outcome[wire.CancelRow], ...]:
        if not order_ids and not client_ids:
            raise OrderRefusedHere("cancel by ids: no ids")
        ids = [*repeat("", len(order_ids)), *client_ids]

        def accept(answer: bytes, unknown: Unknown) -> Outcome[tuple[Outcome[wire.CancelRow], ...]]:
            rows = codec.decode(answer, tuple[wire.CancelRow, ...])
            return Accepted(value=_by_ids(rows, order_ids, client_ids, unknown))

        body = wire.CancelSomeBody(order_ids=tuple(order_ids), client_order_ids=tuple(client_ids))
        return _each(await self._write(endpoint, body, Write.CANCEL, accept, lane=Lane.CANCEL), ids)

    async def _cancel_all(
        self, endpoint: wire.Endpoint, symbols: Iterable[str] | None
    ) -> Outcome[tuple[wire.CancelRow, ...]]:
        body = codec.cancel_all_body(symbols)
        return await self._write(endpoint, body, Write.CANCEL, _as(tuple[wire.CancelRow, ...]), lane=Lane.CANCEL)


async def _unless_not_found(question: Awaitable[T]) -> T | None:
    """Return the answer, or None when it is "no such order"."""
    try:
        return await question
    except ReadRefused as refusal:
        if is_not_found(refusal.code):
            return None
        raise


def _question(
    endpoint: wire.Endpoint, params: Mapping[str, str | int | bool | None], lane: Lane, names: Mapping[str, str]
) -> Request:
    return Request(
        method=endpoint.method,
        path=codec.path(endpoint, **names),
        group=endpoint.group,
        query=codec.query(params),
        lane=lane,
    )


def _history(
    symbol: str | None,
    side: str | None,
    order_type: str | None,
    account_type: str | None,
    states: Iterable[str],
    hide_cancel: bool | None,
    page: wire.Page,
) -> dict[str, str | int | bool | None]:
    return codec.page_params(page) | {
        "symbol": symbol,
        "side": side,
        "type": order_type,
        "accountType": account_type,
        "states": ",".join(states) or None,
        "hideCancel": hide_cancel,
    }


def _as(kind: type[T]) -> Accept[T]:
    """Return what reads a good answer as a `kind`, accepted."""
    return lambda answer, _unknown: Accepted(value=codec.decode(answer, kind))


def _own(ids: wire.OrderIds, client_id: str, answer: bytes) -> wire.OrderIds:
    if not ids.id or ids.client_order_id != client_id:
        raise BadReply(f"an answer to another order than {client_id}", answer)
    return ids


def _batch(answer: bytes, client_ids: Sequence[str], unknown: Unknown) -> tuple[Outcome[wire.OrderIds], ...]:
    """Return the outcomes of a batch, in the order of the request."""
    items = codec.decode(answer, tuple[wire.BatchItem, ...])
    if len(items) != len(client_ids):
        raise BadReply(f"{len(items)} answers to {len(client_ids)} orders", answer)
    return tuple(
        _batch_item(item, _about(unknown, client_id)) for item, client_id in zip(items, client_ids, strict=True)
    )


def _batch_item(item: wire.BatchItem, unknown: Unknown) -> Outcome[wire.OrderIds]:
    if item.client_order_id not in {None, "", unknown.client_id}:
        return _about(unknown, unknown.client_id, f"an answer to another order: {item.client_order_id}")
    if item.id and item.code in {None, OK}:
        return Accepted(value=wire.OrderIds(id=item.id, client_order_id=wire.ExchangeId(unknown.client_id)))
    return _judged(Write.SUBMIT, item.code, item.message, unknown)


def _cancelled(row: wire.CancelRow, unknown: Unknown) -> Outcome[wire.CancelRow]:
    return Accepted(value=row) if row.code == OK else _judged(Write.CANCEL, row.code, row.message or "", unknown)


def _judged(write: Write, code: int | None, text: str, unknown: Unknown) -> Refused | Unknown:
    """Return what the code of one item of a good answer means."""
    return classify(
        Market.SPOT,
        write,
        status=OK,
        code=code,
        text=text,
        client_id=unknown.client_id,
        fence_ms=unknown.fence_ms,
    )


def _by_ids(
    rows: Iterable[wire.CancelRow], order_ids: Sequence[str], client_ids: Sequence[str], unknown: Unknown
) -> tuple[Outcome[wire.CancelRow], ...]:
    """Return one outcome for each id asked for; one that is not answered is unknown."""
    by_order_id: dict[str | None, wire.CancelRow] = {}
    by_own_id: dict[str | None, wire.CancelRow] = {}
    for row in rows:
        by_order_id[row.order_id] = row
        by_own_id[row.client_order_id] = row
    asked = [(by_order_id.get(each), "") for each in order_ids] + [(by_own_id.get(each), each) for each in client_ids]
    return tuple(
        _about(unknown, client_id, "the answer does not name this order")
        if row is None
        else _cancelled(row, _about(unknown, client_id))
        for row, client_id in asked
    )


def _each(answer: Outcome[tuple[Outcome[T], ...]], client_ids: Sequence[str]) -> tuple[Outcome[T], ...]:
    """Return the outcomes of a batch; what became of the whole became of each."""
    match answer:
        case Accepted():
            return answer.value
        case Refused():
            return tuple(repeat(answer, len(client_ids)))
        case Unknown():
            return tuple(_about(answer, client_id) for client_id in client_ids)


def _about(unknown: Unknown, client_id: str, reason: str | None = None) -> Unknown:
    """Return `unknown` said of one order."""
    return msgspec.structs.replace(unknown, client_id=client_id, reason=unknown.reason if reason is None else reason)
