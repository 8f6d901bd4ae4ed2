"""How many mutations the fuzz tests make: `FUZZ_EXAMPLES=1000000 python -m pytest -k mutated` makes more."""

from __future__ import annotations

import os
from typing import Final

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "35000"))
