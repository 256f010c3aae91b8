import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.sources.polymarket.catalog.names import Name, NameKind, parse

HASH = "0x" + "aB" * 32
TOKEN = "7" * 77
SITE = "https://polymarket.com"


@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ("654414", NameKind.NUMBER, "654414"),
        (" 654414 ", NameKind.NUMBER, "654414"),
        ("polymarket:654414", NameKind.NUMBER, "654414"),
        ("2129560812", NameKind.NUMBER, "2129560812"),
        (HASH, NameKind.HASH, HASH.lower()),
        (HASH.upper(), NameKind.HASH, HASH.lower()),
        ("1" * 21, NameKind.ASSET, "1" * 21),
        (TOKEN, NameKind.ASSET, TOKEN),
        ("9" * 78, NameKind.ASSET, "9" * 78),
        ("will-it-rain", NameKind.SLUG, "will-it-rain"),
        ("Will-It-Rain", NameKind.SLUG, "will-it-rain"),
        ("xi", NameKind.SLUG, "xi"),
        (f"{SITE}/event/rain-in-may/will-it-rain", NameKind.MARKET_SLUG, "will-it-rain"),
        (f"{SITE}/event/rain-in-may/will-it-rain?tid=17#order", NameKind.MARKET_SLUG, "will-it-rain"),
        (f"{SITE}/event/rain-in-may", NameKind.EVENT_SLUG, "rain-in-may"),
        (f"{SITE}/event/rain-in-may/", NameKind.EVENT_SLUG, "rain-in-may"),
        (f"{SITE}/es/event/rain-in-may", NameKind.EVENT_SLUG, "rain-in-may"),
        (f"{SITE}/market/will-it-rain?via=x", NameKind.MARKET_SLUG, "will-it-rain"),
        (f"{SITE}/sports/nba/nba-atl-lal-2026-01-13", NameKind.EVENT_SLUG, "nba-atl-lal-2026-01-13"),
        ("www.polymarket.com/event/rain-in-may", NameKind.EVENT_SLUG, "rain-in-may"),
        ("HTTP://POLYMARKET.COM/event/Rain-In-May", NameKind.EVENT_SLUG, "rain-in-may"),
    ],
)
def test_a_name_is_told_apart_by_its_form(given: str, kind: NameKind, text: str) -> None:
    assert parse(given) == Name(kind, text)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("0x" + "ab" * 20, "address of a wallet"),
        ("0x" + "ab" * 31, "id of a combo"),
        (HASH[:-1], "is no condition id: that is 0x and 64 hex digits"),
        (HASH + "0", "is no condition id"),
        ("0x" + "zz" * 32, "is no condition id"),
        (HASH[2:], "lost its 0x"),
        ("1" * 79, "too long for a token id"),
        ("@somebody", "is a profile"),
        ("Will it rain?", "names no market"),
        ("", "names no market"),
        ("kalshi:KX", "is no market of Polymarket"),
        ("polymarkt:1", "did you mean 'polymarket'"),
        (f"{SITE}/profile/0x1", "is no page of a market"),
        (SITE + "/", "is no page of a market"),
        ("https://example.com/event/rain", "is no page of polymarket.com"),
    ],
)
def test_what_names_no_market_is_refused_with_what_does(given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as refused:
        parse(given)
    assert refused.value.exit_status == 2
