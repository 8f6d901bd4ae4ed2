"""The local book says what the exchange last said, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.core.book import DEPTH_MAX, REPEATS_MAX, Applied, Book


def whole(bids: list[tuple[int, int]] | None = None, asks: list[tuple[int, int]] | None = None) -> Book:
    book = Book()
    assert book.replace(10, bids or [(99, 5), (98, 7)], asks or [(101, 6), (102, 8)]) is Applied.CHANGED
    return book


def test_a_snapshot_is_sorted_best_first() -> None:
    book = whole([(97, 1), (99, 2), (98, 3)], [(103, 1), (101, 2)])
    assert book.bids == ((99, 2), (98, 3), (97, 1))
    assert book.asks == ((101, 2), (103, 1))
    assert (book.best_bid, book.best_ask) == ((99, 2), (101, 2))


def test_an_update_sets_adds_and_removes_levels() -> None:
    book = whole()
    assert book.update(10, 11, [(99, 0), (97, 1)], [(101, 9), (100, 4)]) is Applied.CHANGED
    assert book.bids == ((98, 7), (97, 1))
    assert book.asks == ((100, 4), (101, 9), (102, 8))


def test_the_removal_of_a_level_that_is_not_there_changes_nothing() -> None:
    book = whole()
    assert book.update(10, 11, [(50, 0)], []) is Applied.CHANGED
    assert book.bids == ((99, 5), (98, 7))


def test_a_gap_loses_the_book() -> None:
    book = whole()
    assert book.update(11, 12, [], []) is Applied.GAP
    assert not book.is_whole
    assert (book.bids, book.asks, book.best_bid, book.best_ask) == ((), (), None, None)


def test_an_update_that_is_known_is_left_out() -> None:
    book = whole()
    assert book.update(9, 10, [(99, 1)], []) is Applied.REPEATED
    assert book.best_bid == (99, 5)


def test_an_update_before_a_snapshot_waits() -> None:
    book = Book()
    assert book.update(1, 2, [(99, 1)], []) is Applied.WAITING
    assert not book.is_whole


@pytest.mark.parametrize("bid", [101, 102])
def test_a_crossed_or_locked_book_is_lost(bid: int) -> None:
    book = whole()
    assert book.update(10, 11, [(bid, 1)], []) is Applied.CROSSED
    assert not book.is_whole
    assert Book().replace(1, [(bid, 1)], [(101, 1)]) is Applied.CROSSED


def test_a_snapshot_brings_a_lost_book_back() -> None:
    book = whole()
    book.update(20, 21, [], [])
    assert book.replace(30, [(9, 1)], [(11, 1)]) is Applied.CHANGED
    assert book.update(30, 31, [(10, 2)], []) is Applied.CHANGED
    assert book.best_bid == (10, 2)


def test_no_more_than_the_window_is_kept() -> None:
    book = whole([(100 - i, 1) for i in range(30)])
    assert len(book.bids) == DEPTH_MAX
    book.update(10, 11, [(100, 0), (60, 1)], [(200 + i, 1) for i in range(30)])
    assert [price for price, _ in book.bids][-1] == 60
    assert len(book.asks) == DEPTH_MAX


def test_a_price_that_stands_twice_in_a_snapshot_counts_once() -> None:
    book = whole([(99, 5), (99, 6), (98, 1), (98, 0)])
    assert book.bids == ((99, 6),)


levels = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), max_size=12)
messages = st.lists(st.tuples(st.sampled_from(["snapshot", "update", "update", "gap", "repeat"]), levels, levels))


class Model:
    """The book, the slow and obvious way."""

    def __init__(self) -> None:
        self.id: int | None = None
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def take(self, book_id: int, bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
        self.id = book_id
        self.bids = self._window({**self.bids, **dict(bids)}, -1)
        self.asks = self._window({**self.asks, **dict(asks)}, 1)
        if self.bids and self.asks and max(self.bids) >= min(self.asks):
            self.lose()

    def lose(self) -> None:
        self.id, self.bids, self.asks = None, {}, {}

    @staticmethod
    def _window(side: dict[int, int], sign: int) -> dict[int, int]:
        return dict(sorted(((p, q) for p, q in side.items() if q), key=lambda level: sign * level[0])[:DEPTH_MAX])


@given(messages)
def test_the_book_equals_a_model_after_any_updates(
    said: list[tuple[str, list[tuple[int, int]], list[tuple[int, int]]]],
) -> None:
    book, model = Book(), Model()
    for book_id, (kind, bids, asks) in enumerate(said, start=10):
        asks = [(price + 40, lots) for price, lots in asks]  # noqa: PLW2901 - some cross, most do not
        if kind == "snapshot":
            book.replace(book_id, bids, asks)
            model.lose()
            model.take(book_id, bids, asks)
        elif kind == "update":
            book.update(model.id or 0, book_id, bids, asks)
            if model.id is not None:
                model.take(book_id, bids, asks)
        elif kind == "gap":
            book.update(book_id - 1 if model.id != book_id - 1 else 1, book_id, bids, asks)
            model.lose()
        else:
            book.update(0, model.id or 0, bids, asks)
        assert book.is_whole == (model.id is not None)
        assert book.bids == tuple(model.bids.items())
        assert book.asks == tuple(model.asks.items())


def test_an_exchange_that_counts_anew_is_a_gap_after_a_while() -> None:
    book = Book()
    book.replace(1000, [(99, 1)], [(101, 1)])
    applied = [book.update(number, number + 1, [(99, 2)], []) for number in range(1, REPEATS_MAX + 1)]
    assert set(applied[:-1]) == {Applied.REPEATED}
    assert applied[-1] is Applied.GAP
    assert not book.is_whole


def test_now_and_then_a_repeated_update_loses_no_book() -> None:
    book = Book()
    book.replace(0, [(99, 1)], [(101, 1)])
    for number in range(1, 3 * REPEATS_MAX):
        assert book.update(number - 1, number, [(99, number)], []) is Applied.CHANGED
        assert book.update(number - 1, number, [(99, number)], []) is Applied.REPEATED
