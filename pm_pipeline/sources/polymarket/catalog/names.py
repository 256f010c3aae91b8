"""The kinds of name by which a user may mean a Polymarket market, told apart by their form alone.

Tables of rules, tried from top to bottom. What looks alike (condition and question ids; token and position
ids; slugs of markets and of events) is one kind here: the venue is asked for each.
"""

import re
from enum import StrEnum
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.keys import MarketKey, Venue

SITE: Final = "polymarket.com"


class NameKind(StrEnum):
    """What a name may be."""

    NUMBER = "Gamma id"
    HASH = "condition id or question id"
    ASSET = "token id or position id"
    MARKET_SLUG = "slug of a market"
    EVENT_SLUG = "slug of an event"
    SLUG = "slug of a market or event"


class Name(NamedTuple):
    """A name in the venue's own spelling, and what it may be."""

    kind: NameKind
    text: str


class UnknownNameError(UsageError):
    """Text names no market of Polymarket; the message says which names do."""


_KINDS: Final = (
    (r"\d{1,20}", NameKind.NUMBER),
    (r"\d{21,78}", NameKind.ASSET),
    (r"0x[0-9a-f]{64}", NameKind.HASH),
)
_REFUSED: Final = (
    (r"0x[0-9a-f]{40}", "is the address of a wallet or contract, which names no market"),
    (r"0x[0-9a-f]{62}", "is the id of a combo (62 hex digits), which bundles several markets; name those"),
    (r"0x.*", "is no condition id: that is 0x and 64 hex digits, 66 characters in all"),
    (r"[0-9a-f]{64}", "may be a condition id that lost its 0x; put it in front"),
    (r"\d{79,}", "is too long for a token id, which has at most 78 digits"),
    (r"@.*", "is a profile, which names no market"),
)
_SLUG: Final = re.compile(r"[^\s/?#\\\"'<>]+")
_PAGES: Final = (
    (("event", "*", "*"), NameKind.MARKET_SLUG),
    (("event", "*"), NameKind.EVENT_SLUG),
    (("market", "*"), NameKind.MARKET_SLUG),
    (("sports", "*", "*"), NameKind.EVENT_SLUG),
)
"""Paths of the pages of events and markets; the last part is the slug. A language may stand before them."""

KNOWN: Final = (
    "a Gamma id, the slug of a market or event, the address of its page, a condition id or question id "
    "(0x and 64 hex digits), a token id, a position id, or a key such as polymarket:654414"
)


def parse(name: str) -> Name:
    """What ``name`` may be. Raises :class:`UnknownNameError` for text that cannot name a market."""
    text = name.strip()
    if "/" in text:
        return _page(text)
    if ":" in text:
        key = MarketKey.parse(text)
        if key.venue is not Venue.POLYMARKET:
            raise UnknownNameError(f"{text} is no market of Polymarket")
        text = key.native_id
    text = text.lower()
    for pattern, kind in _KINDS:
        if re.fullmatch(pattern, text):
            return Name(kind, text)
    for pattern, why in _REFUSED:
        if re.fullmatch(pattern, text):
            raise UnknownNameError(f"{text!r} {why}. A market is named by {KNOWN}")
    return Name(NameKind.SLUG, _slug(text, name))


def _page(text: str) -> Name:
    parts = urlsplit(text if "://" in text else f"https://{text}")
    host = (parts.hostname or "").removeprefix("www.")
    segments = [segment for segment in parts.path.split("/") if segment]
    if host != SITE:
        raise UnknownNameError(f"{text!r} is no page of {SITE}. A market is named by {KNOWN}")
    if segments and re.fullmatch(r"[a-z]{2}(-[a-z]{2})?", segments[0], re.I):
        segments = segments[1:]
    for path, kind in _PAGES:
        if len(path) == len(segments) and path[0] == segments[0]:
            return Name(kind, _slug(segments[-1].lower(), text))
    raise UnknownNameError(
        f"{text!r} is no page of a market; such a page is {SITE}/event/<event>, "
        f"{SITE}/event/<event>/<market> or {SITE}/market/<market>"
    )


def _slug(text: str, given: str) -> str:
    if not _SLUG.fullmatch(text):
        raise UnknownNameError(f"{given!r} names no market. A market is named by {KNOWN}")
    return text
