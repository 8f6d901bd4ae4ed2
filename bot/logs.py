"""How the daemon's log is written: one event, one line, and nothing in it that steers a terminal or forges a line."""

from __future__ import annotations

import logging
import time
from typing import Final

from bot.core.text import safe_text

MESSAGE_LENGTH_MAX: Final = 4_000


class SafeFormatter(logging.Formatter):
    """Times in UTC; what a message quotes of strangers is made safe; only a traceback takes lines of its own."""

    converter = time.gmtime

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Return the line of an event."""
        record.message = safe_text(record.message, MESSAGE_LENGTH_MAX)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        """Return a traceback, each of its lines made safe and set off from the events."""
        lines = super().formatException(ei).splitlines()  # pyright: ignore[reportArgumentType]  (as logging gives it)
        return "\n".join(f"  | {safe_text(line, MESSAGE_LENGTH_MAX)}" for line in lines)
