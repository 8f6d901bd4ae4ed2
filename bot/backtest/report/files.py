"""A run on disk: one folder with report.json, report.html, trades.csv, fills.csv, equity.csv and manifest.json.

The same inputs give the same bytes: keys have a fixed order and no file knows the time. `manifest.json` has the hash of
every other file and is written last, so a folder without it, or one that was changed, is found out.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import numpy as np

from bot.backtest.base import ROLES, Outcome
from bot.backtest.metrics import METRICS
from bot.backtest.report.document import Report
from bot.backtest.report.manifest import Manifest
from bot.backtest.report.page import render_page
from bot.backtest.trades import Excursions, Trades, excursions, round_trips
from bot.errors import SettingsError
from bot.strategies.advice import Ints, Market

REPORT: Final = "report.json"
PAGE: Final = "report.html"
TRADES: Final = "trades.csv"
FILLS: Final = "fills.csv"
EQUITY: Final = "equity.csv"
MANIFEST: Final = "manifest.json"

Record = TypeVar("Record", bound=msgspec.Struct)


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What `manifest.json` holds."""

    manifest: Manifest
    files: dict[str, str]
    """Name of each other file to the SHA-256 of its bytes."""


def report_json(report: Report) -> bytes:
    """Return a report as JSON, indented, with a line end; keys in the order of `Report`."""
    return _json(report)


def load_report(path: Path) -> Report:
    """Return the report in a JSON file.

    Raises:
        SettingsError: the file cannot be read, is no JSON, or lacks a key; the message names file and key.

    """
    report = _decoded(path, _read(path), Report)
    missing = [name for name in METRICS if name not in report.metrics]
    if missing:
        raise SettingsError(f"{path}: metrics.{missing[0]} is missing")
    columns = (report.curve.time_ns, report.curve.equity, report.curve.drawdown)
    if len({len(column) for column in columns}) != 1 or len(report.curve.hold) not in {0, len(report.curve.time_ns)}:
        raise SettingsError(f"{path}: the columns of curve differ in length")
    if len(report.days.day_ns) != len(report.days.equity):
        raise SettingsError(f"{path}: the columns of days differ in length")
    return report


def save_run(
    directory: Path, report: Report, outcome: Outcome, markets: Sequence[Market], trades: Trades | None = None
) -> None:
    """Write a run into a folder, which is made where it is missing; a run that is there already is replaced.

    Raises:
        SettingsError: a file cannot be written.

    """
    trades = round_trips(outcome, markets) if trades is None else trades
    files = {
        REPORT: report_json(report),
        PAGE: render_page(report).encode(),
        TRADES: trades_csv(trades, excursions(trades, outcome, markets), outcome).encode(),
        FILLS: fills_csv(outcome).encode(),
        EQUITY: equity_csv(outcome).encode(),
    }
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / MANIFEST).unlink(missing_ok=True)
        for name, content in files.items():
            (directory / name).write_bytes(content)
        (directory / MANIFEST).write_bytes(_json(Contents(manifest=report.manifest, files=hashes)))
    except OSError as error:
        raise SettingsError(f"{error.filename or directory}: {error.strerror}") from error


def load_run(directory: Path) -> Report:
    """Return the report of a saved run, with every file of it checked.

    Raises:
        SettingsError: a file is missing, was changed, or lacks a key; the message names file and key.

    """
    path = directory / MANIFEST
    contents = _decoded(path, _read(path), Contents)
    for name in (REPORT, PAGE, TRADES, FILLS, EQUITY):
        if name not in contents.files:
            raise SettingsError(f"{path}: files.{name} is missing")
    for name, digest in contents.files.items():
        if Path(name).name != name:
            raise SettingsError(f"{path}: files.{name} is not the name of a file in this folder")
        if hashlib.sha256(_read(directory / name)).hexdigest() != digest:
            raise SettingsError(
                f"{directory / name}: changed since it was saved: its SHA-256 is not that of {MANIFEST}"
            )
    report = load_report(directory / REPORT)
    if report.manifest != contents.manifest:
        raise SettingsError(f"{path}: manifest is not that of {REPORT}")
    return report


# --- CSV


def trades_csv(trades: Trades, moved: Excursions, outcome: Outcome) -> str:
    """Return every trade as a line; prices, money and fractions as numbers, times as UTC."""
    entry, leave = utc_column(outcome.time_ns, trades.entry_step), utc_column(outcome.time_ns, trades.exit_step)
    net, returns, bars = trades.net, trades.returns, trades.bars
    numbers: list[int] = trades.symbol.tolist()
    rows: list[Sequence[object]] = [
        (
            outcome.symbols[number],
            "long" if trades.side[i] > 0 else "short",
            entry[i],
            "" if trades.exit_role[i] < 0 else leave[i],
            f"{outcome.instruments[number].quantity(int(trades.lots[i])):f}",
            float(trades.entry_price[i]),
            float(trades.exit_price[i]),
            float(trades.gross[i]),
            float(trades.fees[i]),
            float(net[i]),
            float(returns[i]),
            int(bars[i]),
            float(moved.favourable[i]),
            float(moved.adverse[i]),
            "open" if trades.exit_role[i] < 0 else ROLES[int(trades.exit_role[i])],
        )
        for i, number in enumerate(numbers)
    ]
    names = (
        "symbol,side,entry_time,exit_time,quantity,entry_price,exit_price,gross,fees,net,return,bars,"
        "max_favourable,max_adverse,exit"
    )
    return _csv(names, rows)


def fills_csv(outcome: Outcome) -> str:
    """Return every fill as a line; price and quantity are exact, the fee is in quote currency."""
    fills = outcome.fills
    times = utc_column(outcome.time_ns, fills.step)
    rows: list[Sequence[object]] = []
    numbers: list[int] = fills.symbol.tolist()
    for i, number in enumerate(numbers):
        instrument, lots = outcome.instruments[number], int(fills.lots[i])
        rows.append(
            (
                times[i],
                outcome.symbols[number],
                "buy" if lots > 0 else "sell",
                f"{instrument.price(int(fills.price[i])):f}",
                f"{instrument.quantity(abs(lots)):f}",
                float(fills.fee[i]),
                ROLES[int(fills.role[i])],
                "maker" if fills.is_maker[i] else "taker",
            )
        )
    return _csv("time,symbol,side,price,quantity,fee,role,liquidity", rows)


def equity_csv(outcome: Outcome) -> str:
    """Return every step as a line: time (UTC) of its start, equity and exposure after it, in quote currency."""
    times = utc_column(outcome.time_ns, np.arange(len(outcome.time_ns)))
    rows = zip(times, outcome.equity.tolist(), outcome.exposure.tolist(), strict=True)
    return "time,equity,exposure\n" + "".join(f"{time},{equity!r},{exposure!r}\n" for time, equity, exposure in rows)


def utc_column(time_ns: Ints, steps: Ints) -> list[str]:
    """Return the times of some steps as `2026-01-02T03:04:05Z`, with milliseconds where any of them has some."""
    chosen = time_ns[steps]
    unit = "ms" if len(chosen) and np.any(chosen % 1_000_000_000) else "s"
    return [f"{text}Z" for text in np.datetime_as_string(chosen.astype("datetime64[ns]"), unit=unit).tolist()]


def _csv(names: str, rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    text.write(f"{names}\n")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# --- bytes


def _json(record: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1) + b"\n"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error


def _decoded(path: Path, content: bytes, kind: type[Record]) -> Record:
    try:
        return msgspec.json.decode(content, type=kind)
    except ValueError as error:  # no JSON, a key that is missing or of the wrong type, bytes that are no text
        raise SettingsError(f"{path}: {error}") from error
