import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.book import Book, Level

LEVELS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**9)), max_size=30)


def test_levels_are_put_best_first_whatever_order_they_come_in() -> None:
    book = Book.of(7, bids=[(400_000, 1), (420_000, 2)], asks=[(450_000, 3), (430_000, 4)])
    assert book.bids == (Level(420_000, 2), Level(400_000, 1))
    assert book.asks == (Level(430_000, 4), Level(450_000, 3))
    assert (book.ts, book.bid, book.ask, book.mid, book.crossed) == (7, 420_000, 430_000, 425_000, False)


def test_sizes_at_one_price_add_up_and_empty_levels_vanish() -> None:
    book = Book.of(0, bids=[(400_000, 1), (400_000, 2), (390_000, 0)], asks=[])
    assert book.bids == (Level(400_000, 3),)


def test_an_empty_side_has_no_best_price_and_no_mid() -> None:
    book = Book.of(0, bids=[], asks=[(430_000, 4)])
    assert (book.bid, book.mid, book.crossed) == (None, None, False)


@pytest.mark.parametrize(("bid", "crossed"), [(429_999, False), (430_000, True), (430_001, True)])
def test_a_book_is_crossed_where_a_bid_reaches_the_offer(bid: int, crossed: bool) -> None:
    assert Book.of(0, bids=[(bid, 1)], asks=[(430_000, 1)]).crossed is crossed


@pytest.mark.parametrize("level", [(-1, 1), (1_000_001, 1), (500_000, -1)])
def test_an_impossible_level_is_refused(level: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="impossible level"):
        Book.of(0, bids=[level], asks=[])


def test_a_bid_for_no_is_an_offer_of_yes() -> None:
    no = Book.of(3, bids=[(300_000, 5)], asks=[(320_000, 6)]).mirrored()
    assert (no.bids, no.asks) == ((Level(680_000, 6),), (Level(700_000, 5),))


@given(LEVELS, LEVELS)
def test_a_book_mirrored_twice_is_the_book(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> None:
    book = Book.of(0, bids, asks)
    assert book.mirrored().mirrored() == book
    assert sum(level.size for level in book.bids) == sum(size for _, size in bids)
    assert [level.price for level in book.asks] == sorted({price for price, size in asks if size})
