"""No atom is made or lost, whatever clients and the market do: held against a ledger that knows only fills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from bot.core.instrument import Side
from bot.exchange.simulated.accounts import AccountType
from bot.exchange.simulated.futures_clearing import Liquidation, Member
from bot.exchange.simulated.futures_instruments import Contract
from bot.exchange.simulated.futures_orders import FillRecord, FillType
from bot.exchange.simulated.futures_positions import RATE, Position, PositionMode, PosSide
from bot.exchange.simulated.futures_prices import Funding
from tests.exchange.simulated.futures_builders import NOW_NS, PERP, USDT, Floor

EXAMPLES = 1_000
STEPS = 20
CLIENTS = 3
START = 10_000 * USDT
ETH_PERP = "ETH_USDT_PERP"
SYMBOLS = (PERP, ETH_PERP)

numbers = st.integers(0, CLIENTS - 1)
symbols = st.sampled_from(SYMBOLS)
modes = st.sampled_from(["CROSS", "ISOLATED"])
sides = st.sampled_from(["BUY", "SELL"])
pos_sides = st.sampled_from([None, None, "LONG", "SHORT"])
sizes = st.sampled_from([1, 7, 50, 333, 1_000, 2_500])
offsets = st.sampled_from([-400, -50, -1, 0, 1, 50, 400])
far = st.sampled_from([-9_000, -4_000, -1_500, -300, 300, 1_500, 4_000, 9_000])


class Conservation(RuleBasedStateMachine):
    """The exchange, and a ledger of cash and contracts beside it as if every fill had been paid in full."""

    @initialize(hedged=st.booleans(), bets=st.lists(st.tuples(sides, sizes, modes), min_size=CLIENTS, max_size=CLIENTS))
    def open(self, *, hedged: bool, bets: list[tuple[str, int, str]]) -> None:
        self.floor = Floor(clients=CLIENTS, symbols=SYMBOLS)
        self.wing, self.desk = self.floor.wing, self.floor.wing.desk
        self.middle: dict[str, int] = dict.fromkeys(SYMBOLS, 60_000)
        self.at_s = 0.0
        self.cash: Counter[int] = Counter()
        self.contracts: Counter[tuple[int, str, PosSide]] = Counter()
        self.house = -START * CLIENTS
        self.fees = self.insurance = 0
        self.swept: Counter[int] = Counter()
        self.fills_seen: Counter[int] = Counter()
        self._watch_clearing()

        if hedged:
            self._ask("POST", "/position/mode", {"posMode": "HEDGE"}, 0)
        for number, (side, size, mode) in enumerate(bets):
            self._order(number, PERP, side, size, mode, None)

    def _watch_clearing(self) -> None:
        clearing = self.desk.clearing
        fund, liquidate, cover = clearing.fund, clearing.liquidate, clearing.cover

        def noted_fund(contract: Contract, funding: Funding) -> None:
            self._read_fills()
            for (number, symbol, _), contracts in self.contracts.items():
                if symbol == contract.symbol:
                    payment = -contract.value_atoms(funding.mark_ticks, contracts) * funding.rate // RATE
                    self.cash[number] += payment
                    self.house -= payment
            fund(contract, funding)

        def noted_liquidate(member: Member, doomed: Sequence[Position], ts_ns: int) -> list[Liquidation]:
            self._read_fills()
            marks = {symbol: self._mark(symbol) for symbol in SYMBOLS}
            fund_before = self._own("insurance")
            done = liquidate(member, doomed, ts_ns)
            gains = 0
            for one in done:
                mark, price = marks[one.contract.symbol], one.bankruptcy_ticks
                gains += one.contract.value_atoms(mark - price, one.contracts)
                # The house takes the contracts over at mark.
                self.house += one.contract.value_atoms(price - mark, one.contracts)
            swept = self._own("insurance") - fund_before - gains
            self.swept[member.account.number] += swept
            self.insurance += gains + swept
            return done

        def noted_cover(member: Member) -> None:
            fund_before = self._own("insurance")
            cover(member)
            paid = fund_before - self._own("insurance")
            self.swept[member.account.number] -= paid
            self.insurance -= paid

        clearing.fund, clearing.liquidate, clearing.cover = noted_fund, noted_liquidate, noted_cover

    # --- what happens

    @rule(
        number=numbers,
        symbol=symbols,
        side=sides,
        size=sizes,
        offset=offsets,
        mode=modes,
        pos_side=pos_sides,
        time_in_force=st.sampled_from(["GTC", "GTC", "IOC", "FOK"]),
        kind=st.sampled_from(["LIMIT", "LIMIT", "LIMIT_MAKER"]),
        reduces=st.booleans(),
        stp=st.sampled_from(["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"]),
    )
    def order(
        self,
        number: int,
        symbol: str,
        side: str,
        size: int,
        offset: int,
        mode: str,
        pos_side: str | None,
        time_in_force: str,
        kind: str,
        *,
        reduces: bool,
        stp: str,
    ) -> None:
        further = {"type": kind, "timeInForce": time_in_force if kind == "LIMIT" else "GTC", "stpMode": stp}
        price = self.middle[symbol] + offset
        self._order(number, symbol, side, size, mode, pos_side, price, reduceOnly=reduces, **further)

    @rule(number=numbers, symbol=symbols, side=sides, size=sizes, mode=modes, pos_side=pos_sides)
    def bet(self, number: int, symbol: str, side: str, size: int, mode: str, pos_side: str | None) -> None:
        self._order(number, symbol, side, size, mode, pos_side)

    @rule(number=numbers, other=numbers, side=sides, size=sizes, offset=offsets)
    def meet(self, number: int, other: int, side: str, size: int, offset: int) -> None:
        price = self.middle[PERP] + offset
        self._order(number, PERP, side, size, "CROSS", None, price)
        self._order(other, PERP, "SELL" if side == "BUY" else "BUY", size, "CROSS", None, price)

    def _order(
        self,
        number: int,
        symbol: str,
        side: str,
        size: int,
        mode: str,
        pos_side: str | None,
        price: int | None = None,
        **further: Any,
    ) -> None:
        member = self.desk.clearing.member(self.floor.accounts.clients[number])
        used = {position.margin_mode for position in member.positions_of(symbol)}
        body = {**Floor.order_body(side, size, price, symbol=symbol, mgnMode=min(used, default=mode)), **further}
        if member.mode is PositionMode.HEDGE:
            body |= {"posSide": pos_side or ("LONG" if side == "BUY" else "SHORT"), "reduceOnly": False}
        self._ask("POST", "/trade/order", body, number)

    @rule(symbol=symbols, move=st.integers(-300, 300), size=st.integers(1, 5_000))
    def drift(self, symbol: str, move: int, size: int) -> None:
        self._quote(symbol, move, size)

    @rule(move=far, size=st.integers(100, 9_000))
    def jump(self, move: int, size: int) -> None:
        self._quote(PERP, move, size)

    def _quote(self, symbol: str, move: int, size: int) -> None:
        self.middle[symbol] = max(self.middle[symbol] + move, 2_000)
        self.at_s += 1.5
        middle = self.middle[symbol]
        self.floor.book(middle - 1, middle + 1, size=size, at_s=self.at_s, symbol=symbol)

    @rule(offset=offsets, size=sizes, side=st.sampled_from(["buy", "sell"]))
    def market_trade(self, offset: int, size: int, side: Any) -> None:
        self.floor.trade(self.middle[PERP] + offset, size, side, at_s=self.at_s)

    @rule(rate=st.integers(-RATE // 100, RATE // 100))
    def funding(self, rate: int) -> None:
        self.wing.feed.markets[PERP].prices.injected_rate = rate
        due_ns = self.wing.due_ns
        assert due_ns is not None
        self.wing.advance(due_ns)
        self.at_s = (due_ns - NOW_NS) / 10**9 + 1

    @rule(number=numbers, symbol=symbols, mode=modes, leverage=st.integers(1, 75))
    def leverage(self, number: int, symbol: str, mode: str, leverage: int) -> None:
        for side in ("BOTH", "LONG", "SHORT"):
            body = {"symbol": symbol, "mgnMode": mode, "lever": leverage, "posSide": side}
            self._ask("POST", "/position/leverage", body, number)

    @rule(number=numbers, mode=st.sampled_from(["HEDGE", "ONE_WAY"]), clears=st.booleans())
    def mode(self, number: int, mode: str, *, clears: bool) -> None:
        if clears:
            self.floor.do("DELETE", "/trade/allOrders", number=number)
            self._ask("POST", "/trade/positionAll", None, number)
        self._ask("POST", "/position/mode", {"posMode": mode}, number)

    @rule(number=numbers, symbol=symbols, cents=st.integers(1, 10**6), kind=st.sampled_from(["ADD", "REDUCE"]))
    def margin(self, number: int, symbol: str, cents: int, kind: str) -> None:
        body = {"symbol": symbol, "amt": f"{cents / 100:.2f}", "type": kind}
        self._ask("POST", "/trade/position/margin", body, number)

    @rule(number=numbers, symbol=symbols)
    def cancel(self, number: int, symbol: str) -> None:
        self._ask("DELETE", "/trade/allOrders", {"symbols": [symbol]}, number)

    @rule(number=numbers, symbol=symbols, pos_side=pos_sides)
    def close(self, number: int, symbol: str, pos_side: str | None) -> None:
        self._ask("POST", "/trade/position", {"symbol": symbol, "mgnMode": "CROSS", "posSide": pos_side}, number)

    def _ask(self, method: str, path: str, body: Any, number: int) -> None:
        answer = self.floor.ask(method, path, "", body, number=number)
        assert answer["code"] in (200, 400, 10002, 10003, 10004, 10018, 21001, 21721)

    # --- what must hold

    @invariant()
    def all_laws_hold(self) -> None:
        self._read_fills()
        assert self.floor.accounts.totals()["USDT"] == 0
        self.every_client_has_what_its_fills_made()
        self.the_exchange_has_what_the_clients_have_not()
        self.positions_are_the_sums_of_fills()
        self.closing_orders_never_have_more_than_their_position()

    def every_client_has_what_its_fills_made(self) -> None:
        for account in self.floor.accounts.clients:
            number, member = account.number, self.desk.clearing.member(account)
            worth = START + self.cash[number] + self._at_mark(number) - self.swept[number]
            assert self.desk.standing(account).equity == worth
            assert all(one.cost_atoms == 0 for one in member.finished)

    def the_exchange_has_what_the_clients_have_not(self) -> None:
        members = self.desk.clearing.members.values()
        unrealised = 0
        for member in members:
            for (symbol, _), position in member.positions.items():
                unrealised += position.unrealised_atoms(self._mark(symbol))
        at_mark = sum(self._at_mark(account.number) for account in self.floor.accounts.clients)
        assert self._own("house") - unrealised == self.house - at_mark
        assert self._own("fees") == self.fees
        assert self._own("insurance") == self.insurance

    def positions_are_the_sums_of_fills(self) -> None:
        for account in self.floor.accounts.clients:
            member = self.desk.clearing.member(account)
            for symbol in SYMBOLS:
                for side in PosSide:
                    position = member.position(symbol, side)
                    held = position.contracts if position else 0
                    assert held == self.contracts[account.number, symbol, side]
                    if position is not None:
                        assert position.margin_atoms >= 0
                        assert position.is_isolated or not position.margin_atoms
                    if side is not PosSide.BOTH:
                        assert held * (1 if side is PosSide.LONG else -1) >= 0

    def closing_orders_never_have_more_than_their_position(self) -> None:
        for account in self.floor.accounts.clients:
            orders = self.desk.orders(account)
            waiting: Counter[tuple[str, PosSide, Side]] = Counter()
            for order in orders.living.values():
                assert order.is_resting
                if order.only_closes:
                    waiting[order.symbol, order.pos_side, order.side] += order.leaves_lots
            for (symbol, pos_side, side), contracts in waiting.items():
                assert contracts <= -side.sign * self.contracts[account.number, symbol, pos_side]

    # --- the ledger

    def _read_fills(self) -> None:
        for account in self.floor.accounts.clients:
            fills = self.desk.orders(account).fills
            new = list(fills)[self.fills_seen[account.number] :]
            self.fills_seen[account.number] += len(new)
            for fill in new:
                self._book(account.number, fill)

    def _book(self, number: int, fill: FillRecord) -> None:
        signed = fill.side.sign * fill.contracts
        value = fill.contract.value_atoms(fill.price_ticks, signed)
        self.contracts[number, fill.contract.symbol, fill.pos_side] += signed
        self.cash[number] -= value + fill.fee_atoms
        self.fees += fill.fee_atoms
        self.house += value
        if fill.type is FillType.LIQUIDATION:
            assert fill.fee_atoms == 0

    def _at_mark(self, number: int) -> int:
        return sum(
            self.wing.feed.markets[symbol].contract.value_atoms(self._mark(symbol), contracts)
            for (owner, symbol, _), contracts in self.contracts.items()
            if owner == number
        )

    def _mark(self, symbol: str) -> int:
        mark = self.wing.feed.markets[symbol].prices.mark_ticks
        assert mark is not None
        return mark

    def _own(self, name: str) -> int:
        account = getattr(self.floor.accounts, name)
        return account.wallet(AccountType.FUTURES, "USDT").total_atoms


Conservation.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestConservation = Conservation.TestCase
