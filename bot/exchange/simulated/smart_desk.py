"""Smart orders and the kill switch of every account: what acts on the spot desk by itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from bot.exchange.simulated.accounts import Account
from bot.exchange.simulated.codes import Code, refused
from bot.exchange.simulated.replies import Refusal
from bot.exchange.simulated.smart import (
    SmartOrder,
    SmartState,
    SmartTerms,
    checked_triggers,
    plain_fields,
    smart_type,
)
from bot.exchange.simulated.spot_desk import FINISHED_KEPT, SpotDesk
from bot.exchange.simulated.spot_orders import OrderFields, checked_order

KILL_SWITCH_S_MIN: Final = 10
KILL_SWITCH_S_MAX: Final = 600
SMART_SOURCE: Final = "SMART"
SECOND_NS: Final = 1_000_000_000


class KillSwitch(NamedTuple):
    """When an account's orders will all be cancelled."""

    armed_ns: int
    due_ns: int


@dataclass(slots=True)
class SmartFolder:
    """All smart orders of one account."""

    orders: dict[int, SmartOrder] = field(default_factory=dict[int, SmartOrder])
    """Oldest first; of finished ones, the newest."""
    by_client_id: dict[str, int] = field(default_factory=dict[str, int])
    finished: deque[int] = field(default_factory=deque[int])
    kill_switch: KillSwitch | None = None


class SmartDesk:
    """Watches the trades for the smart orders, and the time for the kill switches."""

    def __init__(self, desk: SpotDesk) -> None:
        self._desk = desk
        self._folders: dict[Account, SmartFolder] = {}
        self._waiting: dict[str, dict[int, SmartOrder]] = {}
        """By symbol, oldest first."""
        desk.on_trade = self._on_trade

    def folder(self, account: Account) -> SmartFolder:
        """Return an account's smart orders."""
        return self._folders.setdefault(account, SmartFolder())

    def checked(self, fields: OrderFields) -> SmartTerms:
        """Return the smart order that `fields` are.

        Raises:
            Refusal: they are none.

        """
        kind = smart_type(fields)
        markets = self._desk.venue.markets
        market = markets.get((fields.symbol or "").upper())
        last_price = market.price_texts[max(market.mark_ticks, 1)] if market is not None else "1"
        instruments = {symbol: each.instrument for symbol, each in markets.items()}
        return checked_triggers(fields, kind, checked_order(plain_fields(fields, kind, last_price), instruments))

    def place(self, account: Account, terms: SmartTerms) -> SmartOrder:
        """Take a smart order.

        Raises:
            Refusal: its client id was used before.

        """
        folder = self.folder(account)
        client_id = terms.order.client_id
        if client_id and client_id in folder.by_client_id:
            raise refused(Code.SMART_CLIENT_ID_TAKEN, client_id)
        market = self._desk.venue.markets[terms.order.instrument.symbol]
        last_ticks = market.trades[-1].price_ticks if market.trades else market.mark_ticks
        is_above = terms.stop_ticks is not None and terms.stop_ticks >= last_ticks
        smart = SmartOrder(
            order_id=self._desk.accounts.ids.next(self._desk.now_ns),
            account=account,
            terms=terms,
            operator=terms.operator or ("GTE" if is_above else "LTE"),
            created_ns=self._desk.now_ns,
            updated_ns=self._desk.now_ns,
            is_active=terms.stop_ticks is None or not terms.is_trailing,
        )
        folder.orders[smart.order_id] = smart
        if client_id:
            folder.by_client_id[client_id] = smart.order_id
        self._waiting.setdefault(smart.symbol, {})[smart.order_id] = smart
        return smart

    def cancel(self, smart: SmartOrder) -> None:
        """End a smart order, at once.

        Raises:
            Refusal: it has triggered, or ended.

        """
        if smart.state is not SmartState.PENDING_NEW:
            raise refused(Code.SMART_NOT_CANCELED, str(smart.order_id))
        self._finish(smart, SmartState.CANCELED)

    def replace(self, smart: SmartOrder, fields: OrderFields, *, proceeds_on_failure: bool) -> SmartOrder:
        """End a smart order and place another for it: both, or neither.

        Raises:
            Refusal: the new one would be refused, or the old one has ended and we do not proceed on failure.

        """
        terms = self.checked(fields)
        if smart.state is not SmartState.PENDING_NEW and not proceeds_on_failure:
            raise refused(Code.SMART_NOT_CANCELED, str(smart.order_id))
        if terms.order.client_id and terms.order.client_id in self.folder(smart.account).by_client_id:
            raise refused(Code.SMART_CLIENT_ID_TAKEN, terms.order.client_id)
        if smart.state is SmartState.PENDING_NEW:
            self._finish(smart, SmartState.CANCELED)
        return self.place(smart.account, terms)

    def waiting(self, account: Account) -> list[SmartOrder]:
        """Return the smart orders of an account that have not triggered, oldest first."""
        pending = SmartState.PENDING_NEW
        return [smart for smart in self.folder(account).orders.values() if smart.state is pending]

    # --- the kill switch

    def arm(self, account: Account, timeout_s: int) -> KillSwitch:
        """Let all of an account's orders be cancelled after `timeout_s`, unless this is called again."""
        now_ns = self._desk.now_ns
        switch = KillSwitch(now_ns, now_ns + timeout_s * SECOND_NS)
        self.folder(account).kill_switch = switch
        self._desk.at(switch.due_ns, partial(self._kill, account, switch))
        return switch

    def disarm(self, account: Account) -> None:
        """Forget the kill switch."""
        self.folder(account).kill_switch = None

    def _kill(self, account: Account, switch: KillSwitch) -> None:
        folder = self.folder(account)
        if folder.kill_switch is not switch:  # armed anew, or disarmed
            return
        folder.kill_switch = None
        for smart in self.waiting(account):
            self._finish(smart, SmartState.CANCELED)
        for order in tuple(self._desk.folder(account).living.values()):
            if not order.state.is_final:
                self._desk.cancel(order)

    # --- triggers

    def _on_trade(self, symbol: str, price_ticks: int) -> None:
        waiting = self._waiting.get(symbol)
        if waiting:
            triggered = [smart for smart in waiting.values() if smart.triggers_at(price_ticks)]
            self._trigger(triggered, price_ticks)

    def _trigger(self, triggered: Iterable[SmartOrder], price_ticks: int) -> None:
        for smart in triggered:
            terms = smart.order_at(price_ticks)
            if terms.client_id in self._desk.folder(smart.account).by_client_id:
                terms = terms._replace(client_id="")
            try:
                smart.triggered = self._desk.place(smart.account, terms, SMART_SOURCE)
            except Refusal:  # there is no money for it now
                self._finish(smart, SmartState.FAILED)
            else:
                self._finish(smart, SmartState.TRIGGERED)

    def _finish(self, smart: SmartOrder, state: SmartState) -> None:
        smart.state = state
        smart.updated_ns = self._desk.now_ns
        del self._waiting[smart.symbol][smart.order_id]
        folder = self.folder(smart.account)
        folder.finished.append(smart.order_id)
        if len(folder.finished) > FINISHED_KEPT:
            del folder.orders[folder.finished.popleft()]
