"""Settings: the layers, the manual, and that whatever is wrong is named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.config import SECTIONS, Settings, default_file, load_settings, settings_digest
from bot.core.toml_lines import key_lines
from bot.errors import SettingsError
from bot.strategies import KINDS
from bot.strategies.crossover import CrossoverSettings
from bot.strategies.mean_reversion import MeanReversionSettings

ROOT = Path(__file__).parents[1]
DEFAULT = default_file().read_text("utf-8")

MINE = """\
[risk]
# comment
daily_loss_pct = 2.5

[strategies.mine]
kind = "crossover"
timeframe = "5m"
notional = 100
"""


class Operator:
    """Writes settings files and loads them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def file(self, content: str | bytes, name: str = "my.toml") -> Path:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def load(
        self, content: str | bytes | None = None, environ: Mapping[str, str] | None = None, sets: Sequence[str] = ()
    ) -> Settings:
        files = [] if content is None else [self.file(content)]
        return load_settings(files, environ or {}, sets)

    def problems(
        self, content: str | bytes | None = None, environ: Mapping[str, str] | None = None, sets: Sequence[str] = ()
    ) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.load(content, environ, sets)
        return [problem.replace(f"{self.directory}/", "") for problem in caught.value.problems]


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


# --- the manual


def test_the_defaults_are_valid_and_exact(operator: Operator) -> None:
    settings = operator.load()
    assert settings.exchange.symbols == ("BTC_USDT", "ETH_USDT")
    assert settings.exchange.quote == "USDT"
    assert settings.paper.maker_fee_bps == Decimal("14.5")
    assert settings.risk.orders_per_minute == 120
    assert isinstance(settings.strategies["crossover"], CrossoverSettings)
    assert isinstance(settings.strategies["reversion"], MeanReversionSettings)
    assert not settings.strategies["crossover"].is_passive
    assert settings.strategies["reversion"].is_passive


def test_default_toml_names_every_key_of_the_settings_and_the_settings_have_no_defaults() -> None:
    named = {path for path in key_lines(DEFAULT) if len(path) == 2 and path[0] != "strategies"}
    fields = {(name, field.name) for name, section in SECTIONS.items() for field in msgspec.structs.fields(section)}
    assert named == fields
    for section in SECTIONS.values():
        assert all(field.required for field in msgspec.structs.fields(section))
    assert set(SECTIONS) | {"strategies"} == set(Settings.__struct_fields__)


def test_every_strategy_key_stands_in_the_manual() -> None:
    for kind in KINDS.values():
        for field in msgspec.structs.fields(kind):
            if field.name != "text":  # filled in with the document itself
                assert re.search(rf"^(#   )?{field.name}\b", DEFAULT, re.MULTILINE), field.name


def test_every_key_has_a_comment_above_or_beside_it() -> None:
    lines = DEFAULT.split("\n")
    for path, number in key_lines(DEFAULT).items():
        line = lines[number - 1]
        is_table = line.startswith("[")
        assert is_table or lines[number - 2].startswith("#") or " # " in line or "  # " in line, path


def test_every_bound_in_the_manual_is_the_bound_in_force(operator: Operator) -> None:
    """`1 to 300` in a comment means that 1 and 300 pass alone, or fail only against another key, and that 301 fails."""
    lines = DEFAULT.split("\n")
    for path, number in key_lines(DEFAULT).items():
        comment = lines[number - 2]
        found = re.search(r"(?<![\w.])(-?[\d.]+) to (\d+)\b(?! (?:items|characters|in))", comment)
        if path[0] == "strategies" or not found or not re.search(r"= -?[\d.]+$", lines[number - 1]):
            continue
        key, low, high = ".".join(path), Decimal(found[1]), Decimal(found[2])
        for value in (low, high):
            problems = try_sets(f"{key}={value}")
            assert not any(" number" in problem for problem in problems), (key, value, problems)
        for value in (low - Decimal("0.001") if low % 1 else low - 1, high + 1):
            assert any(key in problem for problem in try_sets(f"{key}={value}")), (key, value)


def try_load(files: Sequence[Path], sets: Sequence[str]) -> Settings | list[str]:
    """Return the settings, or what is wrong with them."""
    try:
        return load_settings(files, {}, sets)
    except SettingsError as error:
        return error.problems


def try_sets(*sets: str) -> list[str]:
    answer = try_load([], sets)
    return answer if isinstance(answer, list) else []


def test_the_example_for_paper_trading_is_valid() -> None:
    settings = load_settings([ROOT / "config" / "paper.toml"], {}, [])
    assert list(settings.strategies) == ["btc-trend", "eth-dips"]
    assert settings.exchange.name == "poloniex"
    assert settings.risk.collar_pct == load_settings([], {}, []).risk.collar_pct


# --- layers


def test_later_layers_win(operator: Operator) -> None:
    environ = {"BOT__PAPER__LATENCY_MS": "2", "BOT__PAPER__CASH": "20.25", "BOT_CONFIG": "ignored", "HOME": "/x"}
    settings = load_settings(
        [
            operator.file("[paper]\nlatency_ms = 0\ncash = 10\nmaker_fee_bps = 1", "a.toml"),
            operator.file("paper.latency_ms = 1\npaper.cash = 15", "b.toml"),
        ],
        environ,
        ["paper.latency_ms=3", "paper.latency_ms = 4"],
    )
    assert settings.paper.latency_ms == 4
    assert settings.paper.cash == Decimal("20.25")
    assert settings.paper.maker_fee_bps == 1
    assert settings.paper.taker_fee_bps == Decimal("15.5")


def test_a_file_with_strategies_replaces_the_default_ones_and_the_next_file_adds(operator: Operator) -> None:
    first = operator.file(MINE, "a.toml")
    second = operator.file(
        "[strategies.mine]\nfast = 3\n[strategies.a]\nkind='crossover'\ntimeframe='1d'\nnotional=1", "b"
    )
    assert list(load_settings([first], {}, []).strategies) == ["mine"]
    both = load_settings([first, second], {}, []).strategies
    assert list(both) == ["a", "mine"]
    assert both["mine"] == CrossoverSettings(timeframe="5m", notional=100, fast=3)


@pytest.mark.parametrize("sets", [[], ["strategies={}"]])
def test_an_empty_table_of_strategies_runs_none(operator: Operator, sets: list[str]) -> None:
    assert operator.load(None if sets else "[strategies]", sets=sets).strategies == {}


def test_one_key_of_a_strategy_is_changed_from_outside(operator: Operator) -> None:
    before = operator.load().strategies
    environ = {"BOT__STRATEGIES__CROSSOVER__SLOW": "40", "BOT__STRATEGIES__REVERSION__IS_PASSIVE": "false"}
    after = operator.load(environ=environ, sets=["strategies.crossover.fast=7"]).strategies
    assert after == {
        "crossover": msgspec.structs.replace(before["crossover"], fast=7, slow=40),
        "reversion": msgspec.structs.replace(before["reversion"], is_passive=False),
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("/var/lib/bot", "/var/lib/bot"),
        ("~/bot dir#1", "~/bot dir#1"),
        ('"quoted"', "quoted"),
        ("", ""),
        ("a=b", "a=b"),
        ("x\ny = 1", "x\ny = 1"),
    ],
)
def test_values_from_outside_are_toml_or_bare_words(operator: Operator, text: str, value: str) -> None:
    assert operator.load(sets=[f"bot.state_dir={text}"]).bot.state_dir == value
    assert operator.load(environ={"BOT__BOT__STATE_DIR": text}).bot.state_dir == value


def test_a_value_from_outside_can_be_a_list_or_a_table(operator: Operator) -> None:
    settings = operator.load(
        environ={"BOT__EXCHANGE__SYMBOLS": '["BTC_USDT"]'}, sets=["paper={ cash = 5, latency_ms = 0 }"]
    )
    assert settings.exchange.symbols == ("BTC_USDT",)
    assert (settings.paper.cash, settings.paper.latency_ms) == (5, 0)


def test_the_state_directory_is_the_users_own_unless_named(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    monkeypatch.setenv("HOME", "/home/me")
    assert operator.load(sets=["bot.state_dir=~/x"]).bot.state_path == Path("/home/me/x")
    assert operator.load(sets=["bot.state_dir=x"]).bot.state_path == Path.cwd() / "x"
    if sys.platform == "linux":
        assert operator.load().bot.state_path == Path("/somewhere/poloniex-bot")


# --- problems


def test_every_problem_is_named_at_once_with_its_place(operator: Operator) -> None:
    text = """\
[risk]
daily_loss_pct = 250  # too much
dayly_loss_halt_pct = 4
max_open_orders = "ten"

[paper]
cash = nan
"""
    percent = "must be a finite number more than 0, at most 100, with at most 6 decimals"
    money = "must be a finite number more than 0, at most 1000000000000, with at most 12 decimals"
    problems = operator.problems(text, {"BOT__BOT__SEED": "-1"}, ["feed.history_bars=501"])
    assert sorted(problems) == [
        "--set feed.history_bars: feed.history_bars = 501 must be a whole number at least 0, at most 500",
        "environment variable BOT__BOT__SEED: bot.seed = -1 must be a whole number at least 0, at most 4294967295",
        f"my.toml:2: risk.daily_loss_pct = 250 {percent}",
        "my.toml:3: risk.dayly_loss_halt_pct is no setting; did you mean risk.daily_loss_halt_pct?",
        'my.toml:4: risk.max_open_orders = "ten" must be a whole number at least 1, at most 200',
        f"my.toml:7: paper.cash = NaN {money}",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[risk]\ndaily_loss_pct = 6", r"my.toml:2: .* = 6 must be less than .* = 5.0 \(config/default.toml:\d+\)"),
        ("[risk]\ndrawdown_halt_pct = 8", r"config/default.toml:\d+: .* = 8.0 must be .* = 8 \(my.toml:2\)"),
        ("feed.backoff_max_s = 0.1", r".*_min_s = 0.5 must be at most feed.backoff_max_s = 0.1 \(my.toml:1\)"),
        ('exchange.symbols = ["BTC_USDT", "ETH_BTC"]', r"my.toml:1: .* quote coin, not BTC and USDT"),
        ('exchange.symbols = ["BTC_USDT", "BTC_USDT"]', r"my.toml:1: exchange.symbols = .* names BTC_USDT twice"),
        ('exchange.symbols = ["btc_usdt"]', r"my.toml:1: exchange.symbols = .* of which each is a symbol such as "),
        ('exchange.symbols = ["BTC_USDT\\n"]', r"my.toml:1: exchange.symbols = "),
        ("exchange.symbols = []", r"my.toml:1: exchange.symbols = \[\] must be a list of 1 to 50 items"),
        ('exchange.name = "kraken"', r'my.toml:1: exchange.name = "kraken" must be one of "auto", "poloniex", "sim'),
        ('exchange.rest_url = "ftp://x"', r'my.toml:1: exchange.rest_url = "ftp://x" must be an address such as'),
        ('exchange.ws_url = "wss://"', r"my.toml:1: exchange.ws_url = "),
        ("bot.seed = 1.0", r"my.toml:1: bot.seed = 1.0 must be a whole number"),
        ("bot.seed = true", r"my.toml:1: bot.seed = true must be a whole number"),
        ("paper.cash = true", r"my.toml:1: paper.cash = true must be a finite number"),
        ('paper.cash = "100"', r'my.toml:1: paper.cash = "100" must be a finite number'),
        ("paper.cash = 1e-13", r"my.toml:1: paper.cash = 1E-13 must .* at most 12 decimals"),
        ("paper.cash = 1e400", r"my.toml:1: paper.cash = 1E\+400 must"),
        ("feed.ping_interval_s = 1e400", r"my.toml:1: feed.ping_interval_s = 1E\+400 must"),
        ("feed.ping_interval_s = 1979-05-27", r"my.toml:1: feed.ping_interval_s = 1979-05-27 must"),
        ("bot.seed.x = 1", r"my.toml:1: bot.seed = {…} must be a whole number"),
        ("bot = 5", r"my.toml:1: bot = 5 must be a table, \[bot\]"),
        ("[[risk]]\nstale_ms = 5", r"my.toml:1: risk = \[{…}\] must be a table, \[risk\]"),
        ("seed = 5", r"my.toml:1: seed is no setting; did you mean bot.seed\?"),
        ("[exchnage]\nname = 'auto'", r"my.toml:2: exchnage.name is no setting; did you mean exchange.name\?"),
        ("[zzz]", r"my.toml:1: zzz is no setting"),
        ('[paper]\n"a b\\n" = 1', r'my.toml:2: paper."a b\\n" is no setting'),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named(operator: Operator, text: str, problem: str) -> None:
    problems = operator.problems(text)
    assert len(problems) == 1
    assert re.match(problem, problems[0]), problems


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("kind = 'crossower'", r"my.toml:\d+: .*kind = \"crossower\" must be .*; did you mean crossover\?"),
        ("kind = 5", r"my.toml:\d+: strategies.mine.kind = 5 must be one of"),
        ("fast = 30", r"my.toml:9: strategies.mine.fast = 30 must be less than slow = 30"),
        ("slow = 3\nfast = 3", r"my.toml:9, my.toml:10: strategies.mine.fast = 3 must be .* strategies.mine.slow = 3"),
        ("fats = 3", r"my.toml:9: strategies.mine.fats is no setting; did you mean strategies.mine.fast\?"),
        ("window = 3", r"my.toml:9: strategies.mine.window is no setting"),
        ("symbols = ['DOGE_USDT']", r"my.toml:9: .*symbols = \[\"DOGE_USDT\"\] must be out of .* no DOGE_USDT"),
        ("symbols = ['BTC_USDT', 'BTC_USDT']", r"my.toml:9: strategies.mine.symbols = .* twice"),
        ("notional = inf", r"my.toml:\d+: strategies.mine.notional = Infinity must be a finite number more than 0"),
        ("notional = 1e999", r"my.toml:\d+: strategies.mine.notional = 1E\+999 must be a finite number"),
        ("notional = 0", r"my.toml:\d+: strategies.mine.notional = 0 must be a finite number more than 0"),
        ("timeframe = '500ms'", r"my.toml:\d+: strategies.mine.timeframe = \"500ms\" must be from 1s to 1w"),
        ("timeframe = '2w'", r"my.toml:\d+: strategies.mine.timeframe = \"2w\" must be from 1s to 1w"),
        ("timeframe = '1s500ms'", r"my.toml:\d+: strategies.mine.timeframe = .* must be a whole number of seconds"),
        ("timeframe = '7m'", r"my.toml:\d+: strategies.mine.timeframe = \"7m\" must be below 1m or one of 1m 5m 10m"),
        ("timeframe = 'soon'", r"my.toml:\d+: strategies.mine.timeframe = \"soon\" must be a length of time"),
        ("timeframe = 60", r"my.toml:\d+: strategies.mine.timeframe = 60 must be text in quotes"),
    ],
)  # fmt: skip
def test_a_wrong_strategy_is_named(operator: Operator, change: str, problem: str) -> None:
    key = change.partition(" ")[0]
    text = re.sub(rf"^{key} = .*$", change, MINE, flags=re.MULTILINE)
    problems = operator.problems(text if text != MINE else f"{MINE}{change}\n")
    assert len(problems) == 1
    assert re.match(problem, problems[0]), problems


@pytest.mark.parametrize("key", ["kind", "timeframe", "notional"])
def test_a_missing_strategy_key_is_named(operator: Operator, key: str) -> None:
    text = re.sub(rf"^{key} = .*\n", "", MINE, flags=re.MULTILINE)
    assert operator.problems(text) == [f"my.toml:5: strategies.mine.{key} is missing"]


def test_a_strategy_without_any_key_or_with_a_bad_name_is_named(operator: Operator) -> None:
    assert operator.problems("[strategies.x]") == ["my.toml:1: strategies.x.kind is missing"]
    assert "must be a table, [strategies.x]" in operator.problems("strategies.x = 5")[0]
    text = MINE.replace("strategies.mine", 'strategies."My Own"')
    assert operator.problems(text) == [
        'my.toml:5: strategies."My Own": a name has 1 to 64 characters a-z, 0-9, _ and -'
    ]


def test_a_slip_in_a_strategys_name_on_the_command_line_is_named(operator: Operator) -> None:
    assert operator.problems(sets=["strategies.crosover.fast=5"]) == [
        "--set strategies.crosover.fast: strategies.crosover.kind is missing; did you mean strategies.crossover?"
    ]


@pytest.mark.parametrize(
    ("sets", "problem"),
    [
        ("paper.cash", "--set paper.cash: must read --set section.key=value"),
        ("=5", "--set : must read --set section.key=value"),
        ("paper..cash=5", "--set paper..cash: must read --set section.key=value"),
        ('exchange.symbols=["BTC_USDT"', "--set exchange.symbols: Unclosed array"),
    ],
)
def test_a_malformed_set_is_named(operator: Operator, sets: str, problem: str) -> None:
    assert operator.problems(sets=[sets]) == [problem]


@pytest.mark.parametrize("variable", ["BOT__", "BOT__SEED", "BOT__STRATEGIES__FAST"])
def test_a_malformed_variable_is_named(operator: Operator, variable: str) -> None:
    assert operator.problems(environ={variable: "5"}) == [
        f"environment variable {variable}: the name must read BOT__SECTION__KEY"
    ]


# --- files


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"[risk]\nx = = 1\n", "my.toml:2:5: Invalid value"),
        (b"[risk]\nstale_ms = 1\nstale_ms = 2\n", "my.toml:3:13: Cannot overwrite a value"),
        (b"[risk\n", "my.toml:1:6: "),
        (b'x = """never\nclosed', "my.toml:2:7: "),
        (b"# \xff\xfe\n", "my.toml:1: is not UTF-8 text"),
        (b"\n\nx = '\xe9'", "my.toml:3: is not UTF-8 text"),
        (b"#" * 1_048_577, "my.toml: is larger than 1048576 bytes"),
        (b"x = " + b"[" * 100_000, "my.toml:1:1: brackets are nested too deeply"),
        (b"x = " + b"9" * 5000, "my.toml:1:"),
        (b"x = 1e9999999999999999999999", "my.toml:1:"),
        (b"\x00", "my.toml:1:1: "),
    ],
    ids=range(11),
)
def test_a_file_that_cannot_be_read_is_named(operator: Operator, content: bytes, problem: str) -> None:
    problems = operator.problems(content)
    assert len(problems) == 1
    assert problems[0].startswith(problem), problems


def test_a_file_that_is_not_there_is_named_beside_other_problems(operator: Operator) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings([operator.directory / "no.toml", operator.directory], {}, ["bot.seed=x"])
    assert [problem.replace(f"{operator.directory}", "D") for problem in caught.value.problems] == [
        "D/no.toml: cannot be read: No such file or directory",
        "D: cannot be read: Is a directory",
        '--set bot.seed: bot.seed = "x" must be a whole number at least 0, at most 4294967295',
    ]


@pytest.mark.parametrize(
    "line", ["[strategies.a%d]", "[t%d]", "risk.key%d = 1", "risk.%d.x = 1", "x.y%d.z = {a = [1]}"]
)
def test_a_file_full_of_nonsense_is_refused_without_delay(operator: Operator, line: str) -> None:
    text = "\n".join(line % number for number in range(20_000))
    started = time.process_time()
    assert operator.problems(text)
    assert time.process_time() - started < 10, "linear, with room for a slow machine"


def test_a_byte_order_mark_and_crlf_are_read(operator: Operator) -> None:
    assert operator.load(b"\xef\xbb\xbf[bot]\r\nseed = 4\r\n").bot.seed == 4


# --- secrets


@pytest.mark.parametrize("key", ["api_key", "apiKey", "secret", "api_secret", "password", "token", "passphrase"])
def test_a_literal_secret_is_refused_and_never_shown(operator: Operator, key: str) -> None:
    for problems in (
        operator.problems(f'[exchange]\n{key} = "hunter2"'),
        operator.problems(sets=[f"exchange.{key}=hunter2"]),
        operator.problems(environ={f"BOT__EXCHANGE__{key.upper()}": "hunter2"}),
        operator.problems(f'[strategies.crossover]\nkind = "crossover"\n{key} = "hunter2"'),
        operator.problems('exchange.rest_url = "https://me:hunter2@x.org"'),
        operator.problems('exchange.ws_url = "//me:hunter2@x.org"'),
        operator.problems(f'{key} = "hunter2"'),
    ):
        assert "hunter2" not in "\n".join(problems)
    (problem,) = operator.problems(f'[exchange]\n{key} = "hunter2"')
    assert problem.startswith(f"my.toml:2: exchange.{key} looks like a secret; ")
    assert problem.endswith("they come from the environment")


# --- the law: one bad value, one error that names its key

anything = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.decimals(allow_nan=True, allow_infinity=True)
    | st.text(max_size=20)
    | st.lists(st.text(max_size=5) | st.integers(), max_size=4)
)
keys = sorted(".".join(path) for path in key_lines(DEFAULT) if len(path) == (3 if path[0] == "strategies" else 2))


def toml(value: object) -> str:
    match value:
        case None:
            return "1979-05-27"
        case Decimal():
            return str(value).lower().replace("infinity", "inf") if value.is_finite() or value.is_infinite() else "nan"
        case list():
            return json.dumps(value)
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case _:
            return str(value).lower()


@given(st.sampled_from(keys), anything)
def test_any_single_value_is_taken_or_named_by_its_key(key: str, value: object) -> None:
    answer = try_load([], [f"{key}={toml(value)}"])
    if isinstance(answer, Settings):
        assert re.fullmatch("[0-9a-f]{64}", settings_digest(answer))
        return
    assert answer
    for problem in answer:
        assert key in problem
        assert problem.isprintable()


@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    answer = try_load([path], [])
    if not isinstance(answer, Settings):
        assert all(str(path) in problem for problem in answer)


# --- the digest


def test_the_digest_names_what_is_set_and_not_how_it_was_written(operator: Operator) -> None:
    digest = settings_digest(operator.load())
    same = ["bot.state_dir=/elsewhere", "paper.cash=10_000", "paper.cash=1e4", "strategies.crossover.notional=1000.0"]
    for text in same:
        assert settings_digest(operator.load(sets=[text])) == digest, text
    others = ["bot.seed=2", "paper.cash=10000.01", "strategies.crossover.fast=9", 'exchange.symbols=["BTC_USDT"]']
    assert len({digest, *(settings_digest(operator.load(sets=[text])) for text in others)}) == 5


def test_the_order_of_strategies_in_a_file_changes_nothing(operator: Operator) -> None:
    one, two = MINE.replace("[risk]", "[paper]").replace("daily_loss_pct", "cash"), MINE.partition("\n\n")[2]
    other = two.replace("mine", "other").replace("5m", "1m")
    first, second = (
        operator.load(f"{one}{other}"),
        operator.load(f"{other}{one.partition(chr(10))[0]}\ncash=2.5\n{two}"),
    )
    assert list(first.strategies) == list(second.strategies)
    assert settings_digest(first) == settings_digest(second)


# --- start-up


def test_importing_the_settings_is_cheap() -> None:
    script = "import sys, bot.config; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    heavy = {"trio", "asyncio", "textual", "httpx", "platformdirs", "numba", "sqlite3", "difflib"}
    assert not heavy & set(loaded.stdout.split())
