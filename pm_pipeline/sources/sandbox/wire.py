"""What the sandbox's venues share: JSON answers, errors, cursors, and exact numbers on the wire."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import SECOND, Nanos, format_time, to_datetime
from pm_pipeline.markets.units import MICRO, Micro, from_micro
from pm_pipeline.sources.sandbox.world import World

Json: TypeAlias = Mapping[str, object]

_TEXT_TRUE: Final = {"true": True, "1": True, "false": False, "0": False}


class Refusal(Exception):  # noqa: N818 - a venue's answer, not a failure of ours
    """The venue refuses a request; ``status`` and ``reason`` become its error body."""

    def __init__(self, status: int, reason: str, parameter: str | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.parameter = parameter


def world_of(request: Request) -> World:
    """The world that this application serves."""
    world = request.app.state.world
    assert isinstance(world, World)
    return world


def answer(body: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def number(value: Micro) -> int | float:
    """A JSON number that reads back as the exact decimal: the shortest text of a double does."""
    whole, rest = divmod(value, MICRO)
    return whole if rest == 0 else value / MICRO


def real(value: Micro) -> float:
    """As :func:`number`, but whole values keep their ``.0``, as in the venues' float fields."""
    return value / MICRO


def text(value: Micro) -> str:
    """The shortest decimal text: ``0.52``, ``13``."""
    shown = f"{from_micro(value):f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def seconds(moment: Nanos) -> int:
    """Unix seconds."""
    return moment // SECOND


def iso(moment: Nanos) -> str:
    """``2026-07-24T00:00:16Z``."""
    return format_time(moment)


def spaced(moment: Nanos) -> str:
    """``2026-07-24 00:00:16+00``, the form of Gamma's ``closedTime``."""
    return f"{to_datetime(moment):%Y-%m-%d %H:%M:%S}+00"


def encode_cursor(fields: Json) -> str:
    """An opaque cursor. A field ``n`` may be added to make a cursor look different."""
    return base64.urlsafe_b64encode(msgspec.json.encode(dict(fields))).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> dict[str, int | str]:
    """The fields of a cursor; none for an absent one. Raises :class:`Refusal` (400) for nonsense."""
    if not cursor:
        return {}
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=dict[str, int | str])
    except (binascii.Error, msgspec.MsgspecError, UnicodeError, ValueError) as error:
        raise Refusal(400, "invalid cursor", "cursor") from error


def integer(request: Request, name: str) -> int | None:
    """A whole-number parameter, or ``None``. Raises :class:`Refusal` (400) for other text."""
    value = request.query_params.get(name)
    if value is None or value == "":
        return None
    try:
        return int(value)
    except ValueError as error:
        raise Refusal(400, f"{name} must be an integer", name) from error


def flag(request: Request, name: str, default: bool) -> bool:
    """A true/false parameter. Raises :class:`Refusal` (400) for other text."""
    value = request.query_params.get(name)
    if value is None:
        return default
    if value.lower() not in _TEXT_TRUE:
        raise Refusal(400, f"{name} must be true or false", name)
    return _TEXT_TRUE[value.lower()]


def many(request: Request, name: str) -> list[str]:
    """A parameter that may be repeated or comma-separated."""
    return [part for value in request.query_params.getlist(name) for part in value.split(",") if part]


def page_of(rows: Sequence[object], start: int, limit: int) -> tuple[Sequence[object], bool]:
    """One page, and whether there is more."""
    return rows[start : start + limit], start + limit < len(rows)
