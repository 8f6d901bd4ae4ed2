"""From settings to definitions: bundled kinds, rule documents, and Python files with every way to be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot.core import tactics as t
from bot.errors import SettingsError
from bot.strategies import make_strategy
from bot.strategies.advice import AdviceRow, Definition
from bot.strategies.base import Strategy
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.definition import PythonSettings, RulesSettings, definition_of, templates_folder
from bot.strategies.kernels import KernelDefinition
from bot.strategies.mean_reversion import MeanReversionSettings
from bot.strategies.rules.definition import RuleDefinition
from tests.strategies.rules.documents import document
from tests.support.rule_documents import MINUTE_NS, bars_of, random_market

TEN_LINES = """\
from bot.core.indicators import Sma
from bot.strategies.base import Strategy

class Mine(Strategy):
    def __init__(self, window: int = 20) -> None:
        self.average = Sma(window)

    def on_bar(self, bar):
        average = self.average.step(bar.close_ticks)
        return None if average is None else float(bar.close_ticks > average)
"""

TEN_LINES_OF_KERNEL = """\
import msgspec, numpy as np
from bot.strategies.kernels import CLOSE, KernelStrategy, share_step

class Params(msgspec.Struct, frozen=True):
    window: int = 20

@share_step
def step(params, state, bar):
    state[0] += (bar[CLOSE] - state[0]) * 2 / (params[0] + 1)
    return 1.0 if bar[CLOSE] > state[0] else 0.0

MINE = KernelStrategy(Params, step, lambda params: np.zeros(1), lambda params: int(params[0]))
"""


def python(file: Path, name: str = "Mine", **params: bool | float | str) -> PythonSettings:
    return PythonSettings(timeframe="1m", notional=250, file=str(file), object=name, params=params)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "mine.py"


def test_bundled_kinds_are_kernels_with_the_size_of_their_settings() -> None:
    made = definition_of(CrossoverSettings(timeframe="5m", notional=12.5, fast=2, slow=3))
    assert isinstance(made, KernelDefinition)
    assert made.timeframe_ns == 5 * MINUTE_NS
    assert made.lookback_bars == 2
    market = random_market(np.random.default_rng(1), 100)
    advice = made.advise("BTC_USDT", {"BTC_USDT": market})
    assert set(advice.size.tolist()) == {0, 12_500_000}
    made = definition_of(MeanReversionSettings(timeframe="1m", notional=1, equity_pct=30))
    assert made is not None
    assert made.terms[t.SIZING] == t.SIZE_SHARE


def test_a_size_from_outside_wins() -> None:
    whole = t.SIZE_SHARE, 1_000_000
    for settings in (
        CrossoverSettings(timeframe="1m", notional=5, fast=1, slow=2),
        RulesSettings(document="x", text=document(timeframe="1m"), notional=5),
    ):
        made = definition_of(settings, whole)
        assert made is not None
        assert made.terms[t.SIZING] == t.SIZE_SHARE
        row = adviser_rows(made)[-1]
        assert row is not None
        assert row.size in (1_000_000, 0)


def test_who_rests_at_the_touch_is_for_the_exact_engine() -> None:
    assert definition_of(MeanReversionSettings(timeframe="1m", notional=1, is_passive=True)) is None


def adviser_rows(made: Definition) -> list[AdviceRow | None]:
    market = random_market(np.random.default_rng(1), 40)
    adviser = made.make_adviser("BTC_USDT", {"BTC_USDT": market.instrument})
    return [adviser.on_bar(bar) for bar in bars_of(market)]


def test_a_document_is_read_with_its_settings_or_from_its_path(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(document("[params]", "n = { default = 3, low = 2, high = 9 }", when="sma(close, n) > 1"))
    settings = RulesSettings(document=str(path), params={"n": 7}, timeframe="15m", notional=5)
    made = make_strategy(settings)
    assert isinstance(made, RuleDefinition)
    assert (made.timeframe_ns, made.lookback_bars) == (15 * MINUTE_NS, 6)
    assert made.terms[t.SIZING] == t.SIZE_QUOTE
    as_it_says = definition_of(RulesSettings(document="x", text=path.read_text()))
    assert as_it_says is not None
    assert as_it_says.terms[t.SIZING] == t.SIZE_SHARE
    assert as_it_says.timeframe_ns == 5 * MINUTE_NS
    with pytest.raises(SettingsError, match=r"nowhere\.toml: cannot be read: No such file"):
        definition_of(RulesSettings(document="nowhere.toml"))


def test_a_class_of_ten_lines_is_a_strategy(file: Path) -> None:
    file.write_text(TEN_LINES)
    assert len(TEN_LINES.splitlines()) <= 10
    made = make_strategy(python(file, window=3))
    assert isinstance(made, Strategy)
    bars = bars_of(random_market(np.random.default_rng(1), 5))
    assert [made.on_bar(bar) is None for bar in bars] == [True, True, False, False, False]
    assert definition_of(python(file)) is None
    assert make_strategy(python(file)) is not made


def test_a_kernel_in_a_file_is_a_definition(file: Path) -> None:
    file.write_text(TEN_LINES_OF_KERNEL)
    made = definition_of(python(file, "MINE", window=4))
    assert isinstance(made, KernelDefinition)
    assert made.lookback_bars == 4
    market = random_market(np.random.default_rng(1), 40)
    flags = made.advise("BTC_USDT", {"BTC_USDT": market}).flags.tolist()
    assert flags == [0 if row is None else row.flags for row in adviser_rows(made)]
    assert isinstance(make_strategy(python(file, "MINE")), KernelDefinition)


WRONG: dict[str, tuple[str | None, str, dict[str, int], str]] = {
    "no file": (None, "Mine", {}, "cannot be loaded: No such file or directory"),
    "no Python": ("class Mine(", "Mine", {}, r"cannot be loaded: '\(' was never closed"),
    "an import that fails": ("import nothing_of_this_name", "Mine", {}, "cannot be loaded: No module named"),
    "no such name": (TEN_LINES, "Other", {}, "Other: there is no such name in the file"),
    "no strategy": ("Mine = 3", "Mine", {}, "Mine: must be a subclass of Strategy or a KernelStrategy, not 3"),
    "no such argument": (TEN_LINES, "Mine", {"x": 1}, "Mine: cannot be made: .* unexpected keyword argument 'x'"),
    "an abstract class": (
        "from bot.strategies.base import Strategy\nclass Mine(Strategy): pass",
        "Mine",
        {},
        "Mine: cannot be made: Can't instantiate abstract class",
    ),
    "no such parameter": (TEN_LINES_OF_KERNEL, "MINE", {"x": 1}, "MINE: has no parameter x, only window"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_python_file_is_said(file: Path, case: str) -> None:
    text, name, params, expected = WRONG[case]
    if text is not None:
        file.write_text(text)
    with pytest.raises(SettingsError, match=expected) as caught:
        definition_of(python(file, name, **params))
    assert str(caught.value).startswith(str(file))


def test_a_file_that_is_not_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(TEN_LINES)
    with pytest.raises(SettingsError, match=r"mine.txt: is no Python file; its name must end in \.py"):
        definition_of(python(path))


def test_templates_are_found() -> None:
    assert len(list(templates_folder().glob("*.toml"))) >= 8
