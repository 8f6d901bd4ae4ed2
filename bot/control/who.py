"""Who asks: the name of the user that runs this process."""

from __future__ import annotations

import os
import pwd


def user_name() -> str:
    """Return the name of our user, or its number where it has none, as in a container."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
