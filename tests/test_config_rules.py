"""Strategies in files: a table names a rule document or a Python file, and what is wrong with either is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from bot.config import Settings, load_settings, settings_digest
from bot.errors import SettingsError
from bot.strategies.definition import PythonSettings, RulesSettings
from tests.strategies.rules.documents import document

TABLE = '[strategies.mine]\nkind = "rules"\ndocument = "rules/mine.toml"\n'
PARAM = ("[params]", "fast = { default = 3, low = 2, high = 9 }")


class Operator:
    """Writes a settings file in one folder and a document in the one below."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "rules").mkdir()

    def load(self, table: str, text: str | bytes | None, sets: Sequence[str] = ()) -> Settings:
        if text is not None:
            content = text if isinstance(text, bytes) else text.encode()
            (self.folder / "rules" / "mine.toml").write_bytes(content)
        file = self.folder / "my.toml"
        file.write_text(table)
        return load_settings([file], {}, sets)

    def rules(self, table: str, text: str, sets: Sequence[str] = ()) -> RulesSettings:
        settings = self.load(table, text, sets).strategies["mine"]
        assert isinstance(settings, RulesSettings)
        return settings

    def problems(self, table: str, text: str | bytes | None, sets: Sequence[str] = ()) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.load(table, text, sets)
        return [problem.replace(f"{self.folder}/", "") for problem in caught.value.problems]


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def test_a_document_is_found_beside_the_settings_file_and_kept_with_the_settings(operator: Operator) -> None:
    text = document(*PARAM)
    settings = operator.rules(TABLE, text)
    assert settings.document == str(operator.folder / "rules" / "mine.toml")
    assert settings.text == text
    assert settings.timeframe == "5m"
    assert settings.notional == 0
    assert settings.params == {}


def test_the_table_may_say_timeframe_size_and_parameters(operator: Operator) -> None:
    table = TABLE + 'timeframe = "15m"\nnotional = 50\nparams = { fast = 4 }\n'
    settings = operator.rules(table, document(*PARAM))
    assert (settings.timeframe, settings.notional, settings.params) == ("15m", 50, {"fast": 4})
    settings = operator.rules(table, document(*PARAM), ["strategies.mine.params.fast=7"])
    assert settings.params == {"fast": 7}


def test_a_parameter_is_set_from_the_environment(operator: Operator) -> None:
    operator.load(TABLE, document(*PARAM))
    environ = {"BOT__STRATEGIES__MINE__PARAMS__FAST": "5"}
    settings = load_settings([operator.folder / "my.toml"], environ, []).strategies["mine"]
    assert isinstance(settings, RulesSettings)
    assert settings.params == {"fast": 5}


def test_another_text_of_the_document_is_another_digest(operator: Operator) -> None:
    digests = {settings_digest(operator.load(TABLE, document(when=when))) for when in ("close > 1", "close > 2")}
    assert len(digests) == 2


PROBLEMS = {
    "no document": (
        '[strategies.mine]\nkind = "rules"',
        document(),
        ["my.toml:1: strategies.mine.document is missing"],
    ),
    "no file": (TABLE, None, ["rules/mine.toml: cannot be read: No such file or directory"]),
    "no text": (TABLE, b"\xff", ["rules/mine.toml: is not UTF-8 text"]),
    "a mistake in the document": (
        TABLE,
        document(when="clsoe > 1"),
        ["rules/mine.toml:4: entry.long.when, column 1: there is no clsoe; did you mean close?"],
    ),
    "an unknown parameter": (
        TABLE + "params = { fats = 2 }",
        document(*PARAM),
        ["my.toml:4: strategies.mine.params.fats is no parameter of rules/mine.toml; did you mean fast?"],
    ),
    "a parameter of the wrong type": (
        TABLE + 'params = { fast = "2" }',
        document(*PARAM),
        ['my.toml:4: strategies.mine.params.fast = "2" must be a finite number'],
    ),
    "a parameter that is not finite": (
        TABLE + "params = { fast = inf }",
        document(*PARAM),
        ["my.toml:4: strategies.mine.params.fast = Infinity must be a finite number, a text, true or false"],
    ),
    "a parameter that makes no sense": (
        TABLE + "params = { fast = 0 }",
        document(*PARAM, when="sma(close, fast) > 1"),
        ["rules/mine.toml:6: entry.long.when, column 1: sma: window 0 is not in 1 to 10000"],
    ),
    "params that are no table": (
        TABLE + "params = 3",
        document(),
        ["my.toml:4: strategies.mine.params = 3 must be a table"],
    ),
    "the text itself": (
        TABLE + 'text = "x"',
        document(),
        ["my.toml:4: strategies.mine.text is no setting; did you mean strategies.mine.execution?"],
    ),
    "a timeframe that is not listed": (
        TABLE,
        document(timeframe="3m"),
        [
            (
                'my.toml:3: strategies.mine.document = "rules/mine.toml" has a timeframe of 3m, which must be below '
                "1m or one of 1m 5m 10m 15m 30m 1h 2h 4h 6h 12h 1d 3d 1w; give another timeframe"
            )
        ],
    ),
    "a symbol that is not watched": (
        TABLE,
        document(when="of('XRP_USDT', close) > 1"),
        ['my.toml:3: strategies.mine.document = "rules/mine.toml" looks at symbols; exchange.symbols has no XRP_USDT'],
    ),
    "params of a kind without": (
        '[strategies.mine]\nkind = "crossover"\ntimeframe = "1m"\nnotional = 1\nparams = { fast = 1 }',
        document(),
        ["my.toml:5: strategies.mine.params.fast is no setting"],
    ),
    "python without a file": (
        '[strategies.mine]\nkind = "python"\ntimeframe = "1m"\nnotional = 1\nobject = "Mine"',
        document(),
        ["my.toml:1: strategies.mine.file is missing"],
    ),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_is_wrong_is_named(operator: Operator, case: str) -> None:
    table, text, expected = PROBLEMS[case]
    assert operator.problems(table, text) == expected


def test_a_document_may_be_given_from_outside_relative_to_the_working_directory(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.load(TABLE, document())
    monkeypatch.chdir(operator.folder / "rules")
    settings = operator.rules(TABLE, document(), ['strategies.mine.document="mine.toml"'])
    assert settings.document == "mine.toml"


def test_a_python_strategy_names_a_file_and_an_object(operator: Operator) -> None:
    table = '[strategies.mine]\nkind = "python"\ntimeframe = "1m"\nnotional = 1\nfile = "a.py"\nobject = "Mine"\n'
    settings = operator.load(table + '[strategies.mine.params]\nwindow = 3\nshare = 0.5\nname = "x"\n', None)
    mine = settings.strategies["mine"]
    assert isinstance(mine, PythonSettings)
    assert (mine.file, mine.object) == (str(operator.folder / "a.py"), "Mine")
    assert mine.params == {"window": 3, "share": 0.5, "name": "x"}
