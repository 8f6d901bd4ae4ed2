"""The section [backtest]: its bounds, and what the candle market makes of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bot.backtest.base import Terms
from bot.backtest.choice import size_rule
from bot.backtest.job import candle_terms
from bot.config import Settings, load_settings, settings_digest
from bot.core import tactics
from bot.core.instrument import ATOMS
from bot.errors import SettingsError


def load(*sets: str) -> Settings:
    return load_settings([], {}, [f"backtest.{text}" for text in sets])


def problem(*sets: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(*sets)
    return str(raised.value)


def test_the_defaults_are_a_spot_market_without_slippage() -> None:
    assert candle_terms(load().backtest) == Terms(cash_atoms=10_000 * ATOMS, maker_fee_ppm=1_450, taker_fee_ppm=1_550)


def test_every_setting_reaches_the_market_in_its_own_unit() -> None:
    settings = load(
        "capital=1234.5",
        "maker_fee_bps=1",
        "taker_fee_bps=2.5",
        'slippage="volume"',
        "slippage_bps=3",
        "half_spread_ticks=4",
        "latency_ms=5",
        "volume_share_pct=6.5",
        "leverage=7",
        "maintenance_pct=0.8",
        "liquidation_fee_pct=0.9",
    )
    assert candle_terms(settings.backtest) == Terms(
        cash_atoms=12_345 * ATOMS // 10,
        maker_fee_ppm=100,
        taker_fee_ppm=250,
        slippage="volume",
        slippage_ppm=300,
        half_spread_ticks=4,
        latency_ns=5_000_000,
        volume_share_ppm=65_000,
        leverage=7,
        maintenance_ppm=8_000,
        liquidation_fee_ppm=9_000,
    )


def test_a_fraction_of_a_millionth_is_against_us() -> None:
    terms = candle_terms(load("taker_fee_bps=0.001", "slippage_bps=0.001", "volume_share_pct=0.00019").backtest)
    assert (terms.taker_fee_ppm, terms.slippage_ppm, terms.volume_share_ppm) == (1, 1, 1)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("own", None),
        ("all", (tactics.SIZE_SHARE, 1_000_000)),
        ("25%", (tactics.SIZE_SHARE, 250_000)),
        ("0.5%", (tactics.SIZE_SHARE, 5_000)),
        ("1000", (tactics.SIZE_QUOTE, 1_000_000_000)),
        ("0.25", (tactics.SIZE_QUOTE, 250_000)),
    ],
)
def test_a_size_is_read_as_the_tactics_read_it(text: str, rule: tuple[int, int] | None) -> None:
    assert size_rule(load(f'size="{text}"').backtest.size) == rule


@pytest.mark.parametrize("text", ["0", "0%", "100.5%", "0.0000001%", "1e3", "-5", "", "5 %", "9999999999999"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="size"):
        size_rule(load(f'size="{text}"').backtest.size)


BOUNDS: Sequence[tuple[str, str]] = [
    ("capital=0", "more than 0"),
    ("taker_fee_bps=1001", "at most 1000"),
    ('fee_in="base"', '"quote", "received"'),
    ('slippage="some"', '"none", "fixed", "spread", "volume"'),
    ("half_spread_ticks=-1", "at least 0"),
    ("latency_ms=86400001", "at most 86400000"),
    ("volume_share_pct=101", "at most 100"),
    ("leverage=0", "at least 1"),
    ("maintenance_pct=51", "at most 50"),
    ("seed=-1", "at least 0"),
    ("fees=1", "is no setting"),
]


@pytest.mark.parametrize(("text", "words"), BOUNDS, ids=[text for text, _ in BOUNDS])
def test_every_bound_is_in_force(text: str, words: str) -> None:
    said = problem(text)
    assert f"backtest.{text.partition('=')[0]}" in said
    assert words in said


def test_research_does_not_change_whose_account_a_daemon_keeps() -> None:
    assert settings_digest(load("capital=5")) == settings_digest(load())
