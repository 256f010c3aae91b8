import csv
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.sources.polymarket.catalog.settlement_source import SettlementPage, settlement_page
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.catalog.gamma_samples import SAMPLES, read_rows

WUNDER = "https://www.wunderground.com/history/daily"
NOAA = "https://www.weather.gov/wrh/timeseries?site="


@pytest.mark.parametrize(
    ("source", "text", "host", "station"),
    [
        (f"{WUNDER}/us/ny/new-york-city/KLGA", None, "wunderground.com", "KLGA"),
        (f"{WUNDER}/gb/london/EGLC/date/2026-7-3", None, "wunderground.com", "EGLC"),
        (f"{WUNDER}/KLGA", None, "wunderground.com", "KLGA"),
        (f"{WUNDER}/pe/lima", None, "wunderground.com", None),
        (f"{WUNDER}/us/ny/brooklyn/KNYNEWYO1234", None, "wunderground.com", None),
        ("", f"the highest temperature, {WUNDER}/de/munich/EDDM.", "wunderground.com", "EDDM"),
        ("", f'in the "Temp" column, {NOAA}klga.', "weather.gov", "KLGA"),
        (f"{NOAA}eglc&hours=72", None, "weather.gov", "EGLC"),
        (f"{NOAA}1234", None, "weather.gov", None),
        ("https://www.weather.gov/wrh/climate?wfo=okx", None, "weather.gov", None),
        ("https://www.weather.gov.hk/en/cis/climat.htm", None, "weather.gov.hk", None),
        # two pages of one station, and of two
        (f"{NOAA}KLGA", f"else {WUNDER}/us/ny/new-york-city/KLGA.", "weather.gov", "KLGA"),
        (f"{WUNDER}/fr/paris/LFPB", f"({WUNDER}/fr/paris/LFPG)", "wunderground.com", None),
        ("https://data.chain.link/streams/btc-usd", "x", "data.chain.link", None),
        ("defipulse.com", None, "defipulse.com", None),
        ("ESPN", "see https://www.espn.com/nba, or what is reported", "espn.com", None),
        ("a consensus of credible reporting", None, None, None),
        ("http://[broken", None, None, None),
        (None, None, None, None),
    ],
)
def test_the_page_that_decides_and_the_station_on_it(
    source: str | None, text: str | None, host: str | None, station: str | None
) -> None:
    assert settlement_page(source, text) == SettlementPage(host, station)


@given(st.text(), st.text())
def test_any_text_has_a_source_or_none(source: str, text: str) -> None:
    found = settlement_page(f"https://{source}", text)
    assert found.station is None or re.fullmatch("[A-Z][A-Z0-9]{3}", found.station)


@needs_shared
def test_every_recorded_weather_market_is_decided_by_a_station_of_its_city() -> None:
    with (SHARED / "reference" / "stations_polymarket.csv").open() as lines:
        of_city = {row["city"].lower(): row["icao"] for row in csv.DictReader(lines)}
    of_city |= {"new york city": of_city["nyc"]}
    older = {"paris": "LFPG"}  # the reference says: until the spring of 2026
    seen: dict[str, set[str | None]] = {}
    for name in SAMPLES:
        for row in read_rows(name):
            found = re.match(r"Will the highest temperature in (.+?) be ", row.get("question") or "")
            if found:
                page = settlement_page(row.get("resolutionSource"), row.get("description"))
                assert page.host == "wunderground.com"
                seen.setdefault(found.group(1).lower(), set()).add(page.station)
    assert seen == {city: {older.get(city, of_city[city])} for city in seen}
    assert set(seen) == {"new york city", "london", "munich", "tokyo", "paris", "sao paulo"}
