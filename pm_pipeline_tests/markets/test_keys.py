import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets.keys import KeyFormatError, MarketKey, Venue, check_partition_key


@pytest.mark.parametrize(
    ("text", "venue", "native_id"),
    [
        ("polymarket:654414", Venue.POLYMARKET, "654414"),
        ("kalshi:KXHIGHNY-26JUL10-B85.5", Venue.KALSHI, "KXHIGHNY-26JUL10-B85.5"),
        ("alpaca:SPY", Venue.ALPACA, "SPY"),
    ],
)
def test_a_key_names_its_venue_and_the_venues_own_id(text: str, venue: Venue, native_id: str) -> None:
    assert MarketKey.parse(text) == (venue, native_id)
    assert str(MarketKey.parse(text)) == text


@given(st.sampled_from([*Venue]), st.from_regex(r"[A-Za-z0-9_-]{1,30}", fullmatch=True))
def test_a_written_key_is_read_back(venue: Venue, native_id: str) -> None:
    key = MarketKey(venue, native_id)
    assert MarketKey.parse(str(key)) == key


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("654414", "write venue:id"),
        ("polymarket:", "write venue:id"),
        ("", "write venue:id"),
        ("polymarkt:654414", "did you mean 'polymarket'"),
        ("nyse:SPY", "known: alpaca, kalshi, polymarket"),
        ("kalshi:A|B", "cannot be a partition key"),
        ("kalshi:A...B", "cannot be a partition key"),
        ("kalshi:A\nB", "cannot be a partition key"),
        ("alpaca:BTC/USD", "cannot be a partition key"),
    ],
)
def test_a_bad_key_is_refused_with_a_hint(text: str, hint: str) -> None:
    with pytest.raises(KeyFormatError) as refused:
        MarketKey.parse(text)
    assert hint in str(refused.value)
    assert refused.value.exit_status == 2


def test_a_safe_partition_key_is_returned_unchanged() -> None:
    assert check_partition_key("kalshi:KXHIGHNY-26JUL10-B85.5") == "kalshi:KXHIGHNY-26JUL10-B85.5"
