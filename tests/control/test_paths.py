"""Where the socket lies, and who may look into its directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from bot.control.paths import make_private_dir, socket_path
from bot.errors import SettingsError


def test_the_session_s_runtime_directory_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    path = socket_path(tmp_path / "state")
    assert path.parent == tmp_path / "bot"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert len(path.stem) == 16
    assert path.suffix == ".sock"


@pytest.mark.parametrize("session_dir", ["", "relative", "/nowhere/at/all", "/dev/null"])
def test_without_a_session_temporary_files_are_used(
    session_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", session_dir)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert socket_path(tmp_path).parent == tmp_path / f"bot-{os.getuid()}"


def test_a_runtime_directory_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = tmp_path / "session"
    session.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session))
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    uid = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: uid)
    with pytest.raises(SettingsError, match="belongs to user"):
        socket_path(tmp_path)
    assert (tmp_path / f"bot-{uid}").is_dir()


def test_a_state_directory_has_one_socket_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "state")
    spellings = [tmp_path / "state", Path("state"), tmp_path / "x" / ".." / "state", tmp_path / "link"]
    assert len({socket_path(state_dir) for state_dir in spellings}) == 1
    assert socket_path(tmp_path / "other") != socket_path(tmp_path / "state")


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    open_dir = tmp_path / "open"
    open_dir.mkdir()
    open_dir.chmod(0o750)
    with pytest.raises(SettingsError, match=r"0750.*chmod 700"):
        make_private_dir(open_dir)


def test_a_link_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(SettingsError, match="link"):
        make_private_dir(tmp_path / "link")


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="file"):
        make_private_dir(tmp_path / "file")


def test_a_directory_is_private_under_any_mask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        make_private_dir(tmp_path / "private")
    finally:
        os.umask(mask)
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o700


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    with pytest.raises(SettingsError, match="XDG_RUNTIME_DIR"):
        socket_path(tmp_path)
