"""Parameter spaces: texts, grids, sequences, constraints, and the optimiser."""

from __future__ import annotations

import sys
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from bot.backtest import space as s
from bot.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("fast=5..50:15", (5, 20, 35, 50)),
        ("fast=5..49:15", (5, 20, 35)),
        ("slow=20,50,100", (20, 50, 100)),
        ("slow=20,50,20", (20, 50)),
        ("n=3..6", (3, 4, 5, 6)),
        ("n=-1..1", (-1, 0, 1)),
        ("x=0.5..0.8:0.1", (0.5, 0.6, 0.7, 0.8)),
        ("x=1..2:0.5", (1.0, 1.5, 2.0)),
        ("x=1e-3,2.5", (0.001, 2.5)),
        ("side=long,short", ("long", "short")),
        ("trail=true,false", (True, False)),
        (" n = 7 ", (7,)),
    ],
)
def test_a_text_lists_values(text: str, values: tuple[s.Value, ...]) -> None:
    axis = s.parse_axis(text)
    assert axis.values == values
    assert [type(value) for value in axis.values] == [type(value) for value in values]


def test_a_span_with_a_point_is_of_real_numbers() -> None:
    axis = s.parse_axis("x=0.5..2.0")
    assert (axis.name, axis.values, axis.low, axis.high) == ("x", (), 0.5, 2.0)
    assert (axis.at(0.0), axis.at(0.5)) == (0.5, 1.25)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("fast", "not of the form"),
        ("=5", "not of the form"),
        ("fast=", "not of the form"),
        ("5=5", "not of the form"),
        ("fast=9..5", "9 is above 5"),
        ("fast=5..9:0", "step of 0"),
        ("fast=5..9:-1", "step of -1"),
        ("fast=0..1:1e-9", "1000000001 values, more than 1000000"),
        ("fast=5,,7", "a value is missing"),
    ],
)
def test_a_text_that_describes_no_axis_is_refused(text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        s.parse_axis(text)


def space(*axes: str, constraints: tuple[str, ...] = ()) -> s.Space:
    return s.make_space(map(s.parse_axis, axes), constraints)


def test_a_grid_has_every_combination_and_its_last_axis_changes_fastest() -> None:
    draw = s.grid(space("a=1,2", "b=x,y", "c=7"))
    assert list(draw) == [(1, "x", 7), (1, "y", 7), (2, "x", 7), (2, "y", 7)]
    assert (draw.candidates_max, draw.invalid, draw.repeated) == (4, 0, 0)


@pytest.mark.parametrize(
    ("constraint", "points"),
    [
        ("a < b", [(1, 2)]),
        ("a <= b", [(1, 1), (1, 2), (2, 2)]),
        ("b>a", [(1, 2)]),
        ("a >= 2", [(2, 1), (2, 2)]),
        ("a != b", [(1, 2), (2, 1)]),
        ("1.0 == b", [(1, 1), (2, 1)]),
    ],
)
def test_combinations_against_a_constraint_are_counted_and_not_drawn(
    constraint: str, points: list[tuple[int, int]]
) -> None:
    draw = s.grid(space("a=1..2", "b=1..2", constraints=(constraint,)))
    assert list(draw) == points
    assert draw.invalid == 4 - len(points)


@pytest.mark.parametrize(
    ("constraint", "says"),
    [
        ("a b", "not of the form"),
        ("a < c", "no parameter c; there are: a, side"),
        ("a < side", "side is not a number"),
        ("a < nan", "no parameter nan"),
    ],
)
def test_a_constraint_must_make_sense(constraint: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        space("a=1,2", "side=long,short", constraints=(constraint,))


def test_a_parameter_has_one_axis() -> None:
    with pytest.raises(SettingsError, match="parameter a is given twice"):
        space("a=1,2", "b=3", "a=4")


def test_a_grid_needs_steps() -> None:
    with pytest.raises(SettingsError, match=r"x=0\.0\.\.2\.0:0\.2"):
        s.grid(space("x=0.0..2.0"))


def test_random_points_follow_the_seed_and_stay_on_their_axes() -> None:
    tried = space("n=3..9", "x=0.5..2.0")
    draw = s.random(tried, 200, seed=1)
    points = list(draw)
    assert points == list(s.random(tried, 200, seed=1))
    assert points != list(s.random(tried, 200, seed=2))
    assert {point[0] for point in points} == set(range(3, 10))
    assert all(0.5 <= float(point[1]) < 2.0 for point in points)


def test_a_point_is_drawn_once() -> None:
    draw = s.random(space("n=1..3"), 50, seed=0)
    assert sorted(draw) == [(1,), (2,), (3,)]
    assert draw.repeated == 47


@pytest.mark.parametrize("axes", range(1, s.SOBOL_AXES_MAX + 1))
def test_the_sobol_sequence_is_that_of_scipy(axes: int) -> None:
    theirs = qmc.Sobol(axes, scramble=False).random(1 << 10)
    assert np.array_equal(np.array(list(s.sobol_shares(axes, 1 << 10))), theirs)


def test_sobol_points_are_those_of_the_sequence() -> None:
    assert list(s.sobol(space("n=1..4", "x=0.0..8.0"), 4)) == [(1, 0.0), (3, 4.0), (4, 2.0), (2, 6.0)]


def test_the_sobol_sequence_has_bounds() -> None:
    with pytest.raises(SettingsError, match="17 parameters"):
        s.sobol(space(*(f"a{n}=1,2" for n in range(17))), 4)
    with pytest.raises(SettingsError, match="1073741825 points"):
        s.sobol(space("a=1,2"), (1 << 30) + 1)


@given(low=st.integers(-50, 50), count=st.integers(1, 60), step=st.sampled_from(["1", "0.1", "0.25", "3"]))
@settings(deadline=None)
def test_steps_are_those_of_decimal_arithmetic(low: int, count: int, step: str) -> None:
    high = low + Decimal(step) * (count - 1)
    axis = s.parse_axis(f"x={low}..{high}:{step}")
    assert axis.values == tuple(float(low + Decimal(step) * k) for k in range(count))


def search(seed: int, rounds: int = 40) -> list[s.Point]:
    tried = space("n=0..40:2", "x=-1.0..1.0", "kind=flat,steep", constraints=("n > x",))
    optimiser = s.Optimiser(tried, seed)
    points: list[s.Point] = []
    for _ in range(rounds):
        point = optimiser.ask()
        assert point is not None
        points.append(point)
        n, x, kind = point
        score = -((float(n) - 24) ** 2) / 50 - float(x) ** 2 - (kind == "flat")
        optimiser.tell(point, None if n == 40 else score)
    return points


def test_the_optimiser_follows_its_seed_and_keeps_to_the_space() -> None:
    points = search(3)
    assert points == search(3)
    assert points != search(4)
    assert len(set(points)) == len(points)
    assert all(n in range(0, 41, 2) and -1 <= float(x) <= 1 and float(n) > float(x) for n, x, _ in points)


def test_the_optimiser_finds_more_than_it_began_with() -> None:
    points = search(3, rounds=60)
    far = [abs(float(n) - 24) for n, _, _ in points]
    assert np.mean(far[-20:]) < np.mean(far[:20]) / 2


def test_the_optimiser_says_when_nothing_is_left() -> None:
    optimiser = s.Optimiser(space("n=1..3", constraints=("n < 3",)), seed=0)
    points = [optimiser.ask(), optimiser.ask()]
    assert set(points) == {(1,), (2,)}
    optimiser.tell((1,), 1.0)
    assert optimiser.ask() is None


def test_the_optimiser_gives_up_on_what_cannot_be() -> None:
    optimiser = s.Optimiser(space("x=0.0..1.0", constraints=("x > 2",)), seed=0)
    assert optimiser.ask() is None
    assert optimiser.invalid == 200


def test_without_the_extra_the_optimiser_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(SettingsError, match=r"pip install '\.\[optimise\]'"):
        s.Optimiser(space("n=1..3"), seed=0)
