"""Every record of Polymarket is closed: it names what it lacks, and what it does not know."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec
import pytest

from pm_pipeline.sources.drift import HARMLESS, DriftError
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket import data, unread, wire
from pm_pipeline.sources.polymarket.catalog import gamma
from pm_pipeline.sources.polymarket.catalog.records import gamma_event, gamma_market, to_event
from pm_pipeline.sources.polymarket.wallets import records as wallet_records
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.shared import needs_shared
from pm_pipeline_tests.sources.polymarket import material
from pm_pipeline_tests.sources.polymarket.catalog.gamma_samples import SAMPLES, read_events, read_rows
from pm_pipeline_tests.sources.polymarket.wallets.wallet_material import WALLET, act, group, leader, position

Rows = Mapping[type[msgspec.Struct], dict[str, Any]]

SOURCES: Final = (wire, wallet_records, data, gamma)
ENVELOPES: Final = {"_MarketPage", "_EventPage", "_SearchPage", "_FoundEvent", "_FoundMarket"}
"""Answers around rows, and hits of the search, which only help to spell a name."""

LEVEL: Final = {"price": "0.4", "size": "10"}
EVENT: Final = {"id": "1", "title": "It", "markets": []}
TOKEN: Final = {"token_id": "111", "outcome": "Yes", "winner": True}
ROWS: Final[Rows] = {
    wire.Tag: {"slug": "weather"},
    wire.SeriesRef: {"slug": "highs"},
    gamma._Series: {"id": "1", "slug": "highs"},
    wire.GammaEvent: EVENT,
    wire.FeeSchedule: {"rate": Decimal("0.05"), "exponent": 1, "takerOnly": True},
    wire.GammaMarket: material.gamma_market(),
    wire.HistoryPoint: {"t": 1783862192, "p": Decimal("0.5")},
    wire.History: {"history": []},
    wire.BookLevel: LEVEL,
    wire.BookAnswer: {"asset_id": "111", "timestamp": "1783862192000", "bids": [LEVEL], "asks": []},
    wire.TradeRow: material.trade(),
    wire.PricePoint: {"timestamp": 1783862192, "price": Decimal("0.5"), "resolution_seconds": 60},
    wire.ResolutionRow: {"condition_id": material.CONDITION, "status": "resolved"},
    wire.ClobToken: TOKEN,
    wire.ClobMarket: {"condition_id": material.CONDITION, "closed": True, "tokens": [TOKEN]},
    wallet_records.PositionRow: position(),
    wallet_records.ActivityRow: act(),
    wallet_records.HolderRow: {"proxy_wallet": WALLET, "amount": 1},
    wallet_records.HolderGroup: group("111", [(WALLET, 1)]),
    wallet_records.LeaderRow: leader(1),
    data._Pagination: {"has_more": False, "next_cursor": None},
}
"""A row of each record, with what it needs."""


def records() -> set[type[msgspec.Struct]]:
    return {
        kind
        for module in SOURCES
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__name__ not in ENVELOPES
    }


def named(kind: type) -> str:
    return kind.__name__


def test_every_record_is_closed_and_has_a_row_here() -> None:
    assert records() == set(ROWS)
    for kind in ROWS:
        listed: frozenset[str] = kind.unread  # type: ignore[attr-defined]
        fields = {field.encode_name for field in msgspec.structs.fields(kind)}
        # the whole list of series serves two records; one of them reads the id
        assert not (listed & fields) - ({"id"} if listed is unread.SERIES else set())


@pytest.mark.parametrize("kind", ROWS, ids=named)
def test_a_row_with_a_field_that_nobody_knows_is_refused_by_its_name(kind: type[msgspec.Struct]) -> None:
    listed: frozenset[str] = kind.unread  # type: ignore[attr-defined]
    known = dict.fromkeys(listed) | ROWS[kind]
    convert(known, kind, "/x")
    with pytest.raises(DriftError, match=rf"^/x has new fields: {named(kind)}\.brand_new\. ") as caught:
        convert(known | {"brand_new": 1}, kind, "/x")
    assert caught.value.fields == (f"{named(kind)}.brand_new",)


NEEDED: Final = [
    (kind, field.encode_name) for kind in ROWS for field in msgspec.structs.fields(kind) if field.required
]


@pytest.mark.parametrize(("kind", "field"), NEEDED, ids=lambda each: getattr(each, "__name__", each))
def test_a_row_without_a_field_that_is_needed_is_refused_by_its_name(
    kind: type[msgspec.Struct], field: str
) -> None:
    lacking = {name: value for name, value in ROWS[kind].items() if name != field}
    assert len(lacking) == len(ROWS[kind]) - 1
    with pytest.raises(BadResponse, match=rf"^/x: .*missing required field `{field}`"):
        convert(lacking, kind, "/x")


def test_a_row_of_the_data_api_is_named_in_the_error() -> None:
    row = material.trade()
    del row["size"]
    with pytest.raises(
        BadResponse,
        match=rf"^/v2/trades row transaction_hash=0xt, condition_id={material.CONDITION}: .*`size`",
    ):
        data.record(row, wire.TradeRow, "/v2/trades")
    with pytest.raises(DriftError, match=r"row transaction_hash=0xt.*TradeRow\.colour"):
        data.record(material.trade(colour=1), wire.TradeRow, "/v2/trades")
    empty: list[object] = [{}, [], None]
    for nothing in empty:
        with pytest.raises(BadResponse, match=r"^/v2/trades row "):
            data.record(nothing, wire.TradeRow, "/v2/trades")


def market(row: dict[str, Any]) -> object:
    return gamma.to_market(gamma_market(row, "/markets/keyset"), "/markets/keyset")


def event(row: dict[str, Any]) -> object:
    return to_event(gamma_event(row, "/events/keyset"), [], "/events/keyset")


@pytest.mark.parametrize(
    ("read", "row", "field"),
    [
        *(
            (market, material.gamma_market(), field)
            for field in ("id", "active", "closed", "question", "conditionId", "orderMinSize")
        ),
        (market, material.gamma_market(), "orderPriceMinTickSize"),
        (market, material.gamma_market(), "clobTokenIds"),
        (event, EVENT, "id"),
        (event, EVENT, "title"),
    ],
)
def test_what_gamma_must_tell_of_a_market_or_event_is_named_with_its_id_where_it_is_missing(
    read: Callable[[dict[str, Any]], object], row: dict[str, Any], field: str
) -> None:
    read(row)
    where = "None" if field == "id" else row["id"]
    with pytest.raises(BadResponse, match=rf"/keyset (market|event) {where}.*{field}"):
        read({name: value for name, value in row.items() if name != field})


def test_a_new_field_of_an_event_or_tag_inside_a_market_is_found_too() -> None:
    inside = {"id": "1", "tags": [{"slug": "weather", "weight": 3}], "series": [{"slug": "a", "rank": 1}]}
    with pytest.raises(DriftError) as caught:
        gamma_market(material.gamma_market(events=[inside]), "/markets/keyset")
    assert caught.value.fields == ("SeriesRef.rank", "Tag.weight")


def test_a_field_that_a_user_has_looked_up_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HARMLESS, "TradeRow.builder*")
    row = material.trade(builder_code="0x0")
    assert convert(row, wire.TradeRow, "/v2/trades").side == "BUY"
    monkeypatch.delenv(HARMLESS)
    with pytest.raises(DriftError, match=r"TradeRow\.builder_code, TradeRow\.maker"):
        convert(row | {"maker": 1}, wire.TradeRow, "/v2/trades")


@needs_shared
@pytest.mark.parametrize("name", SAMPLES)
def test_every_recorded_market_and_event_is_within_what_we_know(name: str) -> None:
    for row in read_rows(name):
        gamma_market(row, name)
    for row in read_events(name):
        gamma_event(row, name)
