"""Documents: what may stand in one, and that everything that is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bot.core import tactics
from bot.errors import SettingsError
from bot.strategies.rules.definition import RuleDefinition, check_document
from bot.strategies.rules.document import read_document
from tests.strategies.rules.documents import definition, document, problems
from tests.support.rule_documents import random_document

FORMS = {
    "no TOML": ("name = ", ["x.toml:1:8: Invalid value"]),
    "not UTF-8": (b'name = "\xff"', ["x.toml:1: is not UTF-8 text"]),
    "too large": ("#" * 70_000, ["x.toml: is larger than 65536 bytes"]),
    "nothing": (
        "",
        [
            "x.toml: name is missing; it must be a short name of the strategy",
            "x.toml: timeframe is missing; it must be a length of time such as 5m or 1h",
            "x.toml: entry.long.when is missing: nothing ever opens a long position",
            "x.toml: exit.long.when is missing: nothing ever closes a long position",
        ],
    ),
    "unknown key": (
        document('sidee = "long"'),
        ["x.toml:3: sidee: is no key of a rule document; did you mean side?"],
    ),
    "unknown choice": (
        document('side = "logn"'),
        ['x.toml:3: side: must be one of long, short, both, not "logn"; did you mean long?'],
    ),
    "wrong type": (document("name2 = 1", "description = 3"), [
        "x.toml:4: description: must be a sentence or two, not 3",
        "x.toml:3: name2: is no key of a rule document; did you mean name?",
    ]),
    "timeframe": (
        document(timeframe="90ms"),
        ['x.toml:2: timeframe: must be a length of whole seconds from 1s to 1w, such as 5m or 1h, not "90ms"'],
    ),
    "param without range": (
        document("[params]", "fast = { default = 3 }"),
        [
            "x.toml:4: params.fast: low is missing; it must be a number",
            "x.toml:4: params.fast: high is missing; it must be a number",
        ],
    ),
    "param out of range": (
        document("[params]", "fast = { default = 9, low = 2, high = 5, step = 0 }"),
        [
            "x.toml:4: params.fast.default: 9 must be from low 2 to high 5",
            "x.toml:4: params.fast.step: 0 must be more than 0",
        ],
    ),
    "param that is not whole": (
        document("[params]", 'fast = { default = 2.5, low = 2, high = 5, kind = "int" }'),
        ["x.toml:4: params.fast: is of kind int, so default, low, high and step must be whole numbers"],
    ),
    "param that is infinite": (
        document("[params]", "fast = { default = 2, low = 2, high = inf }"),
        ["x.toml:4: params.fast.high: inf must be a number of at most 1e15"],
    ),
    "name of the language": (
        document("[params]", "close = { default = 2, low = 2, high = 3 }", "[let]", 'sma = "1"'),
        [
            "x.toml:4: params.close: is a word of the language; choose another name",
            "x.toml:6: let.sma: is a word of the language; choose another name",
        ],
    ),
    "name twice": (
        document("[params]", "a = { default = 2, low = 2, high = 3 }", "[let]", 'a = "1"'),
        ["x.toml:6: let.a: is the name of a parameter already"],
    ),
    "strange name": (
        document("[let]", '"A b" = "1"'),
        ['x.toml:4: let."A b": a name has 1 to 64 characters a-z, 0-9 and _, and begins with a letter'],
    ),
    "side that is not traded": (
        document() + '[entry.short]\nwhen = "close < open"',
        ['x.toml:7: entry.short: is no side of this strategy; say side = "short" or side = "both"'],
    ),
    "when that is no text": (
        document().replace('when = "close > open"', "when = true"),
        ["x.toml:4: entry.long.when: must be a condition in quotes, not true"],
    ),
    "no way out": (
        'name = "a"\ntimeframe = "1m"\n[entry.long]\nwhen = "close > 1"',
        ["x.toml: exit.long.when is missing: nothing ever closes a long position"],
    ),
    "two sizes": (
        document() + '[size]\nkind = "fixed"\nlots = 1\nquote = 2',
        ["x.toml:7: size: must give the size by exactly one of quantity, lots, quote; found lots and quote"],
    ),
    "size without kind": (
        document() + "[size]\nlots = 1",
        ["x.toml:7: size: kind is missing; it must be one of fixed, percent, volatility, kelly"],
    ),
    "kelly without window": (
        document() + '[size]\nkind = "kelly"\nfraction = 1',
        ["x.toml:7: size: window is missing; it must be a number of bars"],
    ),
    "stop in two units": (
        document() + "[stop]\npercent = 1\natr = 2",
        ["x.toml:7: stop: must give a distance by exactly one of percent, ticks, atr, price; found percent and atr"],
    ),
    "offset twice": (
        document() + '[order]\nkind = "limit"\noffset_percent = 1\noffset_ticks = 2',
        ["x.toml:7: order: must have one of offset_percent and offset_ticks, not both"],
    ),
    "market with patience": (
        document() + '[order]\nkind = "market"\npatience = 2',
        ["x.toml:9: order.patience: is no key of a rule document"],
    ),
    "table that is none": (
        document("stop = 3"),
        ["x.toml:3: stop: must be a table, [stop], not 3"],
    ),
    "require that is no list": (
        document('require = ["1 < 2", 3]'),
        ["x.toml:3: require: must be a list of conditions in quotes, and holds 3"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_a_document_of_the_wrong_form_is_refused(case: str) -> None:
    text, expected = FORMS[case]
    assert problems(text) == expected


EXPRESSIONS = {
    "smaa(close, 3) > 1": "column 1: there is no function smaa; did you mean sma?",
    "clsoe > 1": "column 1: there is no clsoe; did you mean close?",
    "close > oepn": "column 9: there is no oepn; did you mean open?",
    "close": "column 1: this must be a condition, found a number",
    "close + 1": "column 7: this must be a condition, found a number",
    "close and open": "column 1: and needs a condition, found a number",
    "(close > 1) + 2 > 0": "column 8: + needs a number, found a condition",
    "not close": "column 5: not needs a condition, found a number",
    "-(close > 1) > 0": "column 9: - needs a number, found a condition",
    "close > 'x'": 'column 9: "x" is a text; only at(…) and of(…) take one',
    "macd(close) > 0": "column 1: macd has the outputs macd, signal, histogram; write macd(…).macd",
    "macd(close).sgnal > 0": "column 12: macd has no output sgnal, only macd, signal, histogram; did you mean signal?",
    "close.x > 0": "column 6: .x needs an indicator before it, found a number",
    "sma(close, 0) > 0": "column 1: sma: window 0 is not in 1 to 10000",
    "sma(close, 2.5) > 0": "column 1: sma: window 2.5 is not a whole number",
    "sma(close, 1 / 0) > 0": "column 1: sma: a parameter is not a finite number",
    "sma(close, volume) > 0": (
        "column 12: window of sma must be of parameters and numbers only: it cannot change with the bars"
    ),
    "sma() > 0": "column 1: expected sma(x, window = 20), found no argument",
    "sma(close, 2, 3) > 0": "column 1: expected sma(x, window = 20), found 3 arguments",
    "sma(close, windw = 3) > 0": (
        "column 20: sma takes no windw; expected sma(x, window = 20); did you mean window?"
    ),
    "sma(close, 3, window = 3) > 0": "column 24: window is given twice",
    "atr(close, 3) > 0": "column 1: expected atr(window = 14), found 2 arguments",
    "min(close) > 0": "column 1: expected min(a, b, …), found one argument",
    "min > 0": "column 1: min is a function: min(a, b, …)",
    "close(3) > 0": "column 1: close is a value, not a function",
    "abs(x = close) > 0": "column 9: abs(x) takes no argument by name",
    "choose(close, 1, 2) > 0": "column 8: choose needs a condition, found a number",
    "choose(close > 1, 1, open > 2) > 0": "column 27: choose needs a number, found a condition",
    "at(close, 1) > 0": 'column 4: expected a length of time in quotes: at("1h", x)',
    "at('7m', close) > 0": "column 4: 7m must be a multiple of the strategy's own timeframe, 5m",
    "at('1m', close) > 0": "column 4: 1m must be a multiple of the strategy's own timeframe, 5m",
    "at('1 hour', close) > 0": (
        'column 4: must be a length of whole seconds from 1s to 1w, such as 5m or 1h, not "1 hour"'
    ),
    "at('1h', at('1d', close)) > 0": "column 10: at(…) cannot stand inside another at(…)",
    "at('1h', of('A_B', close)) > 0": (
        "column 10: of(…) cannot stand inside at(…) or another of(…); write of(…, at(…, x))"
    ),
    "of('eth', close) > 0": 'column 4: "eth" is no symbol such as ETH_USDT',
    "of('A_B', macd(close)) > 0": (
        "column 1: macd has the outputs macd, signal, histogram; write of(…, macd(…).macd)"
    ),
    "crossed_above(close, open) > 0": (
        "column 1: there is no function crossed_above; did you mean cross_above?"
    ),
    "close > 1 crosses above 2": (
        "column 11: comparisons cannot be chained; write a < b and b < c, or use brackets"
    ),
}  # fmt: skip


@pytest.mark.parametrize("when", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_an_expression_that_makes_no_sense_is_refused(when: str) -> None:
    assert problems(document(when=when)) == [f"x.toml:4: entry.long.when, {EXPRESSIONS[when]}"]


MEANINGS = {
    "size too large": ('[size]\nkind = "percent"\npercent = 1001', "8: size.percent: 1001 must be more than 0 and"),
    "size of nothing": ('[size]\nkind = "percent"\npercent = 0', "8: size.percent: 0 must be more than 0 and"),
    "stop of NaN": ('[stop]\npercent = "0 / 0"', "7: stop.percent: nan must be more than 0 and"),
    "patience of none": ('[order]\nkind = "limit"\npatience = 0', "9: order.patience: 0 must be a whole number from 1"),
    "offset that changes": (
        '[order]\nkind = "limit"\noffset_ticks = "close"',
        "9: order.offset_ticks: close must be of parameters and numbers only",
    ),
    "window of a size": (
        '[size]\nkind = "kelly"\nfraction = 1\nwindow = 1',
        "10: size.window: 1 must be a whole number from 2 to 10000",
    ),
    "break even with a condition": (
        '[break_even]\npercent = "close > 1"',
        "8: break_even.percent, column 7: this must be a number, found a condition",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MEANINGS)
def test_a_number_out_of_bounds_is_refused(case: str) -> None:
    text, expected = MEANINGS[case]
    (problem,) = problems(document() + text)
    _, _, said = expected.partition(": ")
    assert said in problem


def test_everything_that_is_wrong_is_named_at_once() -> None:
    text = document("[let]", 'a = "clsoe"', 'b = "a + 1"', 'c = "opn"', when="a > b", until="hgih > 1")
    assert problems(text) == [
        "x.toml:4: let.a, column 1: there is no clsoe; did you mean close?",
        "x.toml:6: let.c, column 1: there is no opn; did you mean open?",
        "x.toml:10: exit.long.when, column 1: there is no hgih; did you mean high?",
    ]


def test_a_let_knows_only_those_above_it() -> None:
    text = document("[let]", 'a = "b"', 'b = "close"')
    assert problems(text) == ["x.toml:4: let.a, column 1: b is defined further down; a let may use the names above it"]


def test_a_let_means_the_bars_where_it_is_used_and_is_refused_where_it_cannot() -> None:
    lets = ("[let]", "top = \"highest(high, 3)\"", "tide = \"at('1h', close)\"")  # fmt: skip
    assert definition(document(*lets, when="close > at('1h', top)")).lookback_bars == 3 * 12 - 1
    assert problems(document(*lets, when="of('A_B', at('1h', tide)) > 0")) == [
        "x.toml:7: entry.long.when, column 20: tide cannot be used here: at(…) cannot stand inside another at(…)"
    ]


def test_both_ends_of_every_range_are_tried() -> None:
    text = document("[params]", "n = { default = 3, low = 0, high = 5 }", when="sma(close, n) > 0")
    assert problems(text) == ["x.toml:6: entry.long.when, column 1: sma: window 0 is not in 1 to 10000 (with n = 0)"]


def test_what_a_document_requires_of_its_parameters_is_kept() -> None:
    text = document(
        'require = ["a < b"]',
        "[params]",
        "a = { default = 2, low = 1, high = 9 }",
        "b = { default = 3, low = 2, high = 9 }",
    )
    check_document(read_document(text, "x.toml"))
    with pytest.raises(SettingsError, match=r"x\.toml:3: require: a < b does not hold with a = 3, b = 3"):
        definition(text, a=3)
    assert definition(text, a=3, b=4).params == {"a": 3, "b": 4}
    assert problems(document('require = ["close > 1"]')) == [
        "x.toml:3: require: close > 1 must be of parameters and numbers only"
    ]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"sloow": 1.0}, "x.toml: has no parameter sloow; did you mean slow?"),
        ({"slow": 1.5}, "x.toml: parameter slow = 1.5 must be a whole number"),
        ({"slow": float("inf")}, "x.toml: parameter slow = inf must be finite"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused(params: dict[str, float], expected: str) -> None:
    text = document("[params]", "slow = { default = 3, low = 2, high = 5 }")
    with pytest.raises(SettingsError) as caught:
        RuleDefinition(read_document(text, "x.toml"), params)
    assert caught.value.problems == [expected]


def test_a_document_that_is_too_much_to_compute_is_refused() -> None:
    lets = [
        f'v{number} = "{" + ".join(f"sma(close, {number * 25 + n + 1})" for n in range(25))}"' for number in range(90)
    ]
    (problem, *_) = problems(document("[let]", *lets))
    assert problem.endswith("the document has more than 2000 values to compute")
    deep = ['v0 = "close"', *(f'v{n} = "sma(v{n - 1}, 10000)[10000]"' for n in range(1, 60))]
    assert problems(document("[let]", *deep, when="v59 > 0")) == [
        "x.toml: needs 1179941 bars before its first advice, more than 1000000"
    ]
    chain = ['v0 = "close"', *(f'v{n} = "v{n - 1} + v{n - 1}"' for n in range(1, 99))]
    assert definition(document("[let]", *chain, when="v98 > 0")).lookback_bars == 0


def test_names_within_names_within_names_are_bounded() -> None:
    lets = ['v0 = "close"', *(f'v{n} = "-(-(v{n - 1} + 1))"' for n in range(1, 99))]
    assert definition(document("[let]", *lets, when="v98 > 0")).lookback_bars == 0
    (problem,) = problems(document("[let]", *lets, when="at('1h', v98) > 0"))
    assert problem == (
        "x.toml:104: entry.long.when, column 10: v49 cannot be used here: is nested more than 200 levels deep, "
        "its names included"
    )


def test_other_bars_are_bounded() -> None:
    others = " and ".join(f"of('A{number}_B', close) > 0" for number in range(16))
    (problem,) = problems(document(when=others))
    assert problem.endswith("is one more than 15 other timeframes and symbols")


def test_terms_are_what_the_document_says() -> None:
    text = (
        document("max_bars = 7", 'cool_down = "n - 1"', "[params]", "n = { default = 3, low = 2, high = 4 }")
        + '[order]\nkind = "limit"\noffset_percent = 0.25\npatience = "n"\n[break_even]\nticks = 12\n'
        + '[size]\nkind = "fixed"\nquote = 100\n'
    )
    terms = definition(text).terms
    assert terms.tolist() == [tactics.SIZE_QUOTE, 1, -2500, 3, 7, 2, 12]
    assert terms.dtype == np.int64
    assert definition(document()).terms.tolist() == [tactics.SIZE_SHARE, 0, 0, 1, 0, 0, 0]


LOOKBACKS = {
    "close > open": 0,
    "sma(close, 20) > close": 19,
    "sma(close, 20) crosses above close": 20,
    "(sma(close, 20) > close)[5]": 24,
    "sma(sma(close, 10), 10) > 1": 18,
    "rsi(close, 14) > atr(20)": 20,
    "at('15m', close) > 0": 2,
    "at('15m', sma(close, 2))[1] > 0": 6,
    "of('A_B', close) > 0": 1,
    "of('A_B', at('15m', close[1])) > 0": 6,
    "sma(of('A_B', close), 3) > 0": 3,
    "vwap > close": 288,
}


@pytest.mark.parametrize("when", LOOKBACKS, ids=range(len(LOOKBACKS)))
def test_look_back_is_counted_in_own_bars(when: str) -> None:
    assert definition(document(when=when)).lookback_bars == LOOKBACKS[when]


def test_equal_values_are_made_once() -> None:
    once = definition(document(when="sma(close, 5) > open", until="sma(close, 5) < open")).plan.frames[0]
    assert len([node for node in once.nodes if node.op == "indicator"]) == 1


def test_constants_are_folded() -> None:
    (frame,) = definition(document(when="close > 2 * 3 + 1", until="1 > 2")).plan.frames
    assert [frame.nodes[number].value for number in frame.live if frame.nodes[number].op == "const"] == [
        7.0,
        False,
        100.0,
    ]


def test_mutated_documents_are_refused_or_right() -> None:
    rng = np.random.default_rng(7)
    templates = [path.read_bytes() for path in sorted((Path(__file__).parents[3] / "config/strategies").glob("*.toml"))]
    seeds = [*templates, *(random_document(rng).encode() for _ in range(30))]
    said = [verdict(mutate(rng, seeds[int(rng.integers(len(seeds)))])) for _ in range(1_500)]
    refused = [problems for problems in said if problems]
    assert 300 < len(refused) < 1_500
    assert all(problem.startswith("x.toml") for problems in refused for problem in problems)


def verdict(content: bytes) -> list[str]:
    """Return what is wrong with a document, if anything."""
    try:
        check_document(read_document(content, "x.toml"))
    except SettingsError as error:
        return error.problems
    return []


def mutate(rng: np.random.Generator, content: bytes) -> bytes:
    """Return `content` with one to four small changes."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(len(changed)))
        match int(rng.integers(4)):
            case 0:
                changed[at] = int(rng.integers(256))
            case 1:
                del changed[at : at + int(rng.integers(1, 12))]
            case 2:
                end = min(len(changed), at + int(rng.integers(1, 40)))
                changed[at:at] = changed[at:end]
            case _:
                changed[at:at] = bytes(rng.choice(list(b'()[]{}"=.,0159-+*/<>ae\n #'), 2).tolist())
    return bytes(changed)
