"""What one run of the daemon is to do: settled before anything starts, out of settings and the command line."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Literal

import msgspec

from actors.locks import Opened
from bot.config import Settings, settings_digest
from bot.control.protocol import OrderRow, PositionRow, View
from bot.core.messages import RiskState

MarketKind = Literal["poloniex", "generated", "recording"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One run."""

    settings: Settings
    state_dir: Path
    exchange: Literal["auto", "poloniex", "simulated"]
    recordings: tuple[Path, ...] = ()
    """Recorded markets to play on the simulated exchange; none: a generated one."""
    speed: float | None = 1.0
    """Market seconds a second; None: as fast as the bot can follow, in lockstep."""
    for_ns: int | None = None
    """End after so much time: of the market's clock in lockstep, else of ours."""
    live: Opened | None = None
    """With whose money; None: on paper."""

    @property
    def is_lockstep(self) -> bool:
        """Return whether the market's clock is the bot's."""
        return self.speed is None

    @property
    def is_simulated_live(self) -> bool:
        """Return whether live trading goes to a simulated exchange on this machine."""
        return self.live is not None and self.live.is_simulated

    def account(self, kind: MarketKind) -> str:
        """Return the name of the account of this run: each has a journal of its own, and no paper has a live one's.

        Money made on one market is never spent on another. A replay's account belongs to just this replay: these
        recordings with these settings, so that running it again begins again.
        """
        if self.live is not None:
            return f"live-{self.live.account}"
        if kind == "poloniex":
            return "paper-poloniex"
        if kind == "generated" and not self.is_lockstep:
            return "paper-simulated"
        parts = [settings_digest(self.settings), str(self.speed), str(self.for_ns)]
        parts += [f"{path.name} {path.stat().st_size}" for path in self.recordings]
        return "replay-" + hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


class Holdings(msgspec.Struct, frozen=True, kw_only=True):
    """What is owned and what is working, in whole units."""

    cash: Decimal
    positions: dict[str, PositionRow]
    open_orders: tuple[OrderRow, ...]


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to. Sums are in whole units of the quote currency, quantities in base currency."""

    exchange: str
    reason: str
    """Why it ended."""
    events: int
    """Market events that the simulated exchange played; 0 on Poloniex."""
    frames: int
    """Frames with market data that the feed received."""
    signals: int
    orders: int
    denied: int
    fills: int
    quote: str
    equity: Decimal | None
    """None while a held coin has no price."""
    cash: Decimal
    positions: dict[str, PositionRow]
    open_orders: tuple[OrderRow, ...]
    recovered: Holdings
    """What the journal held when the run began."""
    risk_state: RiskState
    reconnects: int
    queue_depth_max: int
    epoch: int
    journal: str
    journal_records: int
    journal_hash: str
    state_dir: str
    seconds: float


def holdings(view: View) -> Holdings:
    """Return what is owned and what works, out of a view."""
    return Holdings(
        cash=view.cash,
        positions={row.symbol: row for row in view.positions if row.quantity},
        open_orders=view.orders,
    )
