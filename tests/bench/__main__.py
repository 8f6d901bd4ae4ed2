"""`python -m tests.bench [NAME …] [--json] [--peers]`: run the named benchmarks, or all, and print a line each.

`--peers` measures rivals too, by turns in the same command, where they are installed: `pip install '.[bench]'`. What
stands beside a rival's figure is how many times better ours is.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module

import msgspec

from tests.bench.measure import Figure

BENCHMARKS: dict[str, str] = {
    "help": "startup.help_",
    "status": "startup.status",
    "ready": "startup.ready",
    "receive": "receive.receive",
    "pipeline": "live_path.pipeline",
    "sustained": "live_path.sustained",
    "latency": "live_path.latency",
    "machines": "live_path.machines",
    "orders": "orders.orders",
    "commit": "live_path.commit",
    "halt": "live.halt",
    "recovery": "live.recovery",
    "single": "research.single",
    "sweep": "research_sweep.sweep",
    "screen": "research_sweep.screen",
    "path": "research_path.path",
    "path-sweep": "research_path.path_sweep",
    "portfolio": "research.portfolio",
    "callback": "research.callback",
    "book": "book.book",
    "queue": "book.queue",
    "first-backtest": "research_first.first_backtest",
}
"""Where each is, imported when it is its turn: the live path is measured without the research in the process."""
RESEARCH = ("single", "sweep", "screen", "path", "path-sweep", "portfolio", "callback", "book", "queue")
BESIDE_PEERS = ("receive", *RESEARCH, "first-backtest")
TIMES = ("s", "ms", "us")
"""Units of figures of which less is better."""


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
        module, function = BENCHMARKS[name].split(".")
        benchmark: Callable[..., Figure] = getattr(import_module(f"tests.bench.{module}"), function)
        figure = benchmark(peers=arguments.peers) if name in BESIDE_PEERS else benchmark()
        if arguments.json:
            print(msgspec.json.encode(figure).decode(), flush=True)
        else:
            print(_line(figure, benchmark.__doc__ or ""), flush=True)
    return 0


def _line(figure: Figure, what: str) -> str:
    others = [f"{name} {_number(value)} ({_times_better(figure, value):,.1f}x)" for name, value in figure.peers.items()]
    others += [f"{name} {_number(value)}" for name, value in figure.details.items()]
    beside = f" [{'; '.join(others)}]" if others else ""
    return f"{figure.name:<14} {_number(figure.value):>12} {figure.unit:<4} {what.strip()}{beside}"


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _times_better(figure: Figure, theirs: float) -> float:
    return theirs / figure.value if figure.unit in TIMES else figure.value / theirs


if __name__ == "__main__":
    raise SystemExit(main())
