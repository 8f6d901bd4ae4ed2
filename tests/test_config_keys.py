"""API keys: where they may come from, who may read them there, and which hosts they are for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from bot.config import LiveSettings, Settings, load_settings
from bot.config.keys import check_hosts, load_credentials
from bot.errors import HostRefused, KeyRefused, SettingsError

KEY, SECRET = "K3Y-CANARY-1", "s3cr3t-canary-2"
GOOD = f"# mine\nPOLONIEX_KEY={KEY}\n\nPOLONIEX_SECRET = {SECRET}\n"


def live(**changes: object) -> LiveSettings:
    settings = load_settings([], {}, []).live
    return msgspec.structs.replace(settings, account="main", **changes)


def key_file(path: Path, text: str = GOOD, mode: int = 0o600) -> Path:
    file = path / "main.key"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_F123_the_environment_comes_first_and_is_emptied_of_the_key(tmp_path: Path) -> None:
    environ = {"POLONIEX_KEY": KEY, "POLONIEX_SECRET": SECRET, "HOME": "/"}
    credentials = load_credentials(live(key_file=str(key_file(tmp_path, "no key"))), environ)
    assert (credentials.key.reveal(), credentials.secret.reveal()) == (KEY, SECRET)
    assert environ == {"HOME": "/"}


def test_a_private_file_gives_the_key(tmp_path: Path) -> None:
    credentials = load_credentials(live(key_file=str(key_file(tmp_path))), {})
    assert (credentials.key.reveal(), credentials.secret.reveal()) == (KEY, SECRET)


def test_the_keyring_gives_the_key_of_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = {("poloniex-bot", "main:key"): KEY, ("poloniex-bot", "main:secret"): SECRET}
    ring = SimpleNamespace(get_password=lambda service, name: entries[service, name])  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setitem(sys.modules, "keyring", ring)  # pyright: ignore[reportArgumentType]  # as good as a module
    credentials = load_credentials(live(keyring=True), {})
    assert credentials.secret.reveal() == SECRET


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_F125_a_key_file_open_to_others_is_refused(mode: int, tmp_path: Path) -> None:
    with pytest.raises(KeyRefused, match=r"open to other users.*make a new key"):
        load_credentials(live(key_file=str(key_file(tmp_path, mode=mode))), {})


def test_F89_a_key_file_that_is_a_link_or_no_file_is_refused(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(key_file(tmp_path))
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (link, tmp_path / "pipe", tmp_path, tmp_path / "gone"):
        with pytest.raises(KeyRefused, match=str(path)):
            load_credentials(live(key_file=str(path)), {})


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    path = key_file(tmp_path)
    os.chown(path, 12345, -1)
    with pytest.raises(KeyRefused, match="belongs to user 12345"):
        load_credentials(live(key_file=str(path)), {})


@pytest.mark.parametrize(
    "text",
    [
        f"POLONIEX_KEY={KEY}\n",
        f"POLONIEX_SECRET={SECRET}\n",
        f"{GOOD}POLONIEX_KEY=again\n",
        f"{GOOD}OTHER={SECRET}\n",
        f"{KEY}\n{SECRET}\n",
        GOOD + "#" * 5000,
        f"POLONIEX_KEY={KEY} {KEY}\nPOLONIEX_SECRET={SECRET}\n",
        "",
    ],
)
def test_F120_a_bad_key_file_is_named_and_its_text_never_shown(text: str, tmp_path: Path) -> None:
    with pytest.raises(KeyRefused) as refused:
        load_credentials(live(key_file=str(key_file(tmp_path, text))), {})
    words = f"{refused.value!r}{refused.value.__cause__!r}"
    assert str(tmp_path) in words
    assert KEY not in words
    assert SECRET not in words


@pytest.mark.parametrize("environ", [{}, {"POLONIEX_KEY": KEY}, {"POLONIEX_SECRET": SECRET}])
def test_no_key_and_half_a_key_are_refused(environ: dict[str, str]) -> None:
    with pytest.raises(KeyRefused, match="POLONIEX_"):
        load_credentials(live(), environ)


# --- hosts


def settings(*sets: str) -> Settings:
    return load_settings([], {}, sets)


def test_F137_a_key_is_for_the_exchange_or_for_this_machine() -> None:
    assert check_hosts(settings()) is False
    here = [
        "exchange.rest_url=http://127.0.0.1:1",
        "exchange.ws_url=ws://127.0.0.1:1/ws",
        "live.private_ws_url=ws://localhost:1/ws",
    ]
    assert check_hosts(settings(*here)) is True


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["exchange.rest_url=https://api.poloniex.com.example.org"], "exchange.rest_url"),
        (["exchange.rest_url=https://api.poloniex.co"], "exchange.rest_url"),
        (["live.private_ws_url=wss://10.0.0.1/ws"], "live.private_ws_url"),
        (["live.private_ws_url=ws://ws.poloniex.com/ws"], "live.private_ws_url"),
        (["live.futures_ws_url=wss://example.org/ws", 'live.wallets=["futures"]'], "live.futures_ws_url"),
        (["exchange.ws_url=ws://127.0.0.1:1/ws"], "all here or all there"),
    ],
)
def test_F137_a_key_goes_to_no_other_host_and_prices_come_from_where_orders_go(sets: list[str], words: str) -> None:
    with pytest.raises(HostRefused, match=words):
        check_hosts(settings(*sets))


# --- settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[bot]\nmode = 'live'", "needs a name for the account"),
        ("[live]\naccount = 'Main!'", "live.account"),
        ("[live]\ndead_man_s = 5", "0, or at least 10"),
        ("[live]\nkey_file = 'main.key'", "absolute path"),
        ("[live]\nwallets = ['spot', 'spot']", "each wallet once"),
        ("[live]\nleverage = 10", "live.leverage"),
        (f"[live]\nkey = '{KEY}'", "looks like a secret"),
        (f"[live]\nsecret = '{SECRET}'", "looks like a secret"),
    ],
)
def test_live_settings_that_make_no_sense_are_refused_and_secrets_not_shown(
    text: str, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "my.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words) as refused:
        load_settings([path], {}, [])
    assert KEY not in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("is_environment", [False, True])
def test_F106_live_mode_is_not_switched_on_in_passing(is_environment: bool) -> None:
    environ = {"BOT__BOT__MODE": "live", "BOT__LIVE__ACCOUNT": "main"} if is_environment else {}
    sets = [] if is_environment else ["bot.mode=live", "live.account=main"]
    with pytest.raises(SettingsError, match="must stand in a settings file"):
        load_settings([], environ, sets)


def test_the_example_is_good_and_still_locked() -> None:
    example = load_settings([Path(__file__).parents[1] / "config" / "live.example.toml"], {}, [])
    assert example.bot.mode == "live"
    assert not example.live.key_cannot_withdraw
