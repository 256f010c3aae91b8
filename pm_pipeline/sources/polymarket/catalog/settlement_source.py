"""Who decides a market: the page that its rules name, and the weather station on it.

Rules name their source by address, in ``resolutionSource`` or in the text of the description. Weather
markets have named pages of Wunderground and, since 2026, of the National Weather Service.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qs, urlsplit

_ADDRESS: Final = re.compile(r"https?://[^\s<>\"'()\[\]]+", re.I)
_BARE: Final = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}(?:/\S*)?", re.I)
_ENDS_SENTENCE: Final = ".,;:!?*"

_STATION_IN_PATH: Final = {
    "wunderground.com": re.compile(
        r"/history/(?:daily|weekly|monthly)/(?:[^/]+/)*?([A-Z][A-Z0-9]{3})(?:/.*)?"
    )
}
"""Host to the part of the path that is the station; cities are written small, stations large."""

_STATION_IN_QUERY: Final = {"weather.gov": ("/wrh/timeseries", "site")}
"""Host to the page and its parameter."""

_ICAO: Final = re.compile(r"[A-Z][A-Z0-9]{3}")


class SettlementPage(NamedTuple):
    """The host of the page that decides, without ``www``, and the ICAO code of the station that does."""

    host: str | None
    station: str | None


def settlement_page(resolution_source: str | None, description: str | None) -> SettlementPage:
    """What the rules name. The source's own field goes before the text for the host.

    ``station`` is ``None`` where they name none, or several: nobody may guess between two stations.
    """
    pages = [*_pages(resolution_source or ""), *_pages(description or "")]
    hosts = [host for page in pages if (host := _host(page))]
    stations = {station for page in pages if (station := _station(page))}
    return SettlementPage(hosts[0] if hosts else None, stations.pop() if len(stations) == 1 else None)


def _pages(text: str) -> list[SplitResult]:
    found = [address.rstrip(_ENDS_SENTENCE) for address in _ADDRESS.findall(text)]
    if not found and _BARE.fullmatch(text.strip()):
        found = [f"https://{text.strip()}"]
    return [page for address in found if (page := _split(address)) is not None]


def _split(address: str) -> SplitResult | None:
    """The parts of an address; ``None`` for what only looks like one."""
    try:
        return urlsplit(address)
    except ValueError:
        return None


def _host(page: SplitResult) -> str:
    return (page.hostname or "").removeprefix("www.")


def _station(page: SplitResult) -> str | None:
    host = _host(page)
    if host in _STATION_IN_PATH:
        found = _STATION_IN_PATH[host].fullmatch(page.path)
        return found.group(1) if found else None
    path, parameter = _STATION_IN_QUERY.get(host, ("", ""))
    if path and page.path.rstrip("/") == path:
        site = next(iter(parse_qs(page.query).get(parameter, ())), "").upper()
        return site if _ICAO.fullmatch(site) else None
    return None
