"""How far a long command is: a line on the terminal's standard error, and reports to the daemon's screens.

Nothing is drawn where standard error is no terminal, and nothing is said where no daemon runs.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final, TextIO

from bot.control.client import Announcer
from bot.control.protocol import COUNT_MAX, RESEARCH_TEXT_MAX, Research
from bot.core.text import safe_text

PAINT_S: Final = 0.1
ANNOUNCE_S: Final = 0.5
"""Between two reports to the daemon, and before the first: what is quick is over unsaid."""
WIDTH_MAX: Final = 120
BAR_WIDTH: Final = 24


class ProgressLine:
    """One line that shows share, rate, time left and the best so far."""

    def __init__(
        self,
        name: str,
        announcer: Announcer,
        *,
        stream: TextIO,
        is_shown: bool,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = safe_text(name, RESEARCH_TEXT_MAX)
        self._announcer = announcer
        self._stream = stream
        self._is_shown = is_shown
        self._now_s = now_s
        self._began_s = self._painted_s = self._announced_s = now_s()
        self._has_line = False
        self._first_done = 0

    def update(self, done: int, total: int, best: str = "") -> None:
        """Show that `done` of `total` is done; too soon after the last time nothing happens."""
        now_s = self._now_s()
        if now_s - self._began_s < PAINT_S:  # what is done at once was read from a file
            self._first_done = done
        rate = (done - self._first_done) / max(1e-9, now_s - self._began_s)
        left_s = (total - done) / rate if rate > 0 else None
        if self._is_shown and now_s - self._painted_s >= PAINT_S:
            self._painted_s = now_s
            self._paint(progress_text(self._name, done, total, rate, left_s, best))
        if now_s - self._announced_s >= ANNOUNCE_S:
            self._announced_s = now_s
            self._announcer.say(self._report(done, total, rate, left_s, best))

    def _report(self, done: int, total: int, rate: float, left_s: float | None, best: str) -> Research:
        return Research(
            id=str(os.getpid()),
            name=self._name,
            done=min(done, COUNT_MAX),
            total=min(total, COUNT_MAX),
            rate=min(rate, float(COUNT_MAX)),
            left_s=None if left_s is None else min(left_s, float(COUNT_MAX)),
            best=safe_text(best, RESEARCH_TEXT_MAX),
        )

    def _paint(self, text: str) -> None:
        try:
            width = min(WIDTH_MAX, os.get_terminal_size(self._stream.fileno()).columns - 1)
        except (OSError, ValueError):
            width = 79
        self._stream.write(f"\r{text[:width].ljust(width)}")
        self._stream.flush()
        self._has_line = True

    def close(self) -> None:
        """Take the line away, and hang up."""
        self._announcer.close()
        if self._has_line:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def progress_text(name: str, done: int, total: int, rate: float, left_s: float | None, best: str) -> str:
    """Return the line: name, bar, share, counts, rate, time left, the best so far."""
    share = min(1.0, done / total) if total > 0 else 0.0
    filled = int(share * BAR_WIDTH)
    left = "" if left_s is None else f"  {left_text(left_s)} left"
    shown = f"  {best}" if best else ""
    numbers = f"{share:4.0%}  {done:,} of {total:,}  {rate:,.0f}/s"
    return f"{name} {'#' * filled}{'-' * (BAR_WIDTH - filled)} {numbers}{left}{shown}"


def left_text(left_s: float) -> str:
    """Return a time as `0:07`, `12:03` or `3:04:05`."""
    seconds = int(min(left_s, 359_999.0))
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@contextmanager
def open_progress(name: str, state_dir: Path, *, is_quiet: bool) -> Generator[ProgressLine]:
    """Show progress while the context lasts; `is_quiet`: to the daemon's screens only."""
    is_shown = not is_quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    line = ProgressLine(name, Announcer(state_dir), stream=sys.stderr, is_shown=is_shown)
    try:
        yield line
    finally:
        line.close()


@contextmanager
def interruptible() -> Generator[Callable[[], bool]]:
    """Give a function that says whether the user pressed Ctrl-C; pressed again, it ends at once."""
    pressed = False

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
