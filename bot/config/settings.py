"""What can be set: one frozen record, each field with its type and its bound; default.toml says what it means."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from bot.strategies import AnyStrategySettings

APP_NAME: Final = "poloniex-bot"
CANDLE_TIMEFRAMES: Final = ("1m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "6h", "12h", "1d", "3d", "1w")
"""The candles that the exchange makes; source: Poloniex spot API, "Candles"."""


class Bound(NamedTuple):
    """The range of a Decimal; msgspec's own bounds are for int and float only."""

    gt: int | None = None
    ge: int | None = None
    le: int | None = None
    decimals: int = 6


Symbol = Annotated[
    str,
    msgspec.Meta(pattern=r"^[A-Z0-9]{1,20}_[A-Z0-9]{1,20}(_PERP)?\Z", description="a symbol such as BTC_USDT"),
]
HttpUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^https?://[^\s/?#]+[^\s?#]*\Z",
        max_length=500,
        description="an address such as https://example.org",
    ),
]
WsUrl = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^wss?://[^\s/?#]+[^\s?#]*\Z",
        max_length=500,
        description="an address such as wss://example.org/ws",
    ),
]
Percent = Annotated[Decimal, Bound(gt=0, le=100)]
PatienceSeconds = Annotated[int, msgspec.Meta(ge=1, le=3600)]
PercentOrOff = Annotated[Decimal, Bound(ge=0, le=100)]
Share = Annotated[Decimal, Bound(ge=0, le=100)]
"""A percentage of which 0 means that nobody looks at it."""
AllowedSymbol = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(all|[A-Z0-9]{1,20}_[A-Z0-9]{1,20}(_PERP)?)\Z",
        description='a symbol such as BTC_USDT, or "all"',
    ),
]
GroupText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z0-9_-]{1,32}=[A-Z0-9_]{3,46}(,[A-Z0-9_]{3,46}){0,49}\Z",
        max_length=2_500,
        description="a name and its symbols such as majors=BTC_USDT,ETH_USDT",
    ),
]
QuantityText = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Z0-9]{1,20}_[A-Z0-9]{1,20}(_PERP)?=[0-9]{1,12}(\.[0-9]{1,12})?\Z",
        description="a symbol and a quantity such as BTC_USDT=0.5",
    ),
]
PositionSize = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(own|all|[0-9]{1,12}(\.[0-9]{1,6})?%?)\Z",
        description='"own", "all", a share of equity such as "25%", or quote currency such as "1000"',
    ),
]
"""How large a position is; `bot/backtest/job.py` reads it."""
FeeBps = Annotated[Decimal, Bound(ge=0, le=1000)]
SilenceSeconds = Annotated[float, msgspec.Meta(ge=1, le=86_400)]
TimeoutSeconds = Annotated[float, msgspec.Meta(ge=0.1, le=300)]
BackoffSeconds = Annotated[float, msgspec.Meta(ge=0.01, le=3600)]
AgeMs = Annotated[int, msgspec.Meta(ge=100, le=60_000)]
AccountName = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^([a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)?\Z",
        max_length=32,
        description='1 to 32 characters a-z, 0-9 and - (not first or last), or ""',
    ),
]
DeadManSeconds = Annotated[int, msgspec.Meta(ge=0, le=600)]
"""0, or what the exchange allows: 10 to 600."""
DistanceMs = Annotated[int, msgspec.Meta(ge=0, le=60_000)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file; `config/default.toml` says what its keys mean."""


class BotSettings(_Section, frozen=True, kw_only=True):
    """[bot]."""

    mode: Literal["paper", "live"]
    state_dir: str
    seed: Annotated[int, msgspec.Meta(ge=0, le=4_294_967_295)]

    @property
    def state_path(self) -> Path:
        """Return the directory of the journal, the lock and the control socket, as an absolute path."""
        if not self.state_dir:
            import platformdirs

            return platformdirs.user_state_path(APP_NAME, appauthor=False)
        return Path(self.state_dir).expanduser().absolute()


class ExchangeSettings(_Section, frozen=True, kw_only=True):
    """[exchange]."""

    name: Literal["auto", "poloniex", "simulated"]
    symbols: Annotated[tuple[Symbol, ...], msgspec.Meta(min_length=1, max_length=50)]
    rest_url: HttpUrl
    ws_url: WsUrl
    connect_timeout_s: TimeoutSeconds
    request_timeout_s: TimeoutSeconds
    probe_timeout_s: Annotated[float, msgspec.Meta(ge=0.1, le=60)]

    @property
    def quote(self) -> str:
        """Return the quote coin that all symbols share."""
        return quote_of(self.symbols[0])


class FeedSettings(_Section, frozen=True, kw_only=True):
    """[feed]."""

    websocket: Literal["trio-websocket", "lean"]
    book_silence_s: SilenceSeconds
    trades_silence_s: SilenceSeconds
    ticker_silence_s: SilenceSeconds
    candles_silence_s: SilenceSeconds
    ping_interval_s: Annotated[float, msgspec.Meta(ge=1, le=25)]
    backoff_min_s: BackoffSeconds
    backoff_max_s: BackoffSeconds
    history_bars: Annotated[int, msgspec.Meta(ge=0, le=500)]


class PaperSettings(_Section, frozen=True, kw_only=True):
    """[paper]."""

    cash: Annotated[Decimal, Bound(gt=0, le=10**12, decimals=12)]
    maker_fee_bps: FeeBps
    taker_fee_bps: FeeBps
    latency_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    latency_p99_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    response_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    response_p99_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    maintenance_pct: Annotated[Decimal, Bound(ge=0, le=50)]
    liquidation_fee_pct: Annotated[Decimal, Bound(ge=0, le=50)]


class LiveSettings(_Section, frozen=True, kw_only=True):
    """[live]."""

    account: AccountName
    key_file: str
    keyring: bool
    key_cannot_withdraw: bool
    wallets: Annotated[tuple[Literal["spot", "futures"], ...], msgspec.Meta(min_length=1, max_length=2)]
    private_ws_url: WsUrl
    futures_rest_url: HttpUrl
    futures_public_ws_url: WsUrl
    futures_ws_url: WsUrl
    leverage: Annotated[int, msgspec.Meta(ge=1, le=5)]
    margin_mode: Literal["CROSS", "ISOLATED"]
    resting_orders: Literal["cancel", "keep"]
    dead_man_s: DeadManSeconds
    restarts_max: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    memory_max_mib: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)]
    flatten_collar_pct: Annotated[Decimal, Bound(gt=0, le=20)]
    flatten_rounds: Annotated[int, msgspec.Meta(ge=1, le=100)]

    @property
    def key_path(self) -> Path | None:
        """Return the path of the key file, or None where there is none."""
        return Path(self.key_file).expanduser() if self.key_file else None


class RiskSettings(_Section, frozen=True, kw_only=True):
    """[risk]."""

    max_order_value: Annotated[Decimal, Bound(gt=0, le=10**9, decimals=12)]
    max_position_pct: Percent
    max_gross_pct: Percent
    collar_pct: Percent
    stale_ms: AgeMs
    intent_ttl_ms: AgeMs
    orders_per_second: Annotated[int, msgspec.Meta(ge=1, le=50)]
    orders_per_minute: Annotated[int, msgspec.Meta(ge=1, le=3000)]
    max_open_orders: Annotated[int, msgspec.Meta(ge=1, le=200)]
    passive_ttl_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)]
    daily_loss_pct: Percent
    daily_loss_halt_pct: Percent
    drawdown_pct: Percent
    drawdown_halt_pct: Percent
    drawdown_smooth_s: Annotated[int, msgspec.Meta(ge=0, le=600)]
    loss_velocity_pct: PercentOrOff
    max_losing_closes: Annotated[int, msgspec.Meta(ge=0, le=100)]
    differences_s: Annotated[int, msgspec.Meta(ge=1, le=600)]
    differences_halt_s: PatienceSeconds
    unknown_order_s: Annotated[int, msgspec.Meta(ge=1, le=600)]
    unknown_order_halt_s: PatienceSeconds
    cancels_fail_s: PatienceSeconds
    rate_limit_answers: Annotated[int, msgspec.Meta(ge=1, le=100)]
    private_stream_s: Annotated[int, msgspec.Meta(ge=1, le=600)]
    book_lost_s: PatienceSeconds
    liquidation_pct: PercentOrOff
    liquidation_flatten_pct: PercentOrOff
    mean_slippage_bps: FeeBps
    equity_unknown_s: Annotated[int, msgspec.Meta(ge=0, le=3600)]
    allowed: tuple[AllowedSymbol, ...]
    groups: tuple[GroupText, ...]
    mark_stale_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)]
    account_stale_s: Annotated[int, msgspec.Meta(ge=0, le=600)]
    notional_headroom_pct: Annotated[Decimal, Bound(ge=0, le=10)]
    passive_collar_pct: Annotated[Decimal, Bound(ge=0, le=50)]
    market_slippage_pct: Annotated[Decimal, Bound(ge=0, le=3)]
    depth_share_pct: Annotated[Decimal, Bound(ge=0, le=50)]
    max_order_pct: Annotated[Decimal, Bound(ge=0, le=25)]
    max_order_qty: tuple[QuantityText, ...]
    max_order_multiple: Annotated[int, msgspec.Meta(ge=0, le=100)]
    forbid_self_cross: bool
    duplicate_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)]
    fee_headroom_pct: Annotated[Decimal, Bound(ge=0, le=10)]
    margin_buffer_pct: Share
    max_net_pct: Share
    max_strategy_pct: Share
    max_group_pct: Share
    max_leverage: Annotated[Decimal, Bound(ge=0, le=5)]
    liquidation_distance_pct: Share
    maintenance_pct: Annotated[Decimal, Bound(ge=0, le=50)]
    max_funding_pct: Annotated[Decimal, Bound(ge=0, le=5)]
    orders_per_day: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    cancels_per_second: Annotated[int, msgspec.Meta(ge=0, le=50)]
    cancels_per_minute: Annotated[int, msgspec.Meta(ge=0, le=3000)]
    max_open_orders_symbol: Annotated[int, msgspec.Meta(ge=0, le=200)]
    max_unknown_orders: Annotated[int, msgspec.Meta(ge=0, le=10)]
    max_repeats: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    strategy_budget_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)]
    max_orders_per_trade: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    max_reject_pct: Share
    max_trades_per_day: Annotated[int, msgspec.Meta(ge=0, le=100_000)]
    max_turnover: Annotated[Decimal, Bound(ge=0, le=10_000)]
    ramp_pct: Percent


class BacktestSettings(_Section, frozen=True, kw_only=True):
    """[backtest]."""

    capital: Annotated[Decimal, Bound(gt=0, le=10**12, decimals=12)]
    size: PositionSize
    maker_fee_bps: FeeBps
    taker_fee_bps: FeeBps
    fee_in: Literal["quote", "received"]
    slippage: Literal["none", "fixed", "spread", "volume"]
    slippage_bps: FeeBps
    half_spread_ticks: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
    latency_ms: Annotated[int, msgspec.Meta(ge=0, le=86_400_000)]
    volume_share_pct: Annotated[Decimal, Bound(ge=0, le=100)]
    leverage: Annotated[int, msgspec.Meta(ge=1, le=200)]
    maintenance_pct: Annotated[Decimal, Bound(ge=0, le=50)]
    liquidation_fee_pct: Annotated[Decimal, Bound(ge=0, le=50)]
    feed_ms: DistanceMs
    feed_p99_ms: DistanceMs
    entry_ms: DistanceMs
    entry_p99_ms: DistanceMs
    response_ms: DistanceMs
    response_p99_ms: DistanceMs
    queue_power: Annotated[int, msgspec.Meta(ge=0, le=10)]
    book_interval_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)]
    book_levels: Annotated[int, msgspec.Meta(ge=1, le=32)]
    seed: Annotated[int, msgspec.Meta(ge=0, le=4_294_967_295)]


class Settings(_Section, frozen=True, kw_only=True):
    """Everything an operator can set."""

    bot: BotSettings
    exchange: ExchangeSettings
    feed: FeedSettings
    paper: PaperSettings
    live: LiveSettings
    risk: RiskSettings
    backtest: BacktestSettings
    strategies: dict[str, AnyStrategySettings]
    """In the order of their names, so that no order of files or tables changes a run."""


SECTIONS: Final[dict[str, type[_Section]]] = {
    "bot": BotSettings,
    "exchange": ExchangeSettings,
    "feed": FeedSettings,
    "paper": PaperSettings,
    "live": LiveSettings,
    "risk": RiskSettings,
    "backtest": BacktestSettings,
}
STRATEGIES: Final = "strategies"
"""The table of tables that has names of the operator's choice."""


def settings_digest(settings: Settings) -> str:
    """Return 64 hexadecimal digits that name what a daemon goes by on paper, whatever its state directory."""
    table: dict[str, object] = {
        name: getattr(settings, name) for name in (*SECTIONS, STRATEGIES) if name not in {"backtest", "live"}
    }
    table["bot"] = {"state_dir": "", "seed": settings.bot.seed}
    return hashlib.sha256(msgspec.json.encode(table, order="deterministic")).hexdigest()


def quote_of(symbol: str) -> str:
    """Return the quote coin of a symbol."""
    return symbol.split("_")[1]
