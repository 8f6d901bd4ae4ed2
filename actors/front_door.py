"""Where exception groups end: one error, in words, out of whatever the nurseries raised."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

from bot.errors import BotError


def leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the exceptions in `group`, groups in it opened."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(cast("BaseExceptionGroup[BaseException]", error))
        else:
            yield error


def leaf_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that tells most: a bug before an error of ours, which a bug often brings along."""
    found = list(leaves(group))
    return next((error for error in found if not isinstance(error, BotError)), found[0])
