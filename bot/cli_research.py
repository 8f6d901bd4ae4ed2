"""`bot backtest`, `bot sweep`, `bot walk`, `bot report`, `bot compare`: try strategies on past markets.

Results go to standard output, talk and progress to standard error. Imports are made where they are used: `bot --help`
must not wait for numba.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bot.errors import EXIT_OK, SettingsError

if TYPE_CHECKING:
    from bot.backtest.intake import DataWish, Intake
    from bot.backtest.job import Ask, Finished, Setup
    from bot.backtest.recorded import RecordedSetup
    from bot.backtest.report.document import Report
    from bot.backtest.report.text import Style
    from bot.backtest.search import SearchAsk
    from bot.backtest.space import Value
    from bot.backtest.sweep import Progress
    from bot.config import Settings
    from bot.strategies.advice import Market

EXIT_INTERRUPTED: Final = 130
TOP: Final = 20
"""Points of a sweep that are shown."""
WIDTH: Final = 100
"""Of reports where the terminal does not say."""

Add = Callable[..., argparse.ArgumentParser]


def add_research(commands: Any, add: Add, add_place: Callable[[argparse.ArgumentParser], None]) -> None:
    """Add the commands to the parser."""
    backtest = add(
        commands, "backtest", "Run a strategy on past candles, on made-up ones, or on a recorded market.", _backtest
    )
    _add_run(backtest, "VALUE")
    backtest.add_argument("--html", type=Path, metavar="FILE", help="write the report as one page")
    backtest.add_argument("--csv", type=Path, metavar="DIR", help="write trades.csv, fills.csv and equity.csv")
    add_place(backtest)
    sweep = add(commands, "sweep", "Run a strategy with many parameters, and show the best.", _sweep)
    _add_run(sweep, "LOW..HIGH:STEP")
    _add_search(sweep, methods=("grid", "random", "sobol", "tpe"))
    sweep.add_argument("--resume", type=Path, metavar="FILE", help="keep what is done in this file, and go on from it")
    sweep.add_argument("--heat", metavar="X,Y", help="two parameters to draw the metric over")
    sweep.add_argument("--top", type=int, default=TOP, metavar="N", help=f"points to show ({TOP})")
    sweep.add_argument("--csv", type=Path, metavar="FILE", help="write every point")
    add_place(sweep)
    walk = add(commands, "walk", "Choose parameters on one stretch of time and test them on the next.", _walk)
    _add_run(walk, "LOW..HIGH:STEP", has_out=False)
    _add_search(walk, methods=("grid", "random", "sobol"))
    walk.add_argument("--train", metavar="TIME", help="length of training, such as 90d (half of the data)")
    walk.add_argument("--test", metavar="TIME", help="length of each test, such as 4w (an eighth of the data)")
    walk.add_argument("--anchored", action="store_true", help="train from the beginning, always")
    add_place(walk)
    report = add(commands, "report", "Show a saved run again, or make a page of it.", _report)
    report.add_argument("saved", type=Path, metavar="DIR|FILE", help="a folder of --out, or a file of --json")
    report.add_argument("--html", type=Path, metavar="FILE", help="write the report as one page")
    compare = add(commands, "compare", "Show saved runs side by side.", _compare)
    compare.add_argument("saved", type=Path, nargs="+", metavar="DIR|FILE", help="at least two")


def _add_run(parser: argparse.ArgumentParser, param: str, *, has_out: bool = True) -> None:
    strategy = parser.add_argument_group("strategy")
    strategy.add_argument(
        "--strategy",
        metavar="NAME|FILE",
        help="a name, a file of rules, or FILE.py:NAME (crossover; quoter on a recording)",
    )
    strategy.add_argument(
        "--param", action="extend", nargs="+", default=[], metavar=f"NAME={param}", help="a parameter; may be repeated"
    )
    strategy.add_argument("--timeframe", metavar="TIME", help="length of the strategy's bars, 1m to 1w")
    strategy.add_argument("--size", metavar="all|N%|N", help="of a position: all of equity, a share, or quote currency")
    data = parser.add_argument_group("candles")
    data.add_argument(
        "--data",
        type=Path,
        action="extend",
        nargs="+",
        default=[],
        metavar="FILE",
        help="time,open,high,low,close,volume as CSV or CSV.gz, one symbol each (made up if there is none); or "
        "recordings, FILE.jsonl or FILE.jsonl.gz",
    )
    data.add_argument("--symbol", action="extend", nargs="+", default=[], metavar="NAME", help="of each file, in order")
    data.add_argument("--from", dest="from_", metavar="TIME", help="first bar: 2024-01-31, or with a time, UTC")
    data.add_argument("--to", metavar="TIME", help="bars end by then")
    data.add_argument("--lot-size", metavar="STEP", help="smallest step of a quantity (1e-8)")
    data.add_argument("--tick-size", metavar="STEP", help="smallest step of a price (as in the file)")
    data.add_argument(
        "--repair",
        action="extend",
        nargs="+",
        default=[],
        metavar="HOW",
        choices=("sort", "drop", "clip", "round"),
        help="mend bad rows instead of refusing them: sort, drop, clip (high and low), round (to ticks)",
    )
    data.add_argument("--gaps", choices=("keep", "refuse", "fill"), default="keep", help="missing bars (keep)")
    data.add_argument(
        "--as-of", metavar="TIME", help="when the file was made: a bar that was not over is refused (now)"
    )
    data.add_argument("--coarse", action="store_true", help="make bars of --timeframe first, and walk no finer ones")
    data.add_argument("--funding", type=Path, action="extend", nargs="+", default=[], metavar="FILE", help="time,rate")
    data.add_argument("--bars", type=int, metavar="N", help="length of made-up candles (a year of 5m)")
    market = parser.add_argument_group("market")
    market.add_argument("--capital", metavar="N", help="quote currency at the start")
    market.add_argument("--fee-bps", metavar="N", help="fee in basis points, maker and taker")
    market.add_argument("--maker-fee-bps", metavar="N", help="fee of an order that rested")
    market.add_argument("--taker-fee-bps", metavar="N", help="fee of an order that crossed")
    market.add_argument("--slippage-bps", metavar="N", help="of the price, on every order that crosses")
    market.add_argument("--leverage", metavar="N", help="of perpetuals")
    market.add_argument("--risk", action="store_true", help="apply the bounds of [risk], in the exact engine")
    run = parser.add_argument_group("run")
    run.add_argument("--engine", choices=("auto", "exact", "compiled"), default="auto", help="(auto)")
    run.add_argument("--seed", metavar="N", help="of all that is drawn by chance")
    if has_out:
        run.add_argument(
            "--out", type=Path, metavar="DIR", help="save the run here, for `bot report` and `bot compare`"
        )


def _add_search(parser: argparse.ArgumentParser, methods: Sequence[str]) -> None:
    search = parser.add_argument_group("search")
    search.add_argument("--method", choices=methods, default="grid", help="(grid)")
    search.add_argument("--trials", type=int, default=200, metavar="N", help="points of all methods but grid (200)")
    search.add_argument("--metric", default="sharpe", metavar="NAME", help="what makes a point the best (sharpe)")
    search.add_argument("--goal", choices=("highest", "lowest"), help="(as it is with the metric)")
    search.add_argument("--min-trades", type=int, default=1, metavar="N", help="fewer make no best point (1)")
    search.add_argument(
        "--where", action="extend", nargs="+", default=[], metavar="A<B", help="what must hold between parameters"
    )


# --- what was asked


_FLAGS: Final = {
    "capital": ("capital",),
    "fee_bps": ("maker_fee_bps", "taker_fee_bps"),
    "maker_fee_bps": ("maker_fee_bps",),
    "taker_fee_bps": ("taker_fee_bps",),
    "slippage_bps": ("slippage_bps",),
    "leverage": ("leverage",),
    "seed": ("seed",),
}
"""Options to the keys of `[backtest]` that they stand for; later ones win."""
_ON_PAPER: Final = {"capital": "cash", "maker_fee_bps": "maker_fee_bps", "taker_fee_bps": "taker_fee_bps"}
"""Keys of `[backtest]` to those of `[paper]` that mean the same."""
_ON_CANDLES: Final = (
    "from_",
    "to",
    "lot_size",
    "tick_size",
    "repair",
    "gaps",
    "as_of",
    "coarse",
    "funding",
    "bars",
    "slippage_bps",
    "leverage",
    "engine",
)
"""Options that mean nothing on a recording."""


def _settings(arguments: argparse.Namespace) -> Settings:
    from bot.config import load_settings

    sets = [] if arguments.slippage_bps is None else ['backtest.slippage="fixed"']
    sets += arguments.set
    if arguments.state_dir is not None:
        sets.append(f"bot.state_dir={json.dumps(str(arguments.state_dir))}")
    for flag, keys in _FLAGS.items():
        value: str | None = getattr(arguments, flag)
        if value is not None:
            sets += [f"backtest.{key}={value}" for key in keys]
            if _is_recorded(arguments):  # strategies on bars are played by the paper exchange there
                sets += [f"paper.{_ON_PAPER[key]}={value}" for key in keys if key in _ON_PAPER]
    if arguments.size is not None:
        sets.append(f"backtest.size={json.dumps(arguments.size)}")
    return load_settings(arguments.config, os.environ, sets)


def _is_recorded(arguments: argparse.Namespace) -> bool:
    """Return whether the data are recordings.

    Raises:
        SettingsError: only some of them are, or an option is given that is for candles.

    """
    from bot.backtest.intake import is_recording

    files: list[Path] = arguments.data
    if not any(is_recording(path) for path in files):
        return False
    if not all(is_recording(path) for path in files):
        raise SettingsError(f"--data {' '.join(map(str, files))}: candles and recordings cannot be mixed")
    for name in _ON_CANDLES:
        if getattr(arguments, name) not in (None, False, [], "keep", "auto"):
            raise SettingsError(f"--{name.strip('_').replace('_', '-')}: is for candles; the data are recordings")
    return True


def _prepared(arguments: argparse.Namespace, ask: Ask, settings: Settings) -> Setup | RecordedSetup:
    """Return what was asked for, on candles or on recordings."""
    if not _is_recorded(arguments):
        from bot.backtest.job import prepare

        return prepare(ask, settings)
    from bot.backtest.recorded import BookPlay, prepare_recorded

    setup = prepare_recorded(ask, settings)
    if arguments.size is not None and isinstance(setup.play, BookPlay):
        raise SettingsError(f"--size: is for strategies on bars; {setup.chosen.name} plays on the book")
    return setup


def _ask(arguments: argparse.Namespace, params: Mapping[str, Value]) -> Ask:
    from bot.backtest.job import Ask

    return Ask(
        strategy=arguments.strategy,
        params=dict(params),
        data=_wish(arguments),
        timeframe_ns=_timeframe_ns(arguments.timeframe),
        engine=arguments.engine,
        has_limits=arguments.risk,
    )


def _wish(arguments: argparse.Namespace) -> DataWish:
    from bot.backtest.intake import DataWish, scale_of

    symbols = tuple(_symbol(text) for text in arguments.symbol)
    if arguments.coarse and arguments.timeframe is None:
        raise SettingsError("--coarse: needs --timeframe, the length of the bars to make")
    if arguments.bars is not None and arguments.data:
        raise SettingsError("--bars: is the length of made-up candles, and cannot be given with --data")
    return DataWish(
        files=tuple(arguments.data),
        symbols=symbols,
        funding=tuple(arguments.funding),
        is_coarse=arguments.coarse,
        from_ns=_time_ns(arguments.from_, "--from"),
        to_ns=_time_ns(arguments.to, "--to"),
        price_scale=None if arguments.tick_size is None else scale_of(arguments.tick_size, "--tick-size"),
        quantity_scale=None if arguments.lot_size is None else scale_of(arguments.lot_size, "--lot-size"),
        repairs=frozenset(arguments.repair),
        gaps=arguments.gaps,
        as_of_ns=_time_ns(arguments.as_of, "--as-of") or int(datetime.now(UTC).timestamp()) * 10**9,
        made_bars=arguments.bars,
    )


def _symbol(text: str) -> str:
    import re

    if not re.fullmatch(r"[A-Z0-9]{1,20}_[A-Z0-9]{1,20}(_PERP)?", text):
        raise SettingsError(f"--symbol {text}: must be a symbol such as BTC_USDT or BTC_USDT_PERP")
    return text


def _timeframe_ns(text: str | None) -> int | None:
    from bot.backtest.data import is_timeframe

    if text is None:
        return None
    length_ns = _length_ns(text, "--timeframe")
    if length_ns is None or not is_timeframe(length_ns):
        raise SettingsError(f"--timeframe {text}: must divide a day, or be 1d, 3d or 1w")
    return length_ns


def _length_ns(text: str | None, option: str) -> int | None:
    from bot.core.durations import duration_ns

    if text is None:
        return None
    try:
        length_ns = duration_ns(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: {error}") from None
    if length_ns <= 0:
        raise SettingsError(f"{option} {text}: must be more than nothing")
    return length_ns


def _time_ns(text: str | None, option: str) -> int | None:
    """Return a date or a time; without a zone it is UTC."""
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{option} {text}: must be a date such as 2024-01-31, or 2024-01-31T12:00Z") from None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return round(when.timestamp()) * 10**9


def _params(texts: Sequence[str]) -> dict[str, Value]:
    """Return parameters of one value each."""
    from bot.backtest.space import parse_axis

    params: dict[str, Value] = {}
    for text in texts:
        axis = parse_axis(text)
        if len(axis.values) != 1:
            raise SettingsError(f"--param {text}: a backtest takes one value; `bot sweep` takes many")
        params[axis.name] = axis.values[0]
    return params


def _search_ask(arguments: argparse.Namespace) -> SearchAsk:
    from bot.backtest.search import SearchAsk

    heat: str | None = getattr(arguments, "heat", None)
    across, comma, down = (heat or "").partition(",")
    if heat is not None and not (across and comma and down):
        raise SettingsError(f"--heat {heat}: must be two parameters, as in fast,slow")
    return SearchAsk(
        axes=tuple(arguments.param),
        constraints=tuple(arguments.where),
        method=arguments.method,
        trials=arguments.trials,
        metric=arguments.metric,
        goal=arguments.goal,
        trades_min=arguments.min_trades,
        heat=None if heat is None else (across.strip(), down.strip()),
        ledger=getattr(arguments, "resume", None),
    )


# --- the commands


def _backtest(arguments: argparse.Namespace) -> int:
    from bot.cli_progress import open_progress

    ask = _ask(arguments, _params(arguments.param))
    settings = _settings(arguments)
    setup = _prepared(arguments, ask, settings)
    _say_notes(setup.intake)
    with open_progress(f"backtest {setup.chosen.name}", settings.bot.state_path, is_quiet=arguments.json) as line:
        done = _finished(setup, line.update)
    _save(arguments, setup.intake.markets, done)
    if arguments.json:
        _print_json(_flat(done.report) | {"data": setup.intake.reports})
    else:
        _print_report(done.report)
    return EXIT_OK


def _finished(setup: Setup | RecordedSetup, on_progress: Callable[[int, int], None]) -> Finished:
    from bot.backtest.job import Setup, run_backtest

    if isinstance(setup, Setup):
        return run_backtest(setup, on_progress)
    from bot.backtest.recorded import run_recorded

    return run_recorded(setup, on_progress)


def _sweep(arguments: argparse.Namespace) -> int:
    from bot.backtest.search import run_search_job
    from bot.backtest.search_text import points_csv, swept_json, swept_text
    from bot.cli_progress import interruptible, open_progress

    search = _search_ask(arguments)
    settings = _settings(arguments)
    setup = _prepared(arguments, _ask(arguments, {}), settings)
    _say_notes(setup.intake)
    name = f"sweep {setup.chosen.name}"
    with open_progress(name, settings.bot.state_path, is_quiet=arguments.json) as line, interruptible() as is_cancelled:
        swept = run_search_job(setup, search, progress=_teller(line.update, search), is_cancelled=is_cancelled)
    if swept.is_torn:
        _say(f"{search.ledger}: its last line was cut off, and is done again")
    if arguments.csv is not None:
        _write(arguments.csv, points_csv(swept).encode())
    if arguments.json:
        _print_json(swept_json(swept, search, setup, arguments.top))
    else:
        quote = setup.intake.markets[0].instrument.quote
        sys.stdout.write(swept_text(swept, search, quote, arguments.top, _style()))
    if swept.table.is_complete:
        if arguments.out is not None and swept.best is not None:
            _save_run(arguments.out, setup.intake.markets, swept.best)
        return EXIT_OK
    kept = f"; --resume {search.ledger} goes on" if search.ledger else "; with --resume FILE it could go on"
    _say(f"interrupted after {len(swept.table.points):,} points{kept}")
    return EXIT_INTERRUPTED


def _walk(arguments: argparse.Namespace) -> int:
    from bot.backtest.job import prepare
    from bot.backtest.search import run_walk_job
    from bot.backtest.search_text import walked_json, walked_text
    from bot.cli_progress import interruptible, open_progress

    search = _search_ask(arguments)
    train_ns, test_ns = _length_ns(arguments.train, "--train"), _length_ns(arguments.test, "--test")
    if _is_recorded(arguments):
        raise SettingsError("--data: a walk goes over candles; `bot backtest` and `bot sweep` take recordings")
    settings = _settings(arguments)
    setup = prepare(_ask(arguments, {}), settings)
    _say_notes(setup.intake)
    name = f"walk {setup.chosen.name}"
    with open_progress(name, settings.bot.state_path, is_quiet=arguments.json) as line, interruptible() as is_cancelled:
        walked = run_walk_job(
            setup,
            search,
            train_ns=train_ns,
            test_ns=test_ns,
            is_anchored=arguments.anchored,
            progress=_teller(line.update, search),
            is_cancelled=is_cancelled,
        )
    if arguments.json:
        _print_json(walked_json(walked, search, setup))
    else:
        sys.stdout.write(walked_text(walked, search, setup, _style()))
    if walked.walk.is_complete:
        return EXIT_OK
    _say(f"interrupted after {len(walked.walk.steps)} windows")
    return EXIT_INTERRUPTED


def _report(arguments: argparse.Namespace) -> int:
    report = _loaded(arguments.saved)
    if arguments.html is not None:
        from bot.backtest.report.page import render_page

        _write(arguments.html, render_page(report).encode())
    if arguments.json:
        _print_json(_flat(report))
    else:
        _print_report(report)
    return EXIT_OK


def _compare(arguments: argparse.Namespace) -> int:
    from bot.backtest.report.compare import compare, render_comparison

    reports = [_loaded(path) for path in arguments.saved]
    compared = compare(reports, [path.name or str(path) for path in arguments.saved])
    if arguments.json:
        _print_json(compared)
    else:
        sys.stdout.write(render_comparison(compared, reports, _style()))
    return EXIT_OK


def _loaded(path: Path) -> Report:
    from bot.backtest.report.files import load_report, load_run

    return load_run(path) if path.is_dir() else load_report(path)


# --- what is said


def _say(text: str) -> None:
    sys.stderr.write(f"bot: {text}\n")
    sys.stderr.flush()


def _say_notes(intake: Intake) -> None:
    for note in intake.notes:
        _say(note)


def _teller(update: Callable[[int, int, str], None], search: SearchAsk) -> Callable[[Progress], None]:
    """Return what turns the progress of a sweep into words."""

    def tell(now: Progress) -> None:
        best = ""
        if now.best_point is not None:
            best = f"best {search.metric} {now.best_value:.4g} at {', '.join(str(value) for value in now.best_point)}"
        update(now.done, now.total, best)

    return tell


def _style() -> Style:
    from bot.backtest.report.text import style_for

    return style_for(
        width=shutil.get_terminal_size((WIDTH, 24)).columns,
        encoding=sys.stdout.encoding,
        is_terminal=sys.stdout.isatty(),
        environment=os.environ,
    )


def _print_report(report: Report) -> None:
    from bot.backtest.report.text import render_text

    sys.stdout.write(render_text(report, _style()))


def _print_json(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.Encoder(decimal_format="number").encode(value).decode() + "\n")


def _flat(report: Report) -> dict[str, object]:
    """Return a report with the metrics that have a name in camel case beside its own keys, for who reads one number."""
    import msgspec

    from bot.backtest.metrics import METRICS

    aliases = {metric.alias: report.metrics[name] for name, metric in METRICS.items() if metric.alias}
    return {**aliases, **msgspec.structs.asdict(report)}


def _save(arguments: argparse.Namespace, markets: Sequence[Market], done: Finished) -> None:
    from bot.backtest.report import files

    report, outcome, trades = done
    if arguments.out is not None:
        _save_run(arguments.out, markets, done)
    if arguments.html is not None:
        from bot.backtest.report.page import render_page

        _write(arguments.html, render_page(report).encode())
    if arguments.csv is not None:
        from bot.backtest.trades import excursions

        moved = excursions(trades, outcome, markets)
        _write(arguments.csv / files.TRADES, files.trades_csv(trades, moved, outcome).encode())
        _write(arguments.csv / files.FILLS, files.fills_csv(outcome).encode())
        _write(arguments.csv / files.EQUITY, files.equity_csv(outcome).encode())


def _save_run(directory: Path, markets: Sequence[Market], done: Finished) -> None:
    from bot.backtest.report.files import save_run

    save_run(directory, done.report, done.outcome, markets, done.trades)


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written ({error.strerror})") from error
