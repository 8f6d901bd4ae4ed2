"""Many seeds: what is done stays done, and the sums are those of the parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.simulation.campaign import SeedResult, code_digest, open_campaign, play_seeds, summarise, wish_digest
from actors.simulation.checkers import Violation
from actors.simulation.swarm import Wish
from bot.errors import SettingsError

WISH = Wish(seconds=60.0)


def result(seed: int, *, breaks: bool = False) -> SeedResult:
    violation = Violation(seed=seed, rule="O1", at_s=3.0, text="twice")
    return SeedResult(
        seed=seed,
        simulated_seconds=60.0,
        orders=seed,
        fills=2,
        crashes=1,
        faults={"cut": 1, "reset": seed},
        coverage={"edge NEW FILLED": 1},
        violations=(violation,) if breaks else (),
        journal_hash="00",
    )


def play(seed: int, wish: Wish) -> SeedResult:
    """Play nothing; a function of this module, as another process needs it."""
    assert wish == WISH
    return result(seed)


def test_the_summary_adds_up_and_names_what_failed() -> None:
    summary = summarise([result(7, breaks=True), result(2)])
    assert (summary.seeds, summary.simulated_seconds, summary.orders, summary.crashes) == (2, 120.0, 9, 2)
    assert summary.faults == {"cut": 2, "reset": 9}
    assert summary.failed_seeds == (7,)
    assert [violation.seed for violation in summary.violations] == [7]


def test_what_is_done_stays_done(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_campaign(path, code="c", wish="w") as ledger:
        ledger.append(result(1))
        ledger.append(result(2, breaks=True))
    with open_campaign(path, code="c", wish="w") as ledger:
        assert ledger.known == {1: result(1), 2: result(2, breaks=True)}
        ledger.append(result(3))
    with open_campaign(path, code="c", wish="w") as ledger:
        assert list(ledger.known) == [1, 2, 3]


@pytest.mark.parametrize(("code", "wish"), [("other", "w"), ("c", "other")])
def test_seeds_of_other_code_or_of_other_wishes_are_not_done(tmp_path: Path, code: str, wish: str) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_campaign(path, code="c", wish="w") as ledger:
        ledger.append(result(1))
    with open_campaign(path, code=code, wish=wish) as ledger:
        assert ledger.known == {}
        ledger.append(result(5))
    with open_campaign(path, code="c", wish="w") as ledger:
        assert list(ledger.known) == [1]


def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_campaign(path, code="c", wish="w") as ledger:
        ledger.append(result(1))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    with open_campaign(path, code="c", wish="w") as ledger:
        assert ledger.is_torn
        assert list(ledger.known) == [1]
        ledger.append(result(2))
    assert len(path.read_bytes().splitlines()) == 2


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"code": 1}\n')
    with (
        pytest.raises(SettingsError, match=r"ledger\.jsonl:1: not a line of a simulation's ledger"),
        open_campaign(path, code="c", wish="w"),
    ):
        pass


def test_names_of_code_and_wishes_follow_their_contents() -> None:
    assert code_digest() == code_digest()
    assert wish_digest(WISH) == wish_digest(Wish(seconds=60.0))
    assert wish_digest(WISH) != wish_digest(Wish(seconds=61.0))


def test_seeds_are_played_in_this_process_or_in_others_with_the_same_results() -> None:
    alone = list(play_seeds(range(5), WISH, play, jobs=1))
    assert [each.seed for each in alone] == [0, 1, 2, 3, 4]
    both = sorted(play_seeds(range(5), WISH, play, jobs=2), key=lambda each: each.seed)
    assert both == alone


def test_a_campaign_that_is_cancelled_begins_no_more_seeds() -> None:
    begun: list[int] = []

    def count(seed: int, wish: Wish) -> SeedResult:
        begun.append(seed)
        return play(seed, wish)

    done = list(play_seeds(range(100), WISH, count, jobs=1, is_cancelled=lambda: len(begun) >= 3))
    assert (len(done), begun) == (3, [0, 1, 2])
