"""Each planted bug is caught: by seeds, or by the property test that owns it. docs/simulation.md has the table."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from actors.simulation.seeds import play_seed
from actors.simulation.swarm import Wish
from tests.core import test_approvals, test_book, test_reservations
from tests.exchange.live import test_desk
from tests.exchange.live.desks import Rig, recovered
from tests.exchange.poloniex import test_outcome
from tests.simulation import planted as p

DOCS = Path(__file__).parents[2] / "docs" / "simulation.md"
WISH = Wish(seconds=600.0, heal_s=120.0)
SEEDS = range(1_000, 1_040)
TRIES = 24
BY_SEEDS: dict[p.Patch, tuple[set[str], list[int]]] = {
    p.retry_under_new_id: ({"O7"}, [1003, 1004, 1007]),
    p.timeout_is_a_rejection: ({"C2", "O2", "C1"}, [1132, 1151]),
    p.no_fill_is_known: ({"C2", "C1"}, [1000, 1001]),
    p.fee_in_coins_is_ignored: ({"C2", "C1"}, [1001, 1002]),
    p.an_end_can_be_left: ({"O3", "O10"}, [1021, 1028, 1013]),
    p.what_is_in_flight_is_ignored: ({"R1"}, [1016, 1028]),
    p.no_window_and_no_fence: ({"C2", "O2", "C1"}, [1026]),
    p.sent_before_it_is_written: ({"O7"}, [1001, 1003]),
    p.an_accepted_cancel_is_the_end: ({"C2", "C1"}, [1007]),
    p.only_newer_trades_count: ({"C2", "C1"}, [1007]),
    p.the_commit_is_skipped: ({"O6", "O7", "END"}, [1000, 1001]),
    p.a_restart_opens_the_breakers: ({"R3"}, [1002]),
    p.contracts_are_taken_for_coins: ({"C2", "C1"}, [1002, 1003]),
}
"""Bug to the promises that it breaks, and seeds that are known to show it."""


def rig() -> Rig:
    made = Rig()
    made.tell(recovered(epoch=1))
    return made


BY_PROPERTIES: dict[p.Patch, Callable[[], None]] = {
    p.reservation_released_twice: (
        test_reservations.test_what_is_filled_and_what_is_reserved_are_the_whole_order_at_any_time
    ),
    p.absence_is_believed_at_once: (
        test_outcome.test_absence_is_proven_by_two_questions_after_the_fence_a_second_apart
    ),
    p.nothing_is_asked_after_a_reconnect: lambda: test_desk.test_F55_an_order_that_a_fresh_list_lacks_is_asked_for(
        rig()
    ),
    p.only_newer_trades_count: lambda: test_desk.test_F20_a_fill_with_a_lower_id_that_was_missed_is_found_by_its_order(
        rig()
    ),
    p.an_approval_never_expires: lambda: test_approvals.test_an_approval_is_good_for_so_long(
        2_001, "approved 2001 ms ago, which is too long"
    ),
    p.a_gap_in_the_book_is_ignored: test_book.test_a_gap_loses_the_book,
}
"""Bug to the test that owns it: what seeds show seldom or never, because something else repairs it."""


def test_every_planted_bug_has_somebody_who_catches_it() -> None:
    assert len(p.TWELVE) == 12
    assert len(p.SIX) == 6
    assert set(p.TWELVE) | set(p.SIX) == set(BY_SEEDS) | set(BY_PROPERTIES)


@pytest.mark.parametrize("patch", BY_SEEDS, ids=lambda patch: patch.__name__)
def test_seeds_catch_it(patch: p.Patch) -> None:
    rules, known = BY_SEEDS[patch]
    tries = [*known, *(seed for seed in SEEDS if seed not in known)][:TRIES]
    with p.planted(patch):
        for seed in tries:
            broken = {violation.rule for violation in play_seed(seed, WISH).violations}
            if broken & rules:
                return
    raise AssertionError(f"none of the seeds {tries} shows it")


@pytest.mark.parametrize("patch", BY_PROPERTIES, ids=lambda patch: patch.__name__)
def test_its_property_test_catches_it(patch: p.Patch) -> None:
    owner = BY_PROPERTIES[patch]
    owner()
    with p.planted(patch), pytest.raises((AssertionError, ValueError, ExceptionGroup)):
        owner()


def test_the_known_seeds_break_nothing_without_a_bug() -> None:
    known = sorted({seed for _, seeds in BY_SEEDS.values() for seed in seeds[:1]})
    assert {seed: play_seed(seed, WISH).violations for seed in known} == dict.fromkeys(known, ())


def test_the_table_in_the_docs_names_every_bug_and_who_catches_it() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| ([^|]*) \|", DOCS.read_text("utf-8"), re.MULTILINE))
    assert set(rows) == {patch.__name__ for patch in (*p.TWELVE, *p.SIX)}
    for patch in (*p.TWELVE, *p.SIX):
        assert ("seeds" in rows[patch.__name__]) is (patch in BY_SEEDS), patch.__name__
        assert ("`test_" in rows[patch.__name__]) is (patch in BY_PROPERTIES), patch.__name__
