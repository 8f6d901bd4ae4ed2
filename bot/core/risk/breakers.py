"""The circuit breakers: they watch losses and health, and close latches; only some open by themselves.

Everything is an answer to a message, in the gate's own turn: what a breaker says here stands before the next order is
looked at. Automatic changes only tighten, except that a trouble of the connection, the load or the clock that is over
for long enough opens its latch again. docs/breakers.md lists every breaker with its bound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from bot.core.instrument import ATOM_SCALE, Instrument, Side, decimal_of
from bot.core.latches import EVERYTHING, OPERATOR, Latches, latch_name, strategy_scope, symbol_scope
from bot.core.messages import (
    SECOND_NS,
    AccountCompared,
    Condition,
    EquityMarked,
    FillBooked,
    HealthReported,
    Liquidated,
    OperatorCommand,
    Recovered,
    RiskState,
    RiskStateChanged,
    Wallet,
)
from bot.core.risk.bounds import VELOCITY_NS
from bot.core.risk.health import BLIND, BOOK, EVENTS, HALTING, LIQUIDATION, QUIET_NS, RETURNING, Health
from bot.core.risk.limits import Limits
from bot.core.risk.losses import HighWindow, RoundTrips, Slips, SmoothedEquity
from bot.core.risk.rate import DAY_NS

HOUR_NS: Final = 3_600 * SECOND_NS
RETURNS_MAX: Final = 3
"""A latch that opened by itself this often within an hour stays closed the next time."""
GAP_NS: Final = 5 * SECOND_NS
"""A longer time between two ticks was slept through: no quiet is counted over it."""
EVIDENCE_PARTS: Final = 100
"""Equity as the operator says it may be off by one part in this many."""

FLATTEN: Final = "flatten"
"""Cause of the latch under which everything is sold; it lasts until the operator says something else."""
DAILY_LOSS: Final = "daily_loss"
DRAWDOWN: Final = "drawdown"
VELOCITY: Final = "loss_velocity"
STREAK: Final = "losing_streak"
SLIPPAGE: Final = "slippage"

LOSSES: Final = frozenset({DAILY_LOSS, DRAWDOWN, VELOCITY})
"""The causes that are opened with evidence: the operator says what equity is."""
BY_NAME: Final = frozenset({Condition.INTEGRITY, Condition.STRATEGY_FAILED, Condition.STRATEGY_SLOW})
"""The causes, beside losses in breach, that `resume` leaves closed."""

Said = RiskStateChanged | EquityMarked


class Breakers:
    """All breakers of one gate, their latches, and the baselines that they measure from."""

    def __init__(self, limits: Limits, reconciles: Iterable[Wallet] = ()) -> None:
        """Begin with all latches open. `reconciles`: the wallets that are compared with the exchange's books."""
        self.latches = Latches(limits.groups)
        self._limits = limits
        self._bounds = limits.breakers
        self._health = Health(limits.breakers)
        self._smoothed = SmoothedEquity(limits.breakers.drawdown_smooth_ns)
        self._highs = HighWindow(VELOCITY_NS)
        self._trips = RoundTrips()
        self._slips = Slips()
        self._equity_atoms: int | None = None
        """Equity when it was last known."""
        self._day = -1
        self._day_start_atoms = 0
        self._peak_atoms = 0
        self._fall_atoms = 0
        """From the highest equity until now, after smoothing."""
        self._rush_atoms = 0
        """From the highest equity of the last minutes until now."""
        self._external_atoms = 0
        """What came from outside and is in the baselines."""
        self._forgiven: set[str] = set()
        """Losses that were opened although they stand: they trip again only at their harder bound."""
        self._returned_ns: dict[str, tuple[int, ...]] = {}
        """Latch to when it opened by itself, the last times."""
        self._compared: dict[Wallet, tuple[int, bool]] = dict.fromkeys(reconciles, (0, False))
        """Wallet to when it was last held against our books, and whether they were equal."""
        self._heard_ns: dict[str, int] = {}
        """Symbol to when its book was last whole."""
        self._tick_ns = 0
        self._began_ns = 0

    # --- what the journal knows

    def recover(self, known: Recovered) -> None:
        """Begin as strict as the journal says, with its baselines and counters."""
        for latch in known.latches:
            self.latches.take(latch)
        strictest = self.latches.strictest()
        if known.risk_state.severity > (0 if strictest is None else strictest.state.severity):
            self.latches.take(
                RiskStateChanged(ts_ns=known.ts_ns, state=known.risk_state, cause=known.risk_cause, detail="recovered")
            )
        marked = known.equity
        if marked is not None:
            self._equity_atoms = marked.equity_atoms
            self._day, self._day_start_atoms = marked.day, marked.day_start_atoms
            self._peak_atoms = marked.peak_atoms
            self._fall_atoms = marked.peak_atoms - marked.equity_atoms
            self._external_atoms = marked.external_atoms
            self._forgiven = set(marked.forgiven)
            self._returned_ns = dict(marked.returned_ns)
            self._trips.streaks = dict(marked.losing_streaks)
        for strategy, entries in known.entries.items():
            for symbol, entry_ticks in entries.items():
                self._trips.recover(strategy, symbol, known.holdings[strategy][symbol], entry_ticks)

    def mark(self, now_ns: int) -> EquityMarked | None:
        """Return the baselines and counters for the journal, None before equity was ever known."""
        if self._equity_atoms is None or self._day < 0:
            return None
        return EquityMarked(
            ts_ns=now_ns,
            equity_atoms=self._equity_atoms,
            peak_atoms=self._peak_atoms,
            day=self._day,
            day_start_atoms=self._day_start_atoms,
            external_atoms=self._external_atoms,
            forgiven=tuple(sorted(self._forgiven)),
            losing_streaks={name: count for name, count in sorted(self._trips.streaks.items()) if count},
            returned_ns=dict(self._returned_ns),
        )

    def _marked(self, now_ns: int) -> Iterator[Said]:
        marked = self.mark(now_ns)
        if marked is not None:
            yield marked

    # --- losses

    def watch(self, now_ns: int, equity_atoms: int | None) -> Iterator[Said]:
        """Hold equity, None while it is unknown, against what it was: the day's loss, the drawdown, a rush."""
        if equity_atoms is None:
            return
        self._equity_atoms = equity_atoms
        # Smoothed and rushing equity are without what came from outside meanwhile.
        own_atoms = equity_atoms - self._external_atoms
        smoothed_atoms = equity_atoms
        if self._bounds.drawdown_smooth_ns:
            smoothed_atoms = self._smoothed.add(now_ns, own_atoms) + self._external_atoms
        if self._bounds.velocity_bps:
            self._rush_atoms = self._highs.add(now_ns, own_atoms) - own_atoms
        high_atoms = min(equity_atoms, smoothed_atoms)
        if high_atoms > self._peak_atoms:
            self._peak_atoms = high_atoms
            self._forgiven.discard(DRAWDOWN)
        yield from self._roll_day(now_ns, equity_atoms)
        self._fall_atoms = self._peak_atoms - max(equity_atoms, smoothed_atoms)
        yield from self._judge(now_ns, equity_atoms)

    def _roll_day(self, now_ns: int, equity_atoms: int) -> Iterator[Said]:
        day = now_ns // DAY_NS
        if day == self._day:
            return
        # A clock behind the last session's (a replay, a correction) is no new day: it forgives no loss.
        is_later = day > self._day
        self._day_start_atoms = equity_atoms if is_later else max(equity_atoms, self._day_start_atoms)
        self._day = day
        if is_later:
            self._forgiven.discard(DAILY_LOSS)
        yield from self._marked(now_ns)

    def _judge(self, now_ns: int, equity_atoms: int) -> Iterator[Said]:
        limits = self._limits
        loss_atoms, start_atoms = self._day_start_atoms - equity_atoms, self._day_start_atoms
        yield from self._lose(
            now_ns, DAILY_LOSS, loss_atoms, start_atoms, limits.daily_loss_bps, limits.daily_loss_halt_bps
        )
        yield from self._lose(
            now_ns, DRAWDOWN, self._fall_atoms, self._peak_atoms, limits.drawdown_bps, limits.drawdown_halt_bps
        )
        bound_bps = self._bounds.velocity_bps
        if bound_bps:
            base_atoms = equity_atoms + self._rush_atoms
            yield from self._lose(now_ns, VELOCITY, self._rush_atoms, base_atoms, bound_bps, bound_bps)

    def _lose(
        self, now_ns: int, cause: str, loss_atoms: int, base_atoms: int, reduce_bps: int, halt_bps: int
    ) -> Iterator[Said]:
        loss_bps10k = loss_atoms * 10_000
        if loss_bps10k < base_atoms * reduce_bps or base_atoms <= 0:
            return
        if loss_bps10k >= base_atoms * halt_bps:
            state, bound_bps = RiskState.HALTED, halt_bps
        elif cause in self._forgiven:
            return
        else:
            state, bound_bps = RiskState.REDUCE_ONLY, reduce_bps
        detail = f"{cause} {loss_bps10k // base_atoms} bps >= {bound_bps} bps"
        yield from self.close(now_ns, state, cause, detail)

    def flow(self, now_ns: int, atoms: int) -> Iterator[Said]:
        """Shift the baselines by what came from outside, or went there, in quote: that is no gain and no loss."""
        self._external_atoms += atoms
        self._peak_atoms += atoms
        self._day_start_atoms += atoms
        if self._equity_atoms is not None:
            self._equity_atoms += atoms
        yield from self._marked(now_ns)

    # --- what strategies do

    def decide(self, client_id: str, strategy: str, side: Side, price_ticks: int) -> None:
        """Remember at which price an order was decided."""
        if self._bounds.slippage_bps and price_ticks > 0:
            self._slips.decide(client_id, strategy, side, price_ticks)

    def book(self, booked: FillBooked, instrument: Instrument, before_atoms: int) -> Iterator[Said]:
        """Take a fill of a strategy that held `before_atoms` before it; count the losses of its positions."""
        if self._bounds.slippage_bps:
            self._slips.book(booked.fill)
        if not self._bounds.losing_closes:
            return
        after_atoms = booked.strategy_atoms
        if self._trips.book(booked.strategy, instrument, booked.fill, before_atoms, after_atoms):
            yield from self._count_close(booked.ts_ns, booked.strategy)

    def end_position(
        self, liquidated: Liquidated, strategy: str, instrument: Instrument, before_atoms: int
    ) -> Iterator[Said]:
        """Take the end of one strategy's position by the exchange's hand."""
        if not self._bounds.losing_closes:
            return
        if self._trips.end(strategy, instrument, liquidated.price_ticks, before_atoms):
            yield from self._count_close(liquidated.ts_ns, strategy)

    def _count_close(self, now_ns: int, strategy: str) -> Iterator[Said]:
        bound, streak = self._bounds.losing_closes, self._trips.streaks[strategy]
        if streak >= bound:
            detail = f"{streak} positions in a row closed at a loss >= {bound}"
            yield from self.close(now_ns, RiskState.REDUCE_ONLY, STREAK, detail, strategy_scope(strategy))
        yield from self._marked(now_ns)

    def end_order(self, now_ns: int, client_id: str) -> Iterator[Said]:
        """Take the end of an order, all its fills known: hold what it cost against the price of its decision."""
        strategy = self._slips.end(client_id)
        mean_ppm = None if strategy is None else self._slips.mean_ppm(strategy)
        if strategy is None or mean_ppm is None or mean_ppm < self._bounds.slippage_bps * 100:
            return
        detail = f"slippage {mean_ppm / 100:.1f} bps in the mean >= {self._bounds.slippage_bps} bps"
        yield from self.close(now_ns, RiskState.REDUCE_ONLY, SLIPPAGE, detail, strategy_scope(strategy))

    # --- health

    def report(self, now_ns: int, report: HealthReported) -> Iterator[Said]:
        """Take what somebody says about a condition."""
        cause, scope, detail = str(report.condition), report.scope, report.detail or "not well"
        severity = RiskState.HALTED if cause in HALTING else report.severity
        is_limit = cause == Condition.RATE_LIMIT
        if report.is_well:
            if cause not in EVENTS and not is_limit:
                self._end(now_ns, cause, scope)
        elif cause in EVENTS or (is_limit and severity is RiskState.HALTED):
            yield from self.close(now_ns, severity, cause, detail, scope)
        elif is_limit:
            self._health.refuse(now_ns, scope, detail)
        else:
            self._health.begin(now_ns, cause, scope, severity, detail)
        yield from self._meet_demands(now_ns)

    def compare(self, now_ns: int, compared: AccountCompared) -> None:
        """Take how our books compare to the exchange's. What a difference calls for is reported by who knows why."""
        self._compared[compared.market] = now_ns, not compared.differences

    def watch_book(self, now_ns: int, symbol: str, quote_ns: int | None, *, is_held: bool) -> None:
        """Take the time of a market's last quote, None while its book is lost, and whether something is held there."""
        if not self._bounds.book_ns:
            return
        heard_ns = self._heard_ns.get(symbol, now_ns) if quote_ns is None else quote_ns
        self._heard_ns[symbol] = heard_ns
        scope = symbol_scope(symbol)
        if is_held and now_ns - heard_ns >= self._bounds.book_ns:
            self._health.begin(heard_ns, BOOK, scope, detail=f"no book of {symbol}")
        else:
            self._end(now_ns, BOOK, scope)

    def watch_liquidation(self, now_ns: int, symbol: str, distance_bps: int | None) -> Iterator[Said]:
        """Take how far a perpetual is from its liquidation, None where it is not held."""
        scope, bounds = symbol_scope(symbol), self._bounds
        if distance_bps is None or distance_bps >= bounds.liquidation_bps:
            self._end(now_ns, LIQUIDATION, scope)
            return
        detail = f"liquidation {distance_bps} bps away < {bounds.liquidation_bps} bps"
        self._health.begin(now_ns, LIQUIDATION, scope, detail=detail)
        if distance_bps < bounds.liquidation_flatten_bps:
            yield from self.close(now_ns, RiskState.REDUCE_ONLY, FLATTEN, detail, scope)

    def watch_sight(self, now_ns: int, *, is_blind: bool) -> None:
        """Take whether equity is unknown."""
        if is_blind and self._bounds.blind_ns:
            self._health.begin(now_ns, BLIND, detail="equity unknown: something held has no price")
        else:
            self._end(now_ns, BLIND, EVERYTHING)

    def tick(self, now_ns: int) -> Iterator[Said]:
        """Let patience run out and quiet be over."""
        if now_ns - self._tick_ns > GAP_NS:
            self._health.restart_quiet(now_ns)
            self._began_ns = now_ns
        self._tick_ns = now_ns
        yield from self._meet_demands(now_ns)
        if len(self.latches):
            yield from self._return(now_ns)

    def _end(self, now_ns: int, cause: str, scope: str) -> None:
        is_latched = self.latches.find(cause, scope) is not None
        self._health.end(now_ns, cause, scope, is_latched=is_latched)

    def _meet_demands(self, now_ns: int) -> Iterator[Said]:
        for demand in list(self._health.demands(now_ns)):
            yield from self.close(now_ns, demand.state, demand.cause, demand.detail, demand.scope)

    def _return(self, now_ns: int) -> Iterator[Said]:
        """Open the latches whose trouble is over for long enough."""
        for latch in self.latches:
            if latch.cause not in RETURNING or latch.state is not RiskState.REDUCE_ONLY:
                continue
            trouble = self._health.find(latch.cause, latch.scope)
            # Of a trouble before this session nobody says how long it lasted, only that it is not there now.
            well_ns = self._began_ns if trouble is None else trouble.well_ns
            quiet_ns = QUIET_NS if trouble is None else trouble.quiet_ns
            if well_ns is None or now_ns - well_ns < quiet_ns:
                continue
            if self._returns_before(latch) >= RETURNS_MAX or not self._is_reconciled_since(well_ns):
                continue
            name = latch_name(latch)
            recent = (ns for ns in self._returned_ns.get(name, ()) if ns > now_ns - HOUR_NS)
            self._returned_ns[name] = (*recent, now_ns)
            yield self._open(now_ns, latch, f"well for {(now_ns - well_ns) // SECOND_NS} s", who="")
            yield from self._marked(now_ns)

    def _returns_before(self, latch: RiskStateChanged) -> int:
        return sum(latch.ts_ns - HOUR_NS < ns <= latch.ts_ns for ns in self._returned_ns.get(latch_name(latch), ()))

    def _is_reconciled_since(self, ns: int) -> bool:
        """Return whether every wallet was found equal since then; on paper there is none."""
        return all(compared_ns >= ns and is_equal for compared_ns, is_equal in self._compared.values())

    # --- latches

    def close(
        self, now_ns: int, state: RiskState, cause: str, detail: str, scope: str = EVERYTHING
    ) -> Iterator[RiskStateChanged]:
        """Close a latch, unless it is closed as far already."""
        latch = self.latches.find(cause, scope)
        if latch is None or latch.state.severity < state.severity:
            change = RiskStateChanged(ts_ns=now_ns, state=state, cause=cause, detail=detail, scope=scope)
            self.latches.take(change)
            yield change

    def _open(self, now_ns: int, latch: RiskStateChanged, detail: str, who: str) -> RiskStateChanged:
        change = RiskStateChanged(
            ts_ns=now_ns, state=RiskState.NORMAL, cause=latch.cause, detail=detail, scope=latch.scope, who=who
        )
        self.latches.take(change)
        self._health.forget(latch.cause, latch.scope)
        return change

    def resume(self, now_ns: int, command: OperatorCommand) -> Iterator[Said]:
        """Open every latch that nothing speaks for any more: neither a loss, nor a trouble, nor broken integrity."""
        opened = [latch for latch in self.latches if not self._keeps(latch)]
        for latch in opened:
            self._begin_anew(latch)
            yield self._open(now_ns, latch, "resume", command.who or OPERATOR)
        if opened:
            yield from self._marked(now_ns)

    def kept(self) -> str:
        """Return what `resume` left closed, and what to do about it, "" for nothing."""
        names = [latch_name(latch) for latch in self.latches]
        if not names:
            return ""
        return f"{', '.join(names)} stays closed; look into it, then `bot rearm {names[0]}`"

    def _keeps(self, latch: RiskStateChanged) -> bool:
        if latch.cause in LOSSES:
            return self._breach(latch.cause) is not RiskState.NORMAL
        return latch.cause in BY_NAME or bool(self._health.is_lasting(latch.cause, latch.scope))

    def rearm(self, now_ns: int, command: OperatorCommand) -> tuple[str, list[Said]]:
        """Open the one latch that `command` names; return why not, or "", and what is to be said.

        A loss wants evidence: equity, as the operator knows it. Its baseline stays where it is unless asked for.
        """
        cause, _, scope = command.subject.partition("@")
        latch = self.latches.find(cause, scope)
        if latch is None:
            closed = ", ".join(latch_name(other) for other in self.latches) or "none is"
            return f"{command.subject or 'nothing'} is not closed; closed: {closed}", []
        refusal = self._refuses(latch, command)
        if refusal:
            return refusal, []
        if cause in (DAILY_LOSS, DRAWDOWN) and not command.is_new_baseline:
            self._forgiven.add(cause)
        if command.is_new_baseline:
            self._set_baseline(cause)
        self._begin_anew(latch)
        said: list[Said] = [self._open(now_ns, latch, self._evidence(command), command.who or OPERATOR)]
        return "", [*said, *self._marked(now_ns)]

    def _begin_anew(self, latch: RiskStateChanged) -> None:
        """Forget what a latch was closed for, where that is a count."""
        strategy = latch.scope.partition(":")[2]
        if latch.cause == VELOCITY:
            self._highs.forget()
            self._rush_atoms = 0
        elif latch.cause == STREAK:
            self._trips.streaks.pop(strategy, None)
        elif latch.cause == SLIPPAGE:
            self._slips.forget(strategy)

    def _refuses(self, latch: RiskStateChanged, command: OperatorCommand) -> str:
        """Return why a latch stays closed, or nothing."""
        trouble = self._health.is_lasting(latch.cause, latch.scope)
        if trouble:
            return f"{latch_name(latch)} stays closed, as it is still not well: {trouble}"
        is_loss, equity_atoms = latch.cause in LOSSES, self._equity_atoms
        has_baseline = latch.cause in (DAILY_LOSS, DRAWDOWN)
        if command.is_new_baseline and not has_baseline:
            return f"{latch.cause} has no baseline"
        if command.equity_atoms is None:
            return f"{latch.cause} wants evidence: say what equity is now, with --equity" if is_loss else ""
        if equity_atoms is None:
            return "equity is not known now"
        if abs(command.equity_atoms - equity_atoms) * EVIDENCE_PARTS > abs(equity_atoms):
            return f"equity is {_money(equity_atoms)}, not {_money(command.equity_atoms)}"
        if has_baseline and not command.is_new_baseline and self._breach(latch.cause) is RiskState.HALTED:
            return f"{latch.cause} would halt again at once: {latch.detail}; --new-baseline measures from now on"
        return ""

    def _breach(self, cause: str) -> RiskState:
        """Return how far a loss stands against its bounds now, whatever its latch says."""
        limits, equity_atoms = self._limits, self._equity_atoms or 0
        loss_atoms, base_atoms, reduce_bps, halt_bps = {
            DAILY_LOSS: (
                self._day_start_atoms - equity_atoms,
                self._day_start_atoms,
                limits.daily_loss_bps,
                limits.daily_loss_halt_bps,
            ),
            DRAWDOWN: (self._fall_atoms, self._peak_atoms, limits.drawdown_bps, limits.drawdown_halt_bps),
            VELOCITY: (
                self._rush_atoms,
                equity_atoms + self._rush_atoms,
                self._bounds.velocity_bps,
                self._bounds.velocity_bps,
            ),
        }[cause]
        if loss_atoms * 10_000 >= base_atoms * halt_bps:
            return RiskState.HALTED
        return RiskState.REDUCE_ONLY if loss_atoms * 10_000 >= base_atoms * reduce_bps else RiskState.NORMAL

    def _set_baseline(self, cause: str) -> None:
        assert self._equity_atoms is not None, "evidence was asked for before"
        self._forgiven.discard(cause)
        if cause == DAILY_LOSS:
            self._day_start_atoms = self._equity_atoms
        else:
            self._peak_atoms = self._equity_atoms
            self._fall_atoms = 0
            self._smoothed = SmoothedEquity(self._bounds.drawdown_smooth_ns)

    def _evidence(self, command: OperatorCommand) -> str:
        words = ["re-armed"]
        if command.equity_atoms is not None:
            words.append(f"at equity {_money(command.equity_atoms)}")
        if command.is_new_baseline:
            words.append("with a new baseline")
        return " ".join(words)

    # --- the operator

    def operate(self, now_ns: int, state: RiskState, cause: str, detail: str) -> Iterator[RiskStateChanged]:
        """Close an operator's latch, and say so even where it is closed as far already."""
        latch = self.latches.find(cause)
        if latch is None or latch.state.severity <= state.severity:
            change = RiskStateChanged(ts_ns=now_ns, state=state, cause=cause, detail=detail)
            self.latches.take(change)
            yield change


def _money(atoms: int) -> str:
    return f"{decimal_of(atoms, ATOM_SCALE):,.2f}"
