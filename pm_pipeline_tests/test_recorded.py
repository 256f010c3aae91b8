"""The recorded sets, loaded as a world and read through the venues' wire formats."""

import gzip
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import HOUR, SECOND, parse_time
from pm_pipeline.markets.keys import Venue
from pm_pipeline.markets.resolution import ResolutionStatus
from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.sources.sandbox import World, load_world
from pm_pipeline.sources.sandbox.kalshi_ws import life_of
from pm_pipeline.sources.sandbox.world import ABSENT, Strike, WorldMarket, book_at
from pm_pipeline_tests.recorded import LABEL, recorded_dir, strike_pays, strikes_of, summary
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.sandbox.conftest import CLOB, GAMMA, KALSHI, AppClient

RECORDED = SHARED / "recorded"


@pytest.fixture(scope="module")
def world() -> World:
    return load_world("pm_pipeline_tests.recorded:load_world")


@pytest.fixture(scope="module")
def client(world: World) -> AppClient:
    return AppClient(world)


def histories(world: World) -> list[WorldMarket]:
    return [m for m in world.polymarket.values() if m.raw is None]


@needs_shared
def test_the_counts_are_those_of_the_recordings(world: World) -> None:
    assert world.label == LABEL
    found = summary(world)
    cities = ("nyc-daily-weather", "london-daily-weather")
    assert [(found[c]["resolved"], found[c]["won"]) for c in cities] == [(1169, 109), (1169, 109)]
    assert found["KXHIGHNY"] == {"events": 15, "markets": 90, "resolved": 90, "won": 15}
    assert found["KXBTC15M"] == {"events": 15, "markets": 15, "resolved": 14, "won": 8}
    points = sum(len(m.quotes().ts) for m in histories(world))
    assert points == 60_581 + 62_954
    assert sum(len(m.quotes().ts) == 0 for m in histories(world)) == 22


@needs_shared
def test_exactly_one_market_of_every_decided_event_wins(world: World) -> None:
    decided = 0
    for children in world.by_event.values():
        payouts = [c.resolution.payouts[0] for c in children if c.resolution.payouts]
        if children[0].market.exclusive_group and payouts:
            assert len(payouts) == len(children)
            assert sum(payouts) == MICRO
            decided += 1
    assert decided == 109 + 109 + 15


@needs_shared
def test_nothing_is_resolved_before_its_last_price_or_its_day_is_over(world: World) -> None:
    for market in world.markets.values():
        resolution = market.resolution
        if resolution.payouts is None or market.market.series == "KXBTC15M":
            continue
        quotes = market.quotes()
        assert resolution.resolved_at is not None
        assert market.market.scheduled_close is not None
        assert resolution.resolved_at > market.market.scheduled_close
        assert len(quotes.ts) == 0 or resolution.resolved_at > quotes.ts[-1]
    nyc = next(m for m in histories(world) if m.event.slug == "highest-temperature-in-nyc-on-june-1-2026")
    assert nyc.resolution.resolved_at == parse_time("2026-06-02T04:00:00Z") + 6 * HOUR


@needs_shared
@pytest.mark.parametrize(("day", "charged"), [("march-29", False), ("march-30", True), ("june-20", True)])
def test_weather_fees_began_on_a_date(world: World, client: AppClient, day: str, charged: bool) -> None:
    slug = f"highest-temperature-in-london-on-{day}-2026"
    body = client.get(f"{GAMMA}/events/slug/{slug}").json()
    for row in body["markets"]:
        assert row["feesEnabled"] is charged
        assert ("feeSchedule" in row) == charged
        if charged:
            assert row["feeSchedule"] == {"exponent": 1, "rate": 0.05, "takerOnly": True, "rebateRate": 0.25}


@needs_shared
def test_recorded_prices_come_back_unchanged_at_the_finest_spacing(world: World, client: AppClient) -> None:
    path = RECORDED / "polymarket_weather_2026" / "polymarket_nyc_history.json.gz"
    day = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)["markets"][5]
    bucket = max(day["buckets"], key=lambda b: len(b["history"]))
    first, last = bucket["history"][0]["t"], bucket["history"][-1]["t"]
    params = {"market": bucket["yes_token"], "startTs": first, "endTs": last, "fidelity": 1}
    response = client.get(f"{CLOB}/prices-history", params)
    assert json.loads(response.text, parse_float=Decimal)["history"] == bucket["history"]
    no = world.by_token[bucket["yes_token"]].market.market.instrument(1).token_id
    mirrored = client.get(f"{CLOB}/prices-history", params | {"market": no}).json()["history"]
    assert [round(1 - point["p"], 6) for point in mirrored] == [float(p["p"]) for p in bucket["history"]]


@needs_shared
def test_raw_gamma_objects_are_served_as_they_were(world: World, client: AppClient) -> None:
    path = RECORDED / "polymarket_weather_2026" / "raw_polymarket" / "polymarket_2026-06-16.ndjson.gz"
    line = json.loads(gzip.decompress(path.read_bytes()))
    event = line["gamma_events"][0]
    assert client.get(f"{GAMMA}/events/{event['id']}").json() == event
    market = event["markets"][2]
    shown = client.get(f"{GAMMA}/markets/{market['id']}").json()
    assert market.items() <= shown.items()
    assert shown["events"][0]["slug"] == event["slug"]
    recorded = world.polymarket[market["id"]]
    assert recorded.resolution.status is ResolutionStatus.OPEN
    token = json.loads(market["clobTokenIds"])[0]
    quote, quotes = line["clob_quotes"][token], recorded.quotes()
    assert quotes.mid.tolist() == [to_micro(quote["midpoint"]["mid"])]
    assert quotes.bid.tolist() == [to_micro(quote["price_buy"]["price"]) or ABSENT]
    assert quotes.ask.tolist() == [to_micro(quote["price_sell"]["price"]) or ABSENT]


@needs_shared
def test_every_raw_market_is_unresolved(world: World) -> None:
    raw = [m for m in world.polymarket.values() if m.raw is not None]
    assert len(raw) == 616
    assert {m.resolution.status for m in raw} <= {ResolutionStatus.OPEN, ResolutionStatus.PENDING}
    quoted = [m for m in raw if len(m.quotes().ts)]
    assert len(quoted) > 500
    for market in quoted:
        quotes = market.quotes()
        both = (quotes.bid != ABSENT) & (quotes.ask != ABSENT)
        assert np.all(quotes.bid[both] <= quotes.ask[both])


@needs_shared
def test_ticks_are_the_recorded_quotes_in_utc(world: World) -> None:
    market = world.kalshi["KXHIGHNY-25DEC05-B32.5"]
    quotes = market.quotes()
    assert int(quotes.ts[0]) == parse_time("2025-12-04T20:27:16.080242Z")
    assert (int(quotes.bid[0]), int(quotes.ask[0])) == (450_000, 460_000)
    assert market.market.scheduled_close == parse_time("2025-12-06T04:59:00Z")
    assert market.resolution.resolved_at == parse_time("2025-12-06T13:00:00Z")
    assert market.settled_value == "32.00"
    for other in world.of_venue(Venue.KALSHI):
        if other.market.series == "KXHIGHNY":
            series = other.quotes()
            assert other.market.scheduled_close is not None
            assert np.all(np.diff(series.ts) > 0)
            assert series.bid[-1] > 0.9 * MICRO or other.resolution.payouts == (0, MICRO)


@needs_shared
def test_minute_candles_are_built_from_the_ticks(world: World, client: AppClient) -> None:
    ticker = "KXHIGHNY-25DEC05-B32.5"
    start = parse_time("2025-12-05T15:00:00Z") // SECOND
    body = client.get(
        f"{KALSHI}/historical/markets/{ticker}/candlesticks",
        {"start_ts": start, "end_ts": start + 7200, "period_interval": 1},
    ).json()
    quotes = world.kalshi[ticker].quotes()
    assert len(body["candlesticks"]) > 30
    for row in body["candlesticks"]:
        at = quotes.at(row["end_period_ts"] * SECOND)
        assert at is not None
        assert to_micro(row["yes_ask"]["close"]) == int(quotes.ask[at])
        assert row["volume"] == "0.00"
        assert row["price"]["close"] is None


@needs_shared
def test_frames_of_a_market_replay_to_the_recorders_own_books(world: World) -> None:
    session = "particle_shadow_forward_20260511T053741Z-long900"
    folder = RECORDED / "kalshi_btc15m_l2_2026" / session
    lines = gzip.decompress((folder / "checkpoints_exact.jsonl.gz").read_bytes()).splitlines()
    ticker = "KXBTC15M-26MAY110200-00"
    wanted = {c["seq"]: c for c in map(json.loads, lines) if c["market"] == ticker}
    with gzip.open(folder / "ws_messages.jsonl.gz") as frames:
        told = [json.loads(line) for line in frames]
    own = [f for f in told if f["msg"]["market_ticker"] == ticker and f["type"] != "ticker"]
    log = world.kalshi[ticker].book_log()
    position = {frame["seq"]: n + 1 for n, frame in enumerate(own)}
    checked = 0
    for seq, book in list(wanted.items())[::7]:
        # Time stands for the place in the log here: several changes share a millisecond.
        sides = book_at(log._replace(ts=log.seq), position[seq])
        assert sides is not None
        yes = sorted(sides.bids.items(), reverse=True)[:5]
        no = sorted(((MICRO - p, s) for p, s in sides.asks.items()), reverse=True)[:5]
        for mine, theirs in ((yes, book["yes"]), (no, book["no"])):
            assert [(p // 10_000, s) for p, s in mine] == [(p, to_micro(str(s))) for p, s in theirs]
        checked += 1
    assert checked > 50


@needs_shared
def test_the_channel_plays_the_recorded_changes_of_one_market_only(world: World) -> None:
    ticker = "KXBTC15M-26MAY110145-45"
    messages = list(life_of(world.kalshi[ticker]))
    assert {m.msg["market_ticker"] for m in messages} == {ticker}
    kinds = [m.type for m in messages]
    assert kinds[0] == "orderbook_snapshot"
    frames = RECORDED / "kalshi_btc15m_l2_2026" / "particle_shadow_forward_20260511T053741Z-long900"
    with gzip.open(frames / "ws_messages.jsonl.gz") as lines:
        told = [json.loads(line) for line in lines]
    own = [f for f in told if f["msg"]["market_ticker"] == ticker and f["type"] == "orderbook_delta"]
    deltas = [m.msg for m in messages if m.type == "orderbook_delta"]
    moving = [f["msg"] for f in own if Decimal(f["msg"]["delta_fp"])]
    keys = ("side", "price_dollars", "delta_fp")
    assert [[d[k] for k in keys] for d in deltas] == [[f[k] for k in keys] for f in moving]


@needs_shared
def test_a_session_without_a_result_stays_unresolved(world: World) -> None:
    market = world.kalshi["KXBTC15M-26MAY132030-30"]
    assert market.resolution.status is ResolutionStatus.CLOSED
    assert market.resolution.payouts is None


def test_a_missing_folder_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PM_RECORDED_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="set PM_RECORDED_DIR"):
        recorded_dir()
    monkeypatch.setenv("PM_RECORDED_DIR", str(tmp_path))
    with pytest.raises(UsageError, match="holds none of the recorded sets"):
        load_world("pm_pipeline_tests.recorded:load_world")


def test_an_absent_set_is_left_out_and_an_event_without_its_high_stays_unresolved(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "kalshi_highny_bbo_2025"
    folder.mkdir()
    rows = ["timestamp,market_ticker,best_yes_bid,best_no_bid,implied_no_ask,implied_yes_ask"]
    codes = ("T30", "B30.5", "B32.5", "T33")
    rows += [f"2025-12-04T12:27:16.000001,KXHIGHNY-25DEC05-{code},0,99,100,1" for code in codes]
    (folder / "market_data_KXHIGHNY-25DEC05.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    monkeypatch.setenv("PM_RECORDED_DIR", str(tmp_path))
    world = load_world("pm_pipeline_tests.recorded:load_world")
    assert summary(world) == {"KXHIGHNY": {"events": 1, "markets": 4, "resolved": 0, "won": 0}}
    for market in world.markets.values():
        assert market.resolution.status is ResolutionStatus.CLOSED
        assert "no NWS high" in market.resolution.source
        assert market.quotes().bid.tolist() == [ABSENT]
        assert market.quotes().ask.tolist() == [10_000]


@pytest.mark.parametrize(
    ("value", "winner"), [(29, "T30"), (30, "B30.5"), (31, "B30.5"), (37, "B36.5"), (38, "T37")]
)
def test_tails_point_away_from_the_ranges(value: float, winner: str) -> None:
    codes = ("T30", "B30.5", "B32.5", "B34.5", "B36.5", "T37")
    strikes = strikes_of(f"KXHIGHNY-25DEC05-{code}" for code in codes)
    assert [t.rpartition("-")[2] for t, s in strikes.items() if strike_pays(s, value)] == [winner]
    assert strikes["KXHIGHNY-25DEC05-T30"] == Strike("less", None, 30.0)
    assert strikes["KXHIGHNY-25DEC05-T37"] == Strike("greater", 37.0, None)
