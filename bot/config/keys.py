"""The API key of a live account: where it may come from, who else may read it there, and where it may be sent.

A key comes from the environment, from a file that only its owner can read, or from the system's keyring; never from a
settings file, an option or the directory that one happens to stand in.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import MutableMapping
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from bot.config.settings import APP_NAME, LiveSettings, Settings
from bot.core.secret import Secret
from bot.errors import HostRefused, KeyRefused, SettingsError
from bot.exchange.poloniex.signing import Credentials

KEY_VARIABLE: Final = "POLONIEX_KEY"
SECRET_VARIABLE: Final = "POLONIEX_SECRET"  # noqa: S105 - the name of a variable, not a secret
KEY_HOSTS: Final = frozenset({"api.poloniex.com", "ws.poloniex.com"})
"""A key is sent to these and to this machine, and to nobody else, whatever the settings say."""
KEY_FILE_BYTES_MAX: Final = 4096
_NAMES: Final = (KEY_VARIABLE, SECRET_VARIABLE)


class _Keyring(Protocol):
    def get_password(self, service_name: str, username: str) -> str | None: ...


def load_credentials(live: LiveSettings, environ: MutableMapping[str, str]) -> Credentials:
    """Return the key of `live.account`; take it out of `environ`, so that no child of ours inherits it.

    Raises:
        KeyRefused: there is none, half of one, or others could read or change the file that it stands in.

    """
    found = {name: environ.pop(name, "") for name in _NAMES}
    if any(found.values()):
        place = "the environment"
    elif live.key_path is not None:
        place, found = str(live.key_path), read_key_file(live.key_path)
    elif live.keyring:
        place, found = "the keyring", _from_keyring(live.account)
    else:
        raise KeyRefused(
            f"there is no API key: set {KEY_VARIABLE} and {SECRET_VARIABLE}, or name a file in live.key_file"
        )
    missing = [name for name in _NAMES if not found.get(name)]
    if missing:
        raise KeyRefused(f"{place} has no {' and no '.join(missing)}")
    try:
        return Credentials(Secret(found[KEY_VARIABLE]), Secret(found[SECRET_VARIABLE]))
    except SettingsError as error:
        raise KeyRefused(f"{place}: {error}") from None


def read_key_file(path: Path) -> dict[str, str]:
    """Return what a key file says, by name. Raises KeyRefused; no text of the file is ever in the message."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise KeyRefused(f"{path}: cannot be opened ({error.strerror}); a link is not followed") from None
    try:
        _check_private(path, os.fstat(descriptor))
        content = os.read(descriptor, KEY_FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > KEY_FILE_BYTES_MAX:
        raise KeyRefused(f"{path}: is longer than {KEY_FILE_BYTES_MAX} bytes, which no key file is")
    try:
        lines = content.decode().splitlines()
    except UnicodeDecodeError:
        raise KeyRefused(f"{path}: is no text") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not name or name.startswith("#"):
            continue
        if not equals or name not in _NAMES or name in found:
            raise KeyRefused(f"{path}:{number}: must read {KEY_VARIABLE}=... or {SECRET_VARIABLE}=..., each once")
        found[name] = value
    return found


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise KeyRefused(f"{path}: is not a plain file")
    if status.st_uid not in {0, os.getuid()}:
        raise KeyRefused(f"{path}: belongs to user {status.st_uid}, not to us ({os.getuid()})")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyRefused(f"{path}: open to other users (mode {mode:04o}); run `chmod 600 {path}`, and make a new key")


def _from_keyring(account: str) -> dict[str, str]:
    try:
        ring = cast("_Keyring", importlib.import_module("keyring"))
    except ImportError:
        raise KeyRefused("live.keyring = true, but the package `keyring` is not installed") from None
    names = {KEY_VARIABLE: f"{account}:key", SECRET_VARIABLE: f"{account}:secret"}
    return {name: ring.get_password(APP_NAME, entry) or "" for name, entry in names.items()}


def check_hosts(settings: Settings) -> bool:
    """Return whether the exchange of these settings is a simulated one on this machine.

    Raises:
        HostRefused: an address that gets the key is neither the exchange's nor on this machine, or prices come from
            one of the two and orders go to the other.

    """
    addresses = {
        "exchange.rest_url": settings.exchange.rest_url,
        "exchange.ws_url": settings.exchange.ws_url,
        "live.private_ws_url": settings.live.private_ws_url,
    }
    if "futures" in settings.live.wallets:
        addresses["live.futures_rest_url"] = settings.live.futures_rest_url
        addresses["live.futures_public_ws_url"] = settings.live.futures_public_ws_url
        addresses["live.futures_ws_url"] = settings.live.futures_ws_url
    here: set[str] = set()
    for name, url in addresses.items():
        host = urlsplit(url).hostname or ""
        if is_loopback(host):
            here.add(name)
        elif host not in KEY_HOSTS or not url.startswith(("https://", "wss://")):
            raise HostRefused(
                f"{name} = {url}: a key is sent to {', '.join(sorted(KEY_HOSTS))} or to this machine only"
            )
    if here and len(here) < len(addresses):
        there = sorted(set(addresses) - here)
        raise HostRefused(
            f"{', '.join(sorted(here))} on this machine, {', '.join(there)} at the exchange: all here or all there"
        )
    return bool(here)


def is_loopback(host: str) -> bool:
    """Return whether `host` is this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
