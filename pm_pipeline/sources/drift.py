"""Fields of an answer that nobody here knows: a venue that adds one may have changed what the others mean.

A record that lists what it does not read, in a class variable ``unread``, is closed: any other field is drift
and fails the reading with its name. A user who has looked the field up lets it pass by name, in
``PM_HARMLESS_FIELDS``.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from types import NoneType
from typing import Any, Final, get_args

import msgspec

from pm_pipeline.sources.errors import BadResponse

HARMLESS: Final = "PM_HARMLESS_FIELDS"
"""Names that may pass, separated by commas, as the error prints them; ``*`` stands for any part."""


class DriftError(BadResponse):
    """The source answered with fields that we do not know; ``fields`` are their names."""

    def __init__(self, endpoint: str, fields: tuple[str, ...]) -> None:
        names = ", ".join(fields)
        super().__init__(
            f"{endpoint} has new fields: {names}. They may change what the others mean; nothing was stored. "
            f"Look them up in the venue's changelog; if they are harmless, set {HARMLESS}={','.join(fields)}"
        )
        self.fields = fields


@dataclass(frozen=True, slots=True)
class _Known:
    """What an object may hold: names (``None``: any), and the records inside it."""

    record: str
    names: frozenset[str] | None
    inside: Mapping[str, type[msgspec.Struct]]


def require_known(value: object, kind: Any, endpoint: str) -> None:
    """Raise :class:`DriftError` where ``value``, yet to become a ``kind``, holds fields that nobody knows."""
    found = sorted(set(_unknown(value, _struct_of(kind))))
    if not found:
        return
    harmless = [name.strip() for name in os.environ.get(HARMLESS, "").split(",")]
    drifted = tuple(name for name in found if not any(fnmatch(name, pattern) for pattern in harmless))
    if drifted:
        raise DriftError(endpoint, drifted)


def _unknown(value: object, kind: type[msgspec.Struct] | None) -> Iterator[str]:
    if kind is None:
        return
    if isinstance(value, list):
        for item in value:
            yield from _unknown(item, kind)
    elif isinstance(value, Mapping):
        known = _known(kind)
        if known.names is not None and not known.names.issuperset(value):
            yield from (f"{known.record}.{name}" for name in value if name not in known.names)
        for name, inside in known.inside.items():
            if name in value:
                yield from _unknown(value[name], inside)


@cache
def _known(kind: type[msgspec.Struct]) -> _Known:
    fields = msgspec.structs.fields(kind)
    unread: frozenset[str] | None = getattr(kind, "unread", None)
    return _Known(
        record=kind.__name__,
        names=None if unread is None else unread.union(field.encode_name for field in fields),
        inside={f.encode_name: struct for f in fields if (struct := _struct_of(f.type)) is not None},
    )


@cache
def _struct_of(kind: Any) -> type[msgspec.Struct] | None:
    """The record in a type such as ``list[Record] | None``."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    found = (_struct_of(part) for part in get_args(kind) if part is not NoneType)
    return next((struct for struct in found if struct is not None), None)
