"""A text that nobody should see: it prints as `***` and is shown only on request. What it opens is not known here."""

from __future__ import annotations

import hmac
from typing import Final, NoReturn

HIDDEN: Final = "***"


class Secret:
    """A key, a password or a token. Printed, logged or shown in a traceback it is `***`; it cannot be pickled.

    Two secrets are compared in constant time; a secret is no dictionary key, because a hash would tell of it.
    """

    __slots__ = ("_hidden",)

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("an empty secret")
        self._hidden = text

    def reveal(self) -> str:
        """Return the text itself. Whoever calls this answers for where it goes."""
        return self._hidden

    def __repr__(self) -> str:
        return HIDDEN

    def __format__(self, spec: str) -> str:
        return format(HIDDEN, spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_bytes(self), _bytes(other))

    def __hash__(self) -> NoReturn:
        raise TypeError("a secret is no dictionary key")

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is never pickled")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")


def _bytes(secret: Secret) -> bytes:
    # Any text: one that is not UTF-8 (a lone surrogate out of the environment) is still compared.
    return secret.reveal().encode(errors="surrogatepass")
