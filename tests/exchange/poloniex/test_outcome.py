from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.exchange.poloniex.outcome import (
    FUTURES_CODES,
    MARGIN_MS,
    SLOW_MARGIN_MS,
    SPOT_CODES,
    Doubt,
    Market,
    RefusalKind,
    Refused,
    Search,
    Unknown,
    Write,
    classify,
    fence_ms,
    is_not_found,
    search_fence_ms,
)

Kind = RefusalKind | Doubt


def rows(kind: Kind, *codes: int) -> list[tuple[int, Kind]]:
    return [(code, kind) for code in codes]


# faults.md, appendix A, written out by hand.
SPOT_TABLE = [
    *rows(RefusalKind.ORDER, 601, 602, 21309, 21310, 21311, 21317, 21318, 21319, 21320, 21321, 21322),
    *rows(RefusalKind.ORDER, 21327, 21328, 21329, 21330, 21335, 21336, 21337, 21347, 21348, 21349, 21350),
    *rows(RefusalKind.ORDER, 21356, 21360, 21709, 21721, 10020, 10040, 10041, 24101),
    *rows(Doubt.EXISTS, 21312, 25004, 25006),
    *rows(Doubt.AMBIGUOUS, 500, 603, 415, 24201),
    *rows(RefusalKind.THROTTLED, 429),
    *rows(Doubt.RACE, 21301, 21304, 21305, 21307, 21359),
    *rows(RefusalKind.MODE, 21340, 21341, 21342, 21343),
    *rows(RefusalKind.ACCOUNT, 21351, 21601, 21711, 21353, 21354),
    *rows(RefusalKind.NO_SWITCH, 25020),
]
FUTURES_TABLE = [
    *rows(RefusalKind.ORDER, 400, 403, 10000, 10001, 10002, 10003, 10004, 10007, 10008, 10010, 10011, 10012),
    *rows(RefusalKind.ORDER, 10013, 10014, 10016, 10018, 10019, 21001, 21002, 24101),
    *rows(Doubt.EXISTS, 250),
    *rows(Doubt.AMBIGUOUS, 500, 503, 24201),
    *rows(RefusalKind.THROTTLED, 429),
    *rows(Doubt.RACE, 11004, 11008),
    *rows(RefusalKind.MODE, 1002, 10005, 10006, 10015),
    *rows(RefusalKind.ACCOUNT, 1003, 12004),
]


def judged(market: Market, write: Write, code: int | None, status: int = 400) -> Kind:
    outcome = classify(market, write, status=status, code=code, text="why", client_id="b1", fence_ms=7)
    if isinstance(outcome, Refused):
        assert (outcome.text, outcome.code) == ("why", code or status)
        return outcome.kind
    assert (outcome.client_id, outcome.fence_ms, outcome.code) == ("b1", 7, code)
    assert "why" in outcome.reason
    return outcome.doubt


@pytest.mark.parametrize("write", [Write.SUBMIT, Write.CANCEL])
@pytest.mark.parametrize(("code", "kind"), SPOT_TABLE)
def test_each_spot_code_means_what_appendix_a_says(code: int, kind: Kind, write: Write) -> None:
    assert judged(Market.SPOT, write, code) is kind


@pytest.mark.parametrize("write", [Write.SUBMIT, Write.CANCEL])
@pytest.mark.parametrize(("code", "kind"), FUTURES_TABLE)
def test_each_futures_code_means_what_appendix_a_says(code: int, kind: Kind, write: Write) -> None:
    assert judged(Market.FUTURES, write, code, status=200) is kind


def test_the_tables_hold_no_other_codes() -> None:
    assert SPOT_CODES.keys() == {code for code, _ in SPOT_TABLE}
    assert FUTURES_CODES.keys() == {code for code, _ in FUTURES_TABLE}


@given(code=st.integers(-1, 10**6), market=st.sampled_from(Market), status=st.sampled_from([200, 400, 404, 422]))
def test_a_code_that_is_not_listed_leaves_a_submit_unknown(code: int, market: Market, status: int) -> None:
    table = SPOT_CODES if market is Market.SPOT else FUTURES_CODES
    if code not in table and code != status:
        assert judged(market, Write.SUBMIT, code, status) is Doubt.AMBIGUOUS


@given(code=st.sampled_from([None, *SPOT_CODES]), status=st.sampled_from([500, 502, 503, 504, 520]))
def test_a_failure_inside_the_exchange_is_unknown_whatever_its_code(code: int | None, status: int) -> None:
    assert judged(Market.SPOT, Write.SUBMIT, code, status) is Doubt.AMBIGUOUS


@pytest.mark.parametrize("status", [200, 301, 400, 403, 404, 408])
def test_an_answer_without_a_code_is_unknown(status: int) -> None:
    assert judged(Market.SPOT, Write.SUBMIT, None, status) is Doubt.NO_ANSWER


@pytest.mark.parametrize("code", [None, 429, 21340])
def test_too_many_requests_is_a_refusal_of_this_attempt(code: int | None) -> None:
    assert judged(Market.SPOT, Write.SUBMIT, code, 429) is RefusalKind.THROTTLED


@pytest.mark.parametrize("code", [400, 401, 403, 408])
def test_a_request_refused_at_the_door_never_was_an_order(code: int) -> None:
    assert judged(Market.SPOT, Write.SUBMIT, code, code) is RefusalKind.AUTH
    assert judged(Market.SPOT, Write.SUBMIT, code, 404) is Doubt.AMBIGUOUS


@pytest.mark.parametrize("code", [250001, 250003, 250005, 250012])
def test_a_transfer_has_refusals_of_its_own(code: int) -> None:
    assert judged(Market.SPOT, Write.TRANSFER, code) is RefusalKind.ORDER
    assert judged(Market.SPOT, Write.SUBMIT, code) is Doubt.AMBIGUOUS
    assert judged(Market.SPOT, Write.TRANSFER, 250000) is Doubt.AMBIGUOUS


@pytest.mark.parametrize("code", [820181, 820201, 830111])
def test_a_withdrawal_has_refusals_of_its_own(code: int) -> None:
    assert judged(Market.SPOT, Write.WITHDRAW, code) is RefusalKind.ORDER
    assert judged(Market.SPOT, Write.SUBMIT, code) is Doubt.AMBIGUOUS


@pytest.mark.parametrize("code", [25009, 25010, 25011, 25012, 25013, 25014, 25015, 25016, 25017])
def test_a_smart_order_that_cannot_be_cancelled_is_a_race(code: int) -> None:
    assert judged(Market.SPOT, Write.CANCEL, code) is Doubt.RACE
    assert judged(Market.FUTURES, Write.CANCEL, code) is Doubt.AMBIGUOUS


def test_which_codes_mean_not_found() -> None:
    assert [code for code in SPOT_CODES if is_not_found(code)] == [21301]
    assert is_not_found(25013)
    assert not is_not_found(None)


# --- resolving


def unknown(doubt: Doubt) -> Unknown:
    return Unknown(reason="", doubt=doubt, client_id="b1", fence_ms=10_000)


def test_a_fence_is_as_far_off_as_a_request_may_still_arrive() -> None:
    assert fence_ms(1_000, 5_000) == 6_000 + MARGIN_MS
    assert search_fence_ms(unknown(Doubt.NO_ANSWER)) == 10_000
    assert search_fence_ms(unknown(Doubt.AMBIGUOUS)) == 10_000 - MARGIN_MS + SLOW_MARGIN_MS


@given(asked=st.lists(st.integers(0, 30_000), max_size=12).map(sorted))
def test_absence_is_proven_by_two_questions_after_the_fence_a_second_apart(asked: list[int]) -> None:
    search = Search(fence_ms=10_000)
    for asked_ms in asked:
        search.not_found(asked_ms)
    late = [asked_ms for asked_ms in asked if asked_ms > 10_000]
    assert search.is_absent is (bool(late) and late[-1] - late[0] >= 1_000)
