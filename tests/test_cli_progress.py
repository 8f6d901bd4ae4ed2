"""How far a long command is, on a terminal and for the daemon's screens."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest

from bot.cli_progress import ANNOUNCE_S, PAINT_S, ProgressLine, interruptible, left_text, progress_text
from bot.control.client import Announcer
from bot.control.protocol import COUNT_MAX, RESEARCH_TEXT_MAX, Research, decode_request, encode


class Heard(Announcer):
    """A daemon that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__(Path("/nowhere"))
        self.reports: list[Research] = []
        self.is_closed = False

    def say(self, report: Research) -> None:
        assert decode_request(encode(report)) == report
        self.reports.append(report)

    def close(self) -> None:
        self.is_closed = True


class Bench:
    def __init__(self, *, is_shown: bool = True, name: str = "sweep") -> None:
        self.now_s = 0.0
        self.heard = Heard()
        self.stream = io.StringIO()
        self.line = ProgressLine(name, self.heard, stream=self.stream, is_shown=is_shown, now_s=lambda: self.now_s)

    def at(self, now_s: float, done: int, total: int = 100, best: str = "") -> None:
        self.now_s = now_s
        self.line.update(done, total, best)

    @property
    def painted(self) -> list[str]:
        return [text.rstrip() for text in self.stream.getvalue().split("\r")[1:]]


def test_a_line_is_painted_no_more_often_than_can_be_read() -> None:
    bench = Bench()
    for step in range(101):
        bench.at(step * PAINT_S / 10, step)
    assert 9 <= len(bench.painted) <= 10


def test_rate_and_time_left_are_of_this_run_alone() -> None:
    bench = Bench()
    bench.at(0.0, 40)  # read from a file
    bench.at(2.0, 60)
    assert bench.painted == ["sweep ##############----------  60%  60 of 100  10/s  0:04 left"]


def test_the_line_goes_when_the_work_is_over() -> None:
    bench = Bench()
    bench.at(1.0, 50)
    bench.line.close()
    assert bench.stream.getvalue().endswith("\r\x1b[K")
    assert bench.heard.is_closed


def test_nothing_is_drawn_where_no_terminal_is_and_the_daemon_hears_all_the_same() -> None:
    bench = Bench(is_shown=False)
    bench.at(ANNOUNCE_S, 10, best="sharpe 1.2")
    bench.line.close()
    assert bench.stream.getvalue() == ""
    (report,) = bench.heard.reports
    assert (report.name, report.done, report.total, report.best) == ("sweep", 10, 100, "sharpe 1.2")
    assert report.id == str(os.getpid())


def test_what_is_quick_is_over_unsaid() -> None:
    bench = Bench()
    bench.at(ANNOUNCE_S * 0.9, 100)
    assert bench.heard.reports == []


def test_a_report_stays_within_the_protocols_bounds() -> None:
    bench = Bench(name="\x1b[31m" + "x" * 500)
    bench.at(0.0, 0, 0)
    bench.at(1.0, 2**60, 2**61, best="y" * 500)
    (report,) = bench.heard.reports
    assert report.done == report.total == COUNT_MAX
    assert len(report.best) == RESEARCH_TEXT_MAX
    assert "\x1b" not in report.name


@pytest.mark.parametrize(
    ("left_s", "text"), [(0.4, "0:00"), (59.9, "0:59"), (723.0, "12:03"), (11_045.0, "3:04:05"), (1e12, "99:59:59")]
)
def test_time_left_is_short(left_s: float, text: str) -> None:
    assert left_text(left_s) == text


def test_more_than_all_is_all() -> None:
    assert "100%" in progress_text("x", 7, 5, 0.0, None, "")
    assert "  0%" in progress_text("x", 0, 0, 0.0, None, "")


def test_the_first_interrupt_is_a_wish_and_the_second_an_order() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as is_cancelled:
        assert not is_cancelled()
        signal.raise_signal(signal.SIGINT)
        assert is_cancelled()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
