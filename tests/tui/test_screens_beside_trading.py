"""Screens come and go, die and hang while the bot trades; the journal is the same to the last byte."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import time
from contextlib import suppress

import pytest

from tests.support.cli import Bench, bot

MARKET = ("--exchange", "simulated", "--speed", "max", "--for", "25m", "--seed", "11")


class Screen:
    """`bot attach` in a terminal of its own; what it paints is read, and kept."""

    def __init__(self, bench: Bench) -> None:
        self._terminal, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.painted = b""
        self.process = subprocess.Popen(
            bot("attach", "--state-dir", bench.state_dir),
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=bench.env | {"TERM": "xterm-256color"},
            start_new_session=True,
        )
        os.close(inner)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the terminal is gone with its last process
            while data := os.read(self._terminal, 65536):
                self.painted += data

    def wait_painted(self, words: bytes) -> None:
        deadline_s = time.monotonic() + 20
        while words not in self.painted:
            assert time.monotonic() < deadline_s, self.painted[-2000:]
            assert self.process.poll() is None, self.painted[-2000:]
            time.sleep(0.05)

    def press(self, key: str) -> None:
        os.write(self._terminal, key.encode())

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait(10)
        os.close(self._terminal)
        self._reader.join(5)


@pytest.mark.timeout(240)
def test_screens_do_not_change_one_byte_of_the_journal(bench: Bench) -> None:
    alone = bench.result("run", "--headless", *MARKET, "--json", timeout_s=120)
    screens: list[Screen] = []
    with bench.start("run", "--headless", *MARKET, "--json") as daemon:
        try:
            bench.wait_ready(daemon)
            screens += [Screen(bench) for _ in range(3)]
            for screen in screens:
                screen.wait_painted(b"Equity")
            killed, hung, leaver = screens
            killed.process.kill()
            hung.process.send_signal(signal.SIGSTOP)
            leaver.press("d")
            assert leaver.process.wait(10) == 0
            screens.append(Screen(bench))
            screens[-1].wait_painted(b"Equity")
            was_running = daemon.poll() is None
            out, err = daemon.communicate(timeout=120)
        finally:
            for screen in screens:
                screen.close()
    assert daemon.returncode == 0, err
    assert was_running, "the run was over before the screens were: nothing was shown"
    assert alone["fills"] > 100
    assert f'"journal_hash":"{alone["journal_hash"]}"' in out
