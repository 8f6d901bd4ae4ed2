"""The command line: `bot run` and everything that talks to a running bot.

Results go to standard output, talk to standard error; `--json` makes the result one JSON object. Imports are made where
they are used: `bot --help` and `bot status` must not wait for trio or Textual.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bot import __version__
from bot.cli_candles import add_candles
from bot.cli_exchange import add_exchange
from bot.cli_kill import add_kill
from bot.cli_reconcile import add_reconcile
from bot.cli_research import add_research
from bot.cli_simulate import add_simulate
from bot.core.jit import interpret
from bot.errors import EXIT_OK, BotError, NotRunning, SettingsError

if TYPE_CHECKING:
    from actors.plan import Plan
    from bot.config import Settings

EXIT_INTERRUPTED: Final = 130
COMPILING: Final = frozenset({"backtest", "sweep", "walk", "report", "compare"})
"""The commands whose kernels are compiled; everywhere else numba would only make the start slower."""
OPERATOR_VERBS: Final = {
    "halt": "Cancel every working order and let nothing through until `bot resume`.",
    "reduce": "Let through only what makes positions smaller.",
    "flatten": "Sell everything that is held, and allow only reductions from then on.",
    "resume": "Allow all orders again, but for what still speaks against them: `bot rearm` names that.",
    "stop": "End the bot: working orders are cancelled, positions are kept.",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code, which `bot/errors.py` lists."""
    arguments = make_parser().parse_args(argv)
    if arguments.command is None:
        make_parser().print_help(sys.stderr)
        return SettingsError.exit_code
    if arguments.command not in COMPILING:
        interpret()  # before anything imports a kernel: settings may name rules
    try:
        return arguments.run(arguments)
    except BotError as error:
        return _report(error, is_json=getattr(arguments, "json", False))
    except BrokenPipeError:  # the reader of our output left: `bot status | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _report(error: BotError, *, is_json: bool) -> int:
    """Say what went wrong: in words on standard error, with --json also as an object on standard output."""
    for line in str(error).splitlines() or [type(error).__name__]:
        print(f"bot: {line}", file=sys.stderr)
    if is_json:
        import json

        print(json.dumps({"error": type(error).__name__, "message": str(error), "exit_code": error.exit_code}))
    return error.exit_code


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; completion scripts are made from it."""
    parser = argparse.ArgumentParser(
        prog="bot",
        description="A trading bot for the Poloniex exchange. Everything is on paper unless live trading is unlocked.",
        epilog="Exit codes are listed in the README. Settings: config/default.toml is their manual.",
    )
    parser.add_argument("--version", action="version", version=f"bot {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_run(commands)
    attach = _add(commands, "attach", "Open a screen on the running bot.", _attach, has_json=False)
    _add_place(attach)
    status = _add(commands, "status", "Show what the bot holds and does.", _status)
    _add_place(status)
    for verb, text in OPERATOR_VERBS.items():
        _add_place(_add(commands, verb, text, _command))
    _add_rearm(commands)
    text = "Give up an order of which nobody can say whether it lives; the books then show what it did."
    abandon = _add(commands, "abandon", text, _abandon)
    _add_place(abandon)
    abandon.add_argument("order", metavar="CLIENT_ID", help="its own id, as `bot status` shows it")
    _add_place(add_kill(commands, _add, _settings))
    _add_place(add_reconcile(commands, _add, _settings))
    config = _add(commands, "config", "Show every setting as it is in force, or what is wrong with it.", _config)
    _add_place(config)
    add_research(commands, _add, _add_place)
    add_candles(commands, _add)
    add_exchange(commands, _add)
    add_simulate(commands, _add)
    completion = _add(commands, "completion", "Print the completion script of a shell.", _completion, has_json=False)
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser


def _add(commands: Any, name: str, text: str, run: Any, *, has_json: bool = True) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(run=run)
    if has_json:
        parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--state-dir", type=Path, metavar="DIR", help="where the bot keeps its journal and its lock")
    parser.add_argument(
        "--config", type=Path, action="append", default=[], metavar="FILE", help="settings that differ; may be repeated"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, such as risk.daily_loss_pct=2.5"
    )


def _add_run(commands: Any) -> None:
    text = (
        "Trade on paper: on Poloniex's prices if they can be reached, else on simulated ones. With --live: real money."
    )
    parser = _add(commands, "run", text, _run)
    _add_place(parser)
    parser.add_argument("--headless", action="store_true", help="no screen, even in a terminal")
    parser.add_argument("--for", dest="for_", metavar="TIME", help="end after this long, such as 90s, 2m or 1h30m")
    parser.add_argument("--exchange", choices=("auto", "poloniex", "simulated"), help="where prices come from")
    parser.add_argument("--live", metavar="ACCOUNT", help="trade with real money, behind the locks of docs/live.md")
    parser.add_argument("--confirm", metavar="ACCOUNT", help="say so for a service, where nobody can be asked")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the simulated market")
    parser.add_argument(
        "--recording",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="play a recorded market; may be repeated",
    )
    parser.add_argument(
        "--speed", default="1", metavar="N|max", help="market seconds a second; max: as fast as the bot can follow"
    )


def _add_rearm(commands: Any) -> None:
    text = "Open one latch that a breaker closed, after you looked into it; `bot status` lists them."
    parser = _add(commands, "rearm", text, _rearm)
    _add_place(parser)
    parser.add_argument("latch", metavar="CAUSE[@SCOPE]", help="such as drawdown, or losing_streak@strategy:crossover")
    parser.add_argument("--equity", metavar="N", help="what equity is now: a loss is re-armed on this evidence only")
    parser.add_argument("--new-baseline", action="store_true", help="count the loss from here on")


# --- settings


def _settings(arguments: argparse.Namespace) -> Settings:
    from bot.config import load_settings

    sets = list(arguments.set)
    if arguments.state_dir is not None:
        sets.append(f"bot.state_dir={_toml_text(str(arguments.state_dir))}")
    if getattr(arguments, "seed", None) is not None:
        sets.append(f"bot.seed={arguments.seed}")
    if getattr(arguments, "exchange", None) is not None:
        sets.append(f"exchange.name={arguments.exchange}")
    return load_settings(arguments.config, os.environ, sets)


def _toml_text(text: str) -> str:
    import json

    return json.dumps(text)  # a JSON string is a TOML basic string


def _config(arguments: argparse.Namespace) -> int:
    import msgspec

    settings = _settings(arguments)
    if arguments.json:
        _print_json(settings)
        return EXIT_OK
    for section, table in msgspec.to_builtins(settings, builtin_types=(_decimal(),)).items():
        rows = (
            table.items()
            if section != "strategies"
            else ((f"{name}.{key}", value) for name, own in table.items() for key, value in own.items())
        )
        for key, value in rows:
            print(f"{section}.{key} = {value}")
    return EXIT_OK


def _decimal() -> type:
    from decimal import Decimal

    return Decimal


def _print_json(value: object) -> None:
    import msgspec

    sys.stdout.write(msgspec.json.Encoder(decimal_format="number").encode(value).decode() + "\n")


# --- bot run


def _run(arguments: argparse.Namespace) -> int:
    from actors.plan import Plan

    settings = _settings(arguments)
    plan = Plan(
        settings=settings,
        state_dir=settings.bot.state_path,
        exchange=_exchange(arguments, settings),
        recordings=tuple(arguments.recording),
        speed=_speed(arguments.speed),
        for_ns=_for_ns(arguments.for_),
    )
    is_live = settings.bot.mode == "live" or arguments.live is not None
    if not (arguments.headless or arguments.json) and sys.stdin.isatty() and sys.stdout.isatty():
        return _run_with_screen(plan, arguments, is_live=is_live)
    if is_live:
        plan = _unlocked(plan, arguments)
    return _run_headless(plan, is_json=arguments.json)


def _unlocked(plan: Plan, arguments: argparse.Namespace) -> Plan:
    """Return the plan with the key of the live account, once every lock is open."""
    import msgspec

    from actors.locks import harden, open_locks

    harden()
    opened = open_locks(
        plan.settings,
        os.environ,
        named=arguments.live,
        confirmed=arguments.confirm,
        ask=_ask if sys.stdin.isatty() else None,
    )
    return msgspec.structs.replace(plan, live=opened)


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _exchange(arguments: argparse.Namespace, settings: Settings) -> Any:
    if arguments.recording and settings.exchange.name == "poloniex":
        raise SettingsError("--recording plays on the simulated exchange; it cannot be given with --exchange poloniex")
    if _speed(arguments.speed) != 1.0 and settings.exchange.name == "poloniex":
        raise SettingsError(f"--speed {arguments.speed}: Poloniex has one speed; give --exchange simulated")
    is_simulated = bool(arguments.recording) or _speed(arguments.speed) != 1.0
    if settings.bot.mode == "live":
        if is_simulated or settings.exchange.name != "poloniex":
            raise SettingsError('bot.mode = "live" needs exchange.name = "poloniex", its own speed and no recording')
        return "poloniex"
    return "simulated" if is_simulated else settings.exchange.name


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = -1.0
    if not 0.01 <= speed <= 1000:
        raise SettingsError(f"--speed {text}: must be `max`, or a number of 0.01 to 1000")
    return speed


def _for_ns(text: str | None) -> int | None:
    from bot.core.durations import duration_ns

    if text is None:
        return None
    try:
        return duration_ns(text)
    except ValueError as error:
        raise SettingsError(f"--for {text}: {error}") from None


def _run_headless(plan: Any, *, is_json: bool) -> int:
    import trio

    from actors.front_door import leaf_error
    from actors.system import run_daemon

    _start_logging()
    try:
        result = trio.run(run_daemon, plan, _say_ready)
    except BaseExceptionGroup as group:
        raise leaf_error(group) from group
    if is_json:
        _print_json(result)
    else:
        print(_summary(result))
    return EXIT_OK


def _say_ready(hello: Any) -> None:
    print(f"bot {hello.version}: {hello.mode} trading on {hello.exchange}", file=sys.stderr)
    print(f"state in {hello.state_dir}, pid {hello.pid}; `bot attach` opens a screen", file=sys.stderr)


def _start_logging() -> None:
    from bot.logs import SafeFormatter

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(SafeFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("httpx", "httpcore", "hypercorn.error", "hypercorn.access", "trio-websocket"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def _summary(result: Any) -> str:
    counts = f"{result.signals} signals, {result.orders} orders, {result.denied} denied, {result.fills} fills"
    lines = [
        f"ended: {result.reason}",
        f"{result.frames} frames, {counts} in {result.seconds:.1f} s",
        f"equity {result.equity} {result.quote}, cash {result.cash} {result.quote}",
    ]
    lines += [f"holds {row.quantity:f} {symbol} at {row.entry_price:f}" for symbol, row in result.positions.items()]
    lines.append(f"journal {result.journal}: {result.journal_records} records, {result.journal_hash}")
    return "\n".join(lines)


def _run_with_screen(plan: Plan, arguments: argparse.Namespace, *, is_live: bool) -> int:
    from bot.launch import start_daemon

    own = sys.argv[1:]
    if is_live and arguments.confirm is None:  # the daemon has no terminal to ask on
        from actors.locks import confirm
        from bot.config.keys import check_hosts

        account = plan.settings.live.account
        confirm(account, None, _ask, is_simulated=check_hosts(plan.settings))
        own = [*own, "--confirm", account]
    start_daemon(own, plan.state_dir)
    return _show_screen(plan.state_dir)


# --- talking to a running bot


def _attach(arguments: argparse.Namespace) -> int:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise SettingsError("a screen needs a terminal; `bot status` works without one")
    state_dir = _settings(arguments).bot.state_path
    from bot.control.client import ask_status

    ask_status(state_dir)  # says at once when there is no bot
    return _show_screen(state_dir)


def _show_screen(state_dir: Path) -> int:
    import importlib

    # By name: nothing that a daemon or `bot status` imports may lead to Textual.
    app = importlib.import_module("bot.tui.app")
    result = app.run_screen(state_dir)
    print(f"screen closed: {result.value}", file=sys.stderr)
    return EXIT_OK


def _status(arguments: argparse.Namespace) -> int:
    from bot.control.client import ask_status
    from bot.control.report import status_text

    state_dir = _settings(arguments).bot.state_path
    try:
        hello, view = ask_status(state_dir)
    except NotRunning:
        from bot.storage.last import last_view

        stored = last_view(state_dir)
        if stored is None:
            raise
        name, view = stored
        if arguments.json:
            _print_json({"running": False, "journal": name, "view": view})
        else:
            print(f"not running; {name} says:\n{status_text(view)}")
        return NotRunning.exit_code
    if arguments.json:
        _print_json({"running": True, "daemon": hello, "view": view})
    else:
        print(f"bot {hello.version}, pid {hello.pid}, {hello.mode} trading on {hello.exchange}\n{status_text(view)}")
    return EXIT_OK


def _command(arguments: argparse.Namespace) -> int:
    from bot.control.client import send_command

    reply = send_command(_settings(arguments).bot.state_path, arguments.command)
    return _say_reply(reply, is_json=arguments.json)


def _say_reply(reply: Any, *, is_json: bool) -> int:
    if is_json:
        _print_json({"ok": reply.is_ok, "text": reply.text})
    else:
        print(reply.text)
    return EXIT_OK if reply.is_ok else BotError.exit_code


def _rearm(arguments: argparse.Namespace) -> int:
    import re

    from bot.control.client import send_command
    from bot.control.protocol import EQUITY_PATTERN, SUBJECT_LENGTH_MAX

    equity = arguments.equity or ""
    if not re.match(EQUITY_PATTERN, equity):
        raise SettingsError(f"--equity {equity}: must be a number such as 10000 or 9874.50")
    if len(arguments.latch) > SUBJECT_LENGTH_MAX:
        raise SettingsError(f"{arguments.latch[:20]}…: the name of a latch has at most {SUBJECT_LENGTH_MAX} characters")
    reply = send_command(
        _settings(arguments).bot.state_path,
        "rearm",
        subject=arguments.latch,
        equity=equity,
        is_new_baseline=arguments.new_baseline,
    )
    return _say_reply(reply, is_json=arguments.json)


def _abandon(arguments: argparse.Namespace) -> int:
    from bot.control.client import send_command
    from bot.control.protocol import SUBJECT_LENGTH_MAX

    if len(arguments.order) > SUBJECT_LENGTH_MAX:
        raise SettingsError(f"{arguments.order[:20]}…: an id has at most {SUBJECT_LENGTH_MAX} characters")
    reply = send_command(_settings(arguments).bot.state_path, "abandon", subject=arguments.order)
    return _say_reply(reply, is_json=arguments.json)


def _completion(arguments: argparse.Namespace) -> int:
    import shtab

    print(shtab.complete(make_parser(), arguments.shell))
    return EXIT_OK
