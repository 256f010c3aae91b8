import numpy as np
import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.units import MICRO
from pm_pipeline.sources.sandbox import World
from pm_pipeline.sources.sandbox.world import (
    ABSENT,
    NO_BOOK,
    BookLog,
    Quotes,
    WorldError,
    book_at,
)


def test_a_market_is_found_by_each_of_its_ids(world: World) -> None:
    market = next(iter(world.polymarket.values()))
    listed = market.market
    assert listed.slug
    assert listed.condition_id
    assert listed.question_id
    assert world.by_slug[listed.slug] is market
    assert world.by_condition[listed.condition_id] is market
    assert world.by_question[listed.question_id] is market
    assert world.market(str(listed.key)) is market
    for instrument in listed.instruments:
        found = world.by_token[str(instrument.token_id)]
        assert (found.market, found.outcome) == (market, instrument.outcome_index)


def test_an_unknown_key_is_refused_with_the_nearest(world: World) -> None:
    with pytest.raises(UsageError, match=r"did you mean 'kalshi:KXHIGHNY-26JUN26-B84\.5'"):
        world.market("kalshi:KXHIGHNY-26JUN26-B84")


def test_two_markets_of_one_key_are_refused(world: World) -> None:
    market = next(iter(world.markets.values()))
    copy = type(market)(market=market.market, resolution=market.resolution, event=market.event)
    with pytest.raises(WorldError, match="share the key"):
        World.of("x", 0, [market, copy])


def test_two_outcomes_of_one_token_are_refused(world: World) -> None:
    first, second = list(world.polymarket.values())[:2]
    twin = type(second)(
        market=type(second.market)(
            **{
                name: getattr(second.market, name)
                for name in second.market.__dataclass_fields__
                if name != "instruments"
            },
            instruments=first.market.instruments,
        ),
        resolution=second.resolution,
        event=second.event,
    )
    with pytest.raises(WorldError, match="share the token"):
        World.of("x", 0, [first, twin]).by_token  # noqa: B018


def test_an_empty_side_counts_as_nought_or_one_in_the_mid() -> None:
    ts = np.arange(3, dtype=np.int64)
    quotes = Quotes.of(ts, np.array([ABSENT, 10_000, 990_000]), np.array([10_000, 30_000, ABSENT]))
    assert quotes.mid.tolist() == [5_000, 20_000, (990_000 + MICRO) // 2]
    assert quotes.at(-1) is None
    assert quotes.at(1) == 1


def test_a_book_is_what_followed_the_last_reset() -> None:
    columns = [
        (1, 1, True, False, 0, 0),
        (1, 1, False, False, 400_000, 5),
        (2, 2, False, True, 500_000, 7),
        (3, 3, False, False, 400_000, 0),
        (4, 4, True, False, 0, 0),
        (4, 4, False, True, 600_000, 9),
    ]
    ts, seq, reset, is_ask, price, size = zip(*columns, strict=True)
    log = BookLog(*map(np.array, (ts, seq, reset, is_ask, price, size)))
    assert book_at(log, 0) is None
    assert book_at(log, 2) == ({400_000: 5}, {500_000: 7})
    assert book_at(log, 3) == ({}, {500_000: 7})
    assert book_at(log, 9) == ({}, {600_000: 9})
    assert book_at(NO_BOOK, 9) is None
