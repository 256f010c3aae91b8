"""Fields that nobody knows: closed records, what lies inside them, and what a user lets pass."""

from typing import ClassVar

import msgspec
import pytest

from pm_pipeline.sources.drift import HARMLESS, DriftError
from pm_pipeline.sources.wire import convert


class Tag(msgspec.Struct):
    unread: ClassVar[frozenset[str]] = frozenset({"colour"})
    name: str


class Closed(msgspec.Struct, rename="camel"):
    unread: ClassVar[frozenset[str]] = frozenset({"icon"})
    market_id: str
    tags: list[Tag] | None = None


class Open(msgspec.Struct):
    closed: Closed | None = None


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Closed, {"marketId": "1"}),
        (Closed, {"marketId": "1", "icon": "x", "tags": [{"name": "a", "colour": "red"}]}),
        (Open, {"whatever": 1, "closed": {"marketId": "1"}}),
        (list[Closed], [{"marketId": "1"}, {"marketId": "2", "icon": None}]),
    ],
)
def test_what_a_record_reads_or_leaves_unread_passes(kind: type, value: object) -> None:
    convert(value, kind, "/x")


@pytest.mark.parametrize(
    ("kind", "value", "fields"),
    [
        (Closed, {"marketId": "1", "market_id": "1"}, ("Closed.market_id",)),
        (Closed, {"marketId": "1", "new": 1, "icon": "x", "also": 2}, ("Closed.also", "Closed.new")),
        (Closed, {"marketId": "1", "tags": [{"name": "a"}, {"name": "b", "size": 1}]}, ("Tag.size",)),
        (Open, {"closed": {"marketId": "1", "z": 1}}, ("Closed.z",)),
        (list[Closed], [{"marketId": "1"}, {"marketId": "2", "z": 1}], ("Closed.z",)),
    ],
)
def test_a_field_that_nobody_knows_fails_with_its_name(
    kind: type, value: object, fields: tuple[str, ...]
) -> None:
    with pytest.raises(DriftError, match=f"/x has new fields: {', '.join(fields)}") as caught:
        convert(value, kind, "/x")
    assert caught.value.fields == fields
    assert f"{HARMLESS}={','.join(fields)}" in str(caught.value)


def test_fields_that_a_user_has_looked_up_pass_by_name_or_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    value = {"marketId": "1", "newA": 1, "newB": 2, "tags": [{"name": "a", "size": 1}]}
    monkeypatch.setenv(HARMLESS, "Closed.newA, Tag.*")
    with pytest.raises(DriftError) as caught:
        convert(value, Closed, "/x")
    assert caught.value.fields == ("Closed.newB",)
    monkeypatch.setenv(HARMLESS, "Closed.new*,Tag.*")
    assert convert(value, Closed, "/x").market_id == "1"
