"""Every exception of ours, in one tree; the type says whom to blame.

    BotError
    ├── SettingsError         the operator's settings are wrong; names file and key
    ├── AlreadyRunning        another daemon holds this state directory
    ├── NotRunning            there is no daemon to talk to
    ├── RecordingError        a market recording cannot be read; names file and line
    ├── DataError             candles cannot be used as they are; names file, line and repair
    ├── ExchangeError
    │   ├── ConnectionLost    try again
    │   │   └── NotSent       the request never left this machine
    │   ├── RateLimited       try again after `retry_after_s`
    │   ├── ReadRefused       the exchange answered a question with a refusal; carries status and code
    │   ├── OrderRefusedHere  an order that the exchange would refuse; names value and bound
    │   ├── BadReply          the exchange broke its own protocol; carries the frame
    │   ├── OffGrid           a price or a quantity between two steps
    │   └── NotListed         the exchange does not list a symbol that we were told to trade
    ├── ClockSkew             our clock and the exchange's are too far apart to sign anything
    ├── JournalError          stop: we can no longer remember
    ├── ReplayBroken          stop: a lockstep replay lost a frame, so it is no longer that replay
    ├── LiveLocked            live trading is asked for and one of its locks is closed; names the lock
    │   ├── KeyRefused        there is no API key, or others could read or change it
    │   ├── NotConfirmed      nobody has confirmed, in this run, that it trades with real money
    │   ├── SelfTestFailed    the risk gate does not refuse what it must refuse
    │   └── HostRefused       an address that no key is sent to
    ├── RestartLoop           it has started and died too often: somebody must look
    ├── Stalled               stop: the event loop stood still for too long
    ├── KillIncomplete        `bot kill` could not prove that nothing works at the exchange any more
    ├── BooksDiffer           `bot reconcile`: our books are not the exchange's, or could not be compared
    ├── PromiseBroken         `bot simulate` saw a promise broken; names the seed
    ├── MailboxFull           stop: somebody no longer reads
    └── UnknownOrder          stop: news of an order that we never approved

Exit codes are part of the interface, so each type carries its own; `EXIT_CODES` in the README is made from here.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0


class BotError(Exception):
    """Anything that we raise on purpose."""

    exit_code: ClassVar[int] = 1


class SettingsError(BotError):
    """The operator's settings are wrong. `problems` has one full sentence for each of them."""

    exit_code = 2

    def __init__(self, problems: list[str] | str) -> None:
        self.problems: list[str] = [problems] if isinstance(problems, str) else problems
        super().__init__("\n".join(self.problems))


class AlreadyRunning(BotError):
    """Another daemon holds this state directory."""

    exit_code = 3


class NotRunning(BotError):
    """There is no daemon to talk to."""

    exit_code = 4


class RecordingError(BotError):
    """A market recording cannot be read; the message names the file and the line."""

    exit_code = 5


class ExchangeError(BotError):
    """The exchange, or the way to it, failed us."""

    exit_code = 6


class ConnectionLost(ExchangeError):
    """The connection is gone or silent; try again.

    `code` and `reason` are those that a WebSocket was closed with; None and empty where there are none.
    `may_have_arrived` says whether the exchange may have read the request; False only when nothing can have left.
    """

    def __init__(
        self, message: str, *, code: int | None = None, reason: str = "", may_have_arrived: bool = True
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.may_have_arrived = may_have_arrived


class NotSent(ConnectionLost):
    """The request never left this machine: it was given up while it waited for its turn."""

    def __init__(self, message: str) -> None:
        super().__init__(message, may_have_arrived=False)


class RateLimited(ExchangeError):
    """The exchange asks us to wait."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ReadRefused(ExchangeError):
    """The exchange answered a question with a refusal. `code` is its own, None where there is none to read."""

    def __init__(self, message: str, *, status: int, code: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class OrderRefusedHere(ExchangeError):
    """An order that the exchange would refuse or misread, and so was not sent; names the value and its bound."""


class BadReply(ExchangeError):
    """The exchange broke its own protocol. `frame` is what it said, cut to 200 bytes."""

    def __init__(self, message: str, frame: bytes | str = b"") -> None:
        self.frame = frame[:200]
        super().__init__(f"{message}: {self.frame!r}" if self.frame else message)


class OffGrid(ExchangeError):
    """A price or a quantity lies between two steps of its instrument."""


class NotListed(ExchangeError):
    """The exchange does not list a symbol that we were told to trade."""


class JournalError(BotError):
    """The journal cannot be read or written: we can no longer remember, so we stop."""

    exit_code = 7


class ReplayBroken(BotError):
    """A lockstep replay lost its connection, so it is no longer a replay of that recording."""

    exit_code = 8


class MailboxFull(BotError):
    """A mailbox of facts overflowed: somebody no longer reads, so we stop."""

    exit_code = 9


class UnknownOrder(BotError):
    """News of an order that this journal never approved: somebody else trades here, or our memory is wrong."""

    exit_code = 10


class ClockSkew(BotError):
    """Our clock and the exchange's are too far apart, or not yet compared: nothing is signed."""

    exit_code = 11


class DataError(BotError):
    """Market data for research cannot be used as they are; names the file, the lines and what would help."""

    exit_code = 12


class LiveLocked(BotError):
    """Live trading is asked for, and one of its locks is closed."""

    exit_code = 20


class KeyRefused(LiveLocked):
    """There is no API key, or others could read or change it."""

    exit_code = 21


class NotConfirmed(LiveLocked):
    """Nobody has confirmed, in this run, that it trades with real money."""

    exit_code = 22


class SelfTestFailed(LiveLocked):
    """The risk gate did not refuse what it must refuse."""

    exit_code = 23


class HostRefused(LiveLocked):
    """An address that is neither the exchange's nor on this machine: no key is sent there."""

    exit_code = 24


class RestartLoop(BotError):
    """The bot started and died too often in a short time: it stays down until somebody has looked."""

    exit_code = 25


class Stalled(BotError):
    """The event loop stood still for too long: what we know is old, so we stop."""

    exit_code = 26


class KillIncomplete(BotError):
    """`bot kill` could not prove that nothing works at the exchange any more."""

    exit_code = 27


class PromiseBroken(BotError):
    """A simulated world broke a promise of ours: `bot simulate` ends with its code, and says the seed."""

    exit_code = 28


class BooksDiffer(BotError):
    """`bot reconcile` found our books to differ from the exchange's, or could not compare them."""

    exit_code = 29
