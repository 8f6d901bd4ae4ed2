"""A place to trade live in: a key file, a settings file, and the simulated exchange in the place of the real one."""

from __future__ import annotations

from pathlib import Path

from bot.exchange.poloniex.signing import Credentials
from tests.exchange.contract.served import Served
from tests.support.cli import Bench

ACCOUNT = "main"


def write_key(path: Path, credentials: Credentials, mode: int = 0o600) -> Path:
    path.write_text(f"POLONIEX_KEY={credentials.key.reveal()}\nPOLONIEX_SECRET={credentials.secret.reveal()}\n")
    path.chmod(mode)
    return path


def live_settings(served: Served, key_file: Path, *, wallets: str = '"spot"', more: str = "") -> str:
    return f"""
[bot]
mode = "live"
[exchange]
name = "poloniex"
rest_url = "{served.rest}"
ws_url = "{served.ws}/ws/public"
[live]
account = "{ACCOUNT}"
key_file = "{key_file}"
key_cannot_withdraw = true
wallets = [{wallets}]
private_ws_url = "{served.ws}/ws/private"
futures_rest_url = "{served.rest}"
futures_public_ws_url = "{served.ws}/ws/v3/public"
futures_ws_url = "{served.ws}/ws/v3/private"
restarts_max = 1000
{more}
"""


class LiveBench(Bench):
    """A bench whose bot trades live on a simulated exchange."""

    def __init__(
        self, path: Path, served: Served, credentials: Credentials, *, wallets: str = '"spot"', more: str = ""
    ) -> None:
        super().__init__(path)
        self.served = served
        key = write_key(path / "main.key", credentials)
        self.config = path / "live.toml"
        self.config.write_text(live_settings(served, key, wallets=wallets, more=more))

    @property
    def run_live(self) -> tuple[str | Path, ...]:
        """The command line of a service."""
        return "run", "--headless", "--config", self.config, "--live", ACCOUNT, "--confirm", ACCOUNT
