"""`python -m tests.bench [NAME …] [--json]`: run the named benchmarks, or all of them, and print a line each."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import msgspec

from tests.bench import live_path, startup
from tests.bench.measure import Figure

BENCHMARKS: dict[str, Callable[[], Figure]] = {
    "help": startup.help_,
    "status": startup.status,
    "ready": startup.ready,
    "pipeline": live_path.pipeline,
    "commit": live_path.commit,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of: {' '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        figure = BENCHMARKS[name]()
        if arguments.json:
            sys.stdout.write(msgspec.json.encode(figure).decode() + "\n")
        else:
            what = (BENCHMARKS[name].__doc__ or "").strip()
            print(f"{figure.name:<10} {figure.value:>10.1f} {figure.unit:<4} {what}")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
