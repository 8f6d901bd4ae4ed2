"""`python -m tests.bench [NAME …] [--json] [--peers]`: run the named benchmarks, or all, and print a line each.

`--peers` measures rivals too, by turns in the same command, where they are installed: `pip install '.[bench]'`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

import msgspec

from tests.bench import live_path, startup
from tests.bench.measure import Figure
from tests.bench.orders import orders
from tests.bench.receive import receive

BENCHMARKS: dict[str, Callable[[], Figure]] = {
    "help": startup.help_,
    "status": startup.status,
    "ready": startup.ready,
    "receive": receive,
    "pipeline": live_path.pipeline,
    "sustained": live_path.sustained,
    "latency": live_path.latency,
    "machines": live_path.machines,
    "orders": orders,
    "commit": live_path.commit,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"out of: {' '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--peers", action="store_true", help="measure rivals too, where they are installed")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}")
    for name in arguments.names or BENCHMARKS:
        benchmark = partial(receive, peers=arguments.peers) if name == "receive" else BENCHMARKS[name]
        figure = benchmark()
        if arguments.json:
            sys.stdout.write(msgspec.json.encode(figure).decode() + "\n")
        else:
            what = (BENCHMARKS[name].__doc__ or "").strip()
            others = "; ".join(f"{key} {value:,.1f}" for key, value in (figure.peers | figure.details).items())
            print(f"{figure.name:<10} {figure.value:>12,.1f} {figure.unit:<4} {what}{f' [{others}]' if others else ''}")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
