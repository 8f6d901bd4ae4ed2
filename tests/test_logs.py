from __future__ import annotations

import logging
import sys

from bot.logs import SafeFormatter


def line(message: str, *values: object) -> str:
    return SafeFormatter().format(logging.LogRecord("bot.feed", logging.WARNING, "", 0, message, values, None))


def fail(words: str) -> None:
    raise ValueError(words)


def test_F135_a_line_feed_in_a_message_forges_no_line() -> None:
    said = line("the exchange said %s", "no\n2026-01-01T00:00:00.000Z INFO bot: all is well")
    assert "\n" not in said
    assert said.count("Z WARNING bot.feed: ") == 1


def test_F133_a_message_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in line("reason: %s", "\x1b]52;c;aGFjaw==\x07\x9b31m")


def test_the_time_is_utc_and_says_so() -> None:
    record = logging.LogRecord("bot", logging.INFO, "", 0, "hello", (), None)
    record.created, record.msecs = 0.0, 7.0
    assert SafeFormatter().format(record) == "1970-01-01T00:00:00.007Z INFO bot: hello"


def test_F135_a_traceback_cannot_be_taken_for_events() -> None:
    record = logging.LogRecord("bot", logging.ERROR, "", 0, "failed", (), None)
    try:
        fail("no\n2026-01-01T00:00:00.000Z INFO bot: all is well")
    except ValueError:
        record.exc_info = sys.exc_info()
    first, *rest = SafeFormatter().format(record).splitlines()
    assert first.endswith("ERROR bot: failed")
    assert rest
    assert all(each.startswith("  | ") for each in rest)
