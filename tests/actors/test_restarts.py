"""A bot that dies again and again stays down."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.restarts import STARTS_FILE, WINDOW_S, note_good_end, note_start
from bot.errors import RestartLoop


def test_F96_the_sixth_start_in_ten_minutes_is_refused_and_says_what_to_do(tmp_path: Path) -> None:
    for number in range(5):
        note_start(tmp_path, 5, 1000.0 + number)
    with pytest.raises(RestartLoop, match=rf"5 times.*remove {tmp_path / STARTS_FILE}"):
        note_start(tmp_path, 5, 1010.0)


def test_F96_old_starts_and_those_before_a_good_end_do_not_count(tmp_path: Path) -> None:
    for number in range(5):
        note_start(tmp_path, 5, 1000.0 + number)
    note_start(tmp_path, 5, 1000.0 + WINDOW_S + 10)
    for _ in range(20):
        note_good_end(tmp_path)
        note_start(tmp_path, 5, 5000.0)


@pytest.mark.parametrize("content", [b"", b"[1,", b'{"a": 1}', b"\xff"])
def test_a_damaged_list_of_starts_is_begun_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / STARTS_FILE).write_bytes(content)
    for number in range(5):
        note_start(tmp_path, 5, 1000.0 + number)
    with pytest.raises(RestartLoop):
        note_start(tmp_path, 5, 1010.0)
