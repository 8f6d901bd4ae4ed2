"""Serves the simulated exchange alone, for anybody's client."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import msgspec
import trio

from bot.core.instrument import ATOM_SCALE, decimal_of
from bot.errors import SettingsError
from bot.exchange.simulated.accounts import DEMO_FUTURES, DEMO_SPOT, Funding, demo_accounts
from bot.exchange.simulated.events import MarketSource
from bot.exchange.simulated.faults import FaultSchedule, decode_schedule
from bot.exchange.simulated.futures_instruments import DEFAULT_SYMBOLS, generated_markets
from bot.exchange.simulated.futures_wing import FuturesWing
from bot.exchange.simulated.recording import merge_sources, open_recording, symbol_in_name
from bot.exchange.simulated.server import open_exchange


class ServePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to serve."""

    port: int
    recordings: tuple[Path, ...]
    """Markets to play; none: generated ones."""
    seed: int
    accounts: tuple[tuple[str, str], ...]
    """(key, secret) of accounts beside the demo accounts, with as much money."""
    faults: Path | None = None
    """What goes wrong, and when; JSON, or TOML where the name ends so."""


class ServedAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account that a client may use. The secret is worth nothing anywhere else."""

    key: str
    secret: str
    spot: dict[str, Decimal]
    futures: dict[str, Decimal]


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is served, and for whom."""

    rest: str
    ws: str
    accounts: tuple[ServedAccount, ...]


async def serve_exchange(plan: ServePlan, on_ready: Callable[[Served], None]) -> None:
    """Serve until SIGTERM, SIGINT or the end of the recordings.

    Raises:
        OSError: the port is taken.
        RecordingError: a recording cannot be read.
        SettingsError: the faults cannot be read.

    """
    faults = _faults(plan.faults) if plan.faults is not None else None
    fundings = [
        *demo_accounts(plan.seed),
        *(Funding(key, secret, DEMO_SPOT, DEMO_FUTURES) for key, secret in plan.accounts),
    ]
    source = await trio.to_thread.run_sync(_source, plan)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_exchange(
            source,
            speed=1.0,
            port=plan.port,
            seed=plan.seed,
            accounts=fundings,
            futures=FuturesWing,
            faults=faults,
        ) as exchange:
            exchange.start()
            on_ready(_served(exchange.rest_url, exchange.ws_url, fundings))
            async with trio.open_nursery() as nursery:

                async def watch() -> None:
                    async for _ in signals:
                        nursery.cancel_scope.cancel()

                nursery.start_soon(watch)
                await exchange.ended.wait()
                nursery.cancel_scope.cancel()


def _faults(path: Path) -> FaultSchedule:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the faults: {error.strerror}") from error
    return decode_schedule(data, str(path), is_toml=path.suffix == ".toml")


def _source(plan: ServePlan) -> MarketSource:
    if plan.recordings:
        usual = DEFAULT_SYMBOLS[0]
        return merge_sources([open_recording(path, symbol_in_name(path) or usual) for path in plan.recordings])
    return generated_markets(DEFAULT_SYMBOLS, plan.seed, time.time_ns())


def _served(rest_url: str, ws_url: str, fundings: list[Funding]) -> Served:
    return Served(
        rest=rest_url,
        ws=ws_url.removesuffix("/ws/public"),
        accounts=tuple(
            ServedAccount(key=one.key, secret=one.secret, spot=_money(one.spot), futures=_money(one.futures))
            for one in fundings
        ),
    )


def _money(wallet: Mapping[str, int]) -> dict[str, Decimal]:
    return {currency: decimal_of(atoms, ATOM_SCALE) for currency, atoms in wallet.items()}
