import json
import re
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pm_pipeline.markets import FeeTerms, Market, TickRange, Venue
from pm_pipeline.markets.clock import FOREVER, Nanos, parse_time
from pm_pipeline.markets.listed_fees import MAKER_FACTOR
from pm_pipeline.markets.rules import Formula, NoRuleError, RuleBook, RuleFileError, RuleRow
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.markets.builders import a_market
from pm_pipeline_tests.shared import SHARED, needs_shared

BOOK = RuleBook.default()
AFTER = parse_time("2026-10-01")


def a_delay(since: str | Nanos, until: str | Nanos, ms: int = 1, scope: str = "*", **stated: Any) -> RuleRow:
    return RuleRow(
        rule="venue_delay",
        venue=Venue.KALSHI,
        scope=scope,
        valid_from=parse_time(since) if isinstance(since, str) else since,
        valid_to=parse_time(until) if isinstance(until, str) else until,
        cells={"taker_delay": str(ms)},
        **{"source": "test", **stated},
    )


def kalshi(series: str = "KXHIGHNY", **stated: Any) -> Market:
    return a_market(f"kalshi:{series}-26JUL10-B85.5", **stated)


def tagged(*tags: str) -> Market:
    return a_market(tags=tags)


@pytest.mark.parametrize(
    ("day", "market", "formula", "rate", "exponent"),
    [
        ("2024-11-05", tagged("Politics"), Formula.CURVE, "0", 1),
        ("2026-01-04", tagged("Crypto", "15M"), Formula.CURVE, "0", 1),
        ("2026-01-05", tagged("Crypto", "15M"), Formula.RECEIVED_CURVE, "0.25", 2),
        ("2026-02-12", tagged("Crypto", "15M"), Formula.PRICE_CURVE, "0.25", 2),
        ("2026-01-05", tagged("Crypto", "5M"), Formula.RECEIVED_CURVE, "0", 1),
        ("2026-02-12", tagged("Crypto", "5M"), Formula.PRICE_CURVE, "0.25", 2),
        ("2026-02-17", tagged("Sports", "NCAAB"), Formula.PRICE_CURVE, "0", 1),
        ("2026-02-18", tagged("Sports", "NCAAB"), Formula.PRICE_CURVE, "0.0175", 1),
        ("2026-02-18", tagged("Sports", "Serie A"), Formula.PRICE_CURVE, "0.0175", 1),
        ("2026-03-06", tagged("Crypto"), Formula.PRICE_CURVE, "0.25", 2),
        ("2026-03-29", tagged("Weather"), Formula.PRICE_CURVE, "0", 1),
        ("2026-03-30", tagged("Weather"), Formula.CURVE, "0.05", 1),
        ("2026-03-30", tagged("Crypto", "15M"), Formula.CURVE, "0.072", 1),
        ("2026-03-30", tagged("Sports", "NCAAB"), Formula.CURVE, "0.03", 1),
        ("2026-07-10", tagged("Sports"), Formula.CURVE, "0.05", 1),
        ("2026-07-10", tagged("Crypto"), Formula.CURVE, "0.07", 1),
        ("2026-07-10", tagged("Politics"), Formula.CURVE, "0.04", 1),
        ("2026-07-10", tagged("Geopolitics"), Formula.CURVE, "0", 1),
        ("2026-07-10", tagged("Something else"), Formula.CURVE, "0.05", 1),
    ],
)
def test_polymarket_charges_by_era_and_category(
    day: str, market: Market, formula: Formula, rate: str, exponent: int
) -> None:
    rule = BOOK.fee(market, parse_time(day))
    assert (rule.taker_formula, rule.taker_rate, rule.exponent) == (formula, Decimal(rate), exponent)
    assert rule.maker_rate == 0


@needs_shared
@pytest.mark.parametrize("category", ["crypto", "sports", "finance", "politics", "economics", "culture"])
def test_the_rates_of_july_2026_are_those_of_the_official_page(category: str) -> None:
    table_ = json.loads((SHARED / "golden/polymarket_fee_cases.json").read_text())["rate_table_2026_07_14"]
    rule = BOOK.fee(a_market(category=category), parse_time("2026-07-14"))
    assert rule.taker_rate == Decimal(str(table_[category]))


TERMS = FeeTerms(rate=Decimal("0.03"), exponent=1, taker_only=True, rebate_rate=Decimal("0.25"))


def test_a_markets_own_schedule_beats_the_category() -> None:
    rule = BOOK.fee(a_market(tags=("Sports",), fee_terms=TERMS), AFTER)
    assert (rule.taker_rate, rule.maker_rate, rule.maker_rebate) == (
        Decimal("0.03"),
        Decimal(0),
        Decimal("0.25"),
    )
    assert rule.scope == "market:polymarket:1"
    assert rule.source.startswith("the market's own schedule")


def test_a_markets_own_schedule_is_not_projected_into_the_time_before_there_was_one() -> None:
    market = a_market(tags=("Politics",), fee_terms=TERMS)
    assert BOOK.fee(market, parse_time("2025-06-01")).taker_rate == 0
    assert BOOK.fee(market, parse_time("2026-02-01")).taker_rate == 0


@pytest.mark.parametrize("day", ["2025-06-01", "2026-01-20", "2026-03-20", "2026-10-01"])
def test_a_market_that_is_free_by_its_own_word_never_had_a_fee(day: str) -> None:
    """Polymarket docs of 2026-03: fees bind markets deployed after the activation, older ones have none."""
    free = a_market(tags=("Crypto", "15M"), fee_terms=replace(TERMS, rate=Decimal(0)))
    assert BOOK.fee(free, parse_time(day)).taker_rate == 0
    assert BOOK.fee(kalshi(fee_terms=replace(TERMS, rate=Decimal(0))), AFTER).taker_rate == Decimal("0.07")


def test_makers_pay_where_a_markets_own_schedule_says_so() -> None:
    rule = BOOK.fee(a_market(fee_terms=replace(TERMS, taker_only=False)), AFTER)
    assert rule.maker_rate == Decimal("0.03")


def test_kalshi_has_no_terms_of_a_single_market() -> None:
    assert BOOK.fee(kalshi(fee_terms=TERMS), AFTER).taker_rate == Decimal("0.07")


@pytest.mark.parametrize(
    ("day", "step", "balance_step", "rebate_step", "maker_formula"),
    [
        ("2023-04-10", 10_000, 0, 0, Formula.PER_CONTRACT),
        ("2025-07-01", 10_000, 0, 0, Formula.CURVE),
        ("2026-02-28", 10_000, 0, 0, Formula.CURVE),
        ("2026-03-01", 100, 10_000, 10_000, Formula.CURVE),
        ("2026-05-27", 100, 10_000, 10_000, Formula.CURVE),
        ("2026-05-28", 100, 100, 10_000, Formula.CURVE),
        ("2026-09-17", 100, 100, 10_000, Formula.CURVE),
        ("2026-09-18", 1, 100, 100, Formula.CURVE),
    ],
)
def test_kalshi_rounds_by_date(
    day: str, step: int, balance_step: int, rebate_step: int, maker_formula: Formula
) -> None:
    rule = BOOK.fee(kalshi(), parse_time(day))
    assert (rule.step, rule.balance_step, rule.rebate_step) == (step, balance_step, rebate_step)
    assert (rule.taker_rate, rule.maker_formula) == (Decimal("0.07"), maker_formula)


@needs_shared
def test_every_series_that_deviates_costs_what_the_venue_said() -> None:
    recorded = json.loads((SHARED / "samples/kalshi/2026-08_fees/series_fees_2026-08-11.json").read_text())
    at = parse_time(recorded["_meta"]["generated"])
    for series, said in recorded["overrides"].items():
        rule = BOOK.fee(kalshi(series), at)
        multiplier = Decimal(str(said["fee_multiplier"]))
        maker = multiplier if said["fee_type"] == "quadratic_with_maker_fees" else 0
        assert (rule.taker_multiplier, rule.maker_multiplier) == (multiplier, maker), series
    stated = {row["scope"] for row in BOOK.to_rows() if str(row["scope"]).startswith("series:")}
    assert {f"series:{series}" for series in recorded["overrides"]} <= stated


def test_a_discount_counts_only_from_the_day_it_is_attested() -> None:
    game = kalshi("KXMLBGAME")
    moments = ("2026-08-07T04:59:45.130Z", "2026-08-07T04:59:45.131Z")
    before, after = (BOOK.fee(game, parse_time(moment)) for moment in moments)
    assert before.taker_multiplier == before.maker_multiplier == 1
    assert (after.taker_multiplier, after.maker_multiplier) == (Decimal("0.5"), Decimal("0.5"))


@pytest.mark.parametrize("series", ["KXINX", "KXINXU", "INXD", "KXNASDAQ100U", "NASDAQ100"])
def test_the_stock_indices_cost_half_while_that_is_attested(series: str) -> None:
    market = kalshi(series)
    moments = ("2025-06-17", "2025-06-18", "2026-07-03T16:59:59Z", "2026-07-03T17:00:00Z")
    costs = [BOOK.fee(market, parse_time(moment)).taker_multiplier for moment in moments]
    assert costs == [1, Decimal("0.5"), Decimal("0.5"), 1]


@pytest.mark.parametrize("series", ["KXINDY500", "KXNASDAQ", "XINX"])
def test_a_prefix_binds_only_what_begins_with_it(series: str) -> None:
    assert BOOK.fee(kalshi(series), parse_time("2026-01-01")).taker_multiplier == 1


def test_a_prefix_gives_way_to_the_series_itself_and_to_a_longer_prefix() -> None:
    scopes = ("*", "series:KX*", "series:KXHIGH*", "series:KXHIGHNY")
    rows = [a_delay("2026-01-01", FOREVER, ms, scope) for ms, scope in enumerate(scopes)]
    for count in range(1, len(rows) + 1):
        assert RuleBook(rows[:count]).delay(kalshi(), AFTER) == (count - 1) * MS
    book = RuleBook(rows)
    assert [book.delay(kalshi(s), AFTER) for s in ("KXHIGHLA", "KXCPI", "CPI")] == [2 * MS, MS, 0]


@pytest.mark.parametrize(
    ("day", "direct", "cents"),
    [
        ("2026-02-01", (0, 0), (0, 0)),
        ("2026-05-01", (10_000, 10_000), (10_000, 10_000)),
        ("2026-05-28", (100, 10_000), (10_000, 10_000)),
        ("2026-09-18", (100, 100), (10_000, 10_000)),
    ],
)
def test_an_account_kept_in_cents_is_rounded_and_rebated_in_cents(
    day: str, direct: tuple[int, int], cents: tuple[int, int]
) -> None:
    at = parse_time(day)
    for book, expected in (
        (BOOK, direct),
        (BOOK.for_account(kalshi_balance="direct"), direct),
        (BOOK.for_account(kalshi_balance="cents"), cents),
    ):
        rule = book.fee(kalshi(), at)
        assert (rule.balance_step, rule.rebate_step) == expected
        assert rule.step == BOOK.fee(kalshi(), at).step


def test_a_looked_up_rule_holds_unchanged_for_its_interval() -> None:
    rule = BOOK.fee(kalshi("KXMLBGAME"), parse_time("2026-09-01"))
    since = parse_time("2026-08-07T04:59:45.131Z")
    assert (rule.valid_from, rule.valid_to) == (since, parse_time("2026-09-18"))
    assert BOOK.fee(kalshi("KXMLBGAME"), rule.valid_to - 1) == rule
    assert BOOK.fee(kalshi("KXMLBGAME"), rule.valid_to) != rule
    assert rule.source.count("Kalshi") == 2


@given(st.sampled_from(["polymarket:1", "kalshi:KXCPI-26", "alpaca:SPY"]), st.integers(0, 4 * 365))
def test_every_moment_of_the_tables_has_exactly_one_rule_of_each_kind(key: str, days: int) -> None:
    at = parse_time("2022-11-18") + days * 86_400_000_000_000
    market = a_market(key)
    for rule in (BOOK.fee(market, at), BOOK.tick(market, at)):
        assert rule.valid_from <= at < rule.valid_to
    assert BOOK.delay(market, at) >= 0


@pytest.mark.parametrize(
    ("category", "taker", "maker"),
    [(None, "0", "0"), ("crypto", "0.0025", "0.0015"), ("Crypto", "0.0025", "0.0015")],
)
def test_alpaca_charges_for_crypto_only(category: str | None, taker: str, maker: str) -> None:
    rule = BOOK.fee(a_market("alpaca:BTCUSD", category=category), AFTER)
    assert (rule.taker_rate, rule.maker_rate) == (Decimal(taker), Decimal(maker))


@pytest.mark.parametrize("key", ["polymarket:1", "kalshi:INX-23", "alpaca:SPY"])
def test_a_time_before_the_first_rule_is_an_error_that_says_where_the_tables_begin(key: str) -> None:
    with pytest.raises(
        NoRuleError, match=r"no fee_schedule for .* the tables begin at 20\d\d-.*RuleBook\.load"
    ):
        BOOK.fee(a_market(key), parse_time("2010-01-01"))


def test_a_venue_without_such_rules_is_an_error() -> None:
    with pytest.raises(NoRuleError, match="the tables have none"):
        BOOK.settlement_source(a_market("alpaca:SPY"), AFTER)


MS = 1_000_000


@pytest.mark.parametrize(
    ("moment", "market", "delay"),
    [
        ("2025-11-13", tagged("Crypto", "15M"), 0),
        ("2025-11-14", tagged("Crypto", "15M"), 500 * MS),
        ("2025-11-14", tagged("Crypto", "1H"), 500 * MS),
        ("2026-02-18", tagged("Crypto", "15M"), 0),
        ("2026-06-03", tagged("Crypto", "15M"), 250 * MS),
        ("2026-08-16T23:59:59Z", tagged("Crypto"), 250 * MS),
        ("2026-08-17", tagged("Crypto"), 50 * MS),
        ("2026-09-04T13:59:59Z", tagged("Crypto"), 50 * MS),
        ("2026-09-04T14:00:00Z", tagged("Crypto"), 150 * MS),
        ("2026-09-04T14:00:00Z", tagged("Sports", "Games"), 3_000 * MS),
        ("2026-09-04T14:00:00Z", tagged("Weather"), 0),
        ("2026-09-04T14:00:00Z", kalshi(), 0),
    ],
)
def test_venues_hold_taker_orders_by_date(moment: str, market: Market, delay: Nanos) -> None:
    assert BOOK.delay(market, parse_time(moment)) == delay


@pytest.mark.parametrize(
    ("market", "day", "ranges", "smallest", "lot"),
    [
        (a_market(), "2026-07-01", ((10_000, 990_000, 10_000),), 5_000_000, 10_000),
        (kalshi(), "2026-03-31", ((10_000, 990_000, 10_000),), 1_000_000, 1_000_000),
        (kalshi(), "2026-04-01", ((10_000, 990_000, 10_000),), 10_000, 10_000),
        (a_market("alpaca:SPY"), "2026-04-01", ((100, 10**6, 100), (10**6, 10**12, 10_000)), 1, 1),
    ],
)
def test_a_venues_usual_ticks_serve_markets_that_list_none(
    market: Market, day: str, ranges: tuple[tuple[int, int, int], ...], smallest: int, lot: int
) -> None:
    rule = BOOK.tick(market, parse_time(day))
    assert rule.ranges == tuple(TickRange(*each) for each in ranges)
    assert (rule.min_order_size, rule.lot) == (smallest, lot)


def test_a_market_that_lists_its_ticks_has_those() -> None:
    ticks = (TickRange(1_000, 999_000, 1_000),)
    rule = BOOK.tick(a_market(ticks=ticks, min_order_size=7), AFTER)
    assert (rule.ranges, rule.min_order_size, rule.scope) == (ticks, 7, "market:polymarket:1")


@pytest.mark.parametrize(
    ("market", "day", "name", "url"),
    [
        (kalshi(), "2026-08-13", "NWS Climatological Report (Daily) CLINYC", "issuedby=NYC"),
        (kalshi(), "2026-08-14", "The Weather Company (CLINYC)", "weather.com/kalshi"),
        (kalshi("KXLOWTCHI"), "2026-08-13", "NWS Climatological Report (Daily) CLIMDW", "issuedby=MDW"),
        (kalshi("KXTEMPCHIH"), "2026-08-13", "The Weather Company", "weather.com/kalshi"),
        (kalshi("KXCPI"), "2026-08-13", "the contract terms of the series", "kalshi.com"),
        (tagged("Weather"), "2026-08-24", "Weather Underground daily history", "wunderground.com"),
        (tagged("Weather"), "2026-08-25", "NOAA time series", "weather.gov/wrh/timeseries"),
        (tagged("Crypto", "5M"), "2026-08-25", "Chainlink data stream", "chain.link"),
        (tagged("Politics"), "2026-08-25", "UMA optimistic oracle", "uma.xyz"),
    ],
)
def test_the_settlement_source_is_a_dated_rule(market: Market, day: str, name: str, url: str) -> None:
    rule = BOOK.settlement_source(market, parse_time(day))
    assert rule.name == name
    assert url in rule.url


def test_polymarkets_source_is_named_market_by_market() -> None:
    url = "https://www.weather.gov/wrh/timeseries?site=KLGA"
    rule = BOOK.settlement_source(
        a_market(tags=("Weather",), resolution_source=url), parse_time("2026-08-01")
    )
    assert (rule.name, rule.url) == ("www.weather.gov", url)


def test_kalshis_series_source_of_today_is_not_read_into_an_old_market() -> None:
    market = kalshi(resolution_source="https://weather.com/kalshi")
    assert "CLINYC" in BOOK.settlement_source(market, parse_time("2026-07-10")).name


def test_the_narrowest_scope_wins_and_the_wider_ones_fill_in() -> None:
    rows = [
        a_delay("2026-01-01", FOREVER, ms, scope)
        for ms, scope in enumerate(
            [
                "*",
                "category:climate-and-weather",
                "tag:daily",
                "series:KXHIGHNY",
                "event:HIGHNY-26JUL10",
                "market:kalshi:HIGHNY-26JUL10-B85.5",
            ]
        )
    ]
    market = a_market(
        "kalshi:HIGHNY-26JUL10-B85.5",
        category="Climate and Weather",
        tags=("Daily",),
        event_id="HIGHNY-26JUL10",
        series="KXHIGHNY",  # a market of before the prefix, filed under the series of today
    )
    for count in range(1, len(rows) + 1):
        assert RuleBook(rows[:count]).delay(market, AFTER) == (count - 1) * MS


def test_of_several_tags_the_first_that_has_a_rule_decides() -> None:
    rows = [a_delay("2026-01-01", FOREVER, ms, scope) for ms, scope in ((0, "*"), (1, "tag:a"), (2, "tag:b"))]
    assert RuleBook(rows).delay(kalshi(tags=("z", "B", "A")), AFTER) == 2 * MS
    assert RuleBook(rows).delay(kalshi(tags=("A", "B")), AFTER) == MS


def test_a_stated_category_is_not_second_guessed_from_the_tags() -> None:
    rows = [a_delay("2026-01-01", FOREVER, ms, s) for ms, s in ((0, "*"), (1, "category:sports"))]
    assert RuleBook(rows).delay(kalshi(category="Politics", tags=("Sports",)), AFTER) == 0
    assert RuleBook(rows).delay(kalshi(tags=("Sports",)), AFTER) == MS


def test_two_rows_of_one_scope_may_not_hold_at_once() -> None:
    touching = [a_delay("2026-01-01", "2026-02-01"), a_delay("2026-02-01", FOREVER)]
    assert len(RuleBook(touching).to_rows()) == 2
    with pytest.raises(RuleFileError, match="both give the venue_delay of kalshi \\* at 2026-01-15"):
        RuleBook(
            [a_delay("2026-01-15", FOREVER, origin="b"), a_delay("2026-01-01", "2026-02-01", origin="a")]
        )


def test_the_rows_of_the_catalog_hold_every_rule_and_are_read_back() -> None:
    rows = BOOK.to_rows()
    assert [set(row) for row in rows] == [{c.name for c in table("catalog.rules").columns}] * len(rows)
    keys = [tuple(row[name] for name in table("catalog.rules").sorted_by) for row in rows]
    assert keys == sorted(set(keys))
    again = RuleBook.from_rows(rows)
    assert again.to_rows() == rows
    assert again.fee(kalshi("KXMLBGAME"), AFTER) == BOOK.fee(kalshi("KXMLBGAME"), AFTER)


def test_every_shipped_row_says_who_stated_it_and_when() -> None:
    for row in BOOK.to_rows():
        assert len(str(row["source"])) > 15
        assert "/work" not in str(row["source"])


HEADER = "venue,scope,valid_from,valid_to,taker_multiplier,source\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str, name: str = "mine.csv") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_a_users_row_replaces_the_cells_it_states_while_it_holds(write: Any) -> None:
    mine = write(HEADER + "kalshi,series:KXCPI,2026-06-01,2026-07-01,0.5,my agreement of 2026-05\n")
    book = RuleBook.load(mine)
    cpi = kalshi("KXCPI")
    for day, multiplier in (("2026-05-31", 1), ("2026-06-01", Decimal("0.5")), ("2026-07-01", 1)):
        rule = book.fee(cpi, parse_time(day))
        assert rule.taker_multiplier == multiplier
        assert rule.maker_multiplier == 1
    assert book.fee(cpi, parse_time("2026-06-01")).source.startswith(
        "my agreement of 2026-05; Kalshi GET /series"
    )


def test_a_later_file_beats_an_earlier_one(write: Any) -> None:
    files = [write(HEADER + f"kalshi,*,2026-06-01,,{m},test {m}\n", f"{m}.csv") for m in (2, 3)]
    assert RuleBook.load(*files).fee(kalshi(), AFTER).taker_multiplier == 3
    assert RuleBook.load(*reversed(files)).fee(kalshi(), AFTER).taker_multiplier == 2


def test_a_fee_waiver_of_one_market_ends_on_time() -> None:
    market = kalshi()
    waiver = replace(
        a_delay("2026-07-09", "2026-07-10", scope=f"market:{market.key}"),
        rule="fee_schedule",
        cells={"taker_multiplier": "0", "maker_multiplier": "0"},
    )
    book = BOOK.overlaid([waiver])
    assert book.fee(market, parse_time("2026-07-10") - 1).taker_multiplier == 0
    assert book.fee(market, parse_time("2026-07-10")).taker_multiplier == 1
    assert BOOK.fee(market, parse_time("2026-07-09")).taker_multiplier == 1


DAYS = st.integers(0, 20)


@given(st.lists(st.tuples(DAYS, DAYS, st.integers(1, 99)), max_size=4), st.integers(0, 20))
def test_laid_over_each_other_the_last_row_that_holds_decides(
    spans: list[tuple[int, int, int]], at: int
) -> None:
    book = RuleBook([a_delay(0, FOREVER, 0)])
    expected = 0
    for since, until, ms in spans:
        if since < until:
            book = book.overlaid([a_delay(since, until, ms)])
            expected = ms if since <= at < until else expected
    assert book.delay(kalshi(), at) == expected * MS


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEADER + "kalshi,*,2026-06-01,,0.5\n", "line 2 has another number of cells"),
        (HEADER + "kalshi,*,2026-06-01,,0.5,a,b\n", "line 2 has another number of cells"),
        (HEADER + "kalhsi,*,2026-06-01,,0.5,a\n", "unknown venue 'kalhsi'; did you mean 'kalshi'"),
        (HEADER + "kalshi,all,2026-06-01,,0.5,a\n", "'all' is not a scope; write \\*"),
        (HEADER + "kalshi,category:Weather,2026-06-01,,0.5,a\n", "is not a scope"),
        (HEADER + "kalshi,*,June,,0.5,a\n", "line 2: 'June' is not an ISO 8601 time"),
        (HEADER + "kalshi,*,2026-06-01,2026-06-01,0.5,a\n", "valid_to must be later than valid_from"),
        (HEADER + "kalshi,*,2026-06-01,,half,a\n", "taker_multiplier cannot be 'half'"),
        (HEADER + "kalshi,*,2026-06-01,,-1,a\n", "must not be negative"),
        (HEADER + "kalshi,*,2026-06-01,,0.00000007,a\n", "more than six decimals"),
        (HEADER + "kalshi,*,2026-06-01,,0.5,\n", "a rule needs a source"),
        ("venue,scope,valid_from,taker_multiplier\n", "lacks the columns valid_to, source"),
        ("", "lacks the columns venue"),
        ("venue,scope,valid_from,valid_to,source\n", "the columns of one rule are needed"),
        ("venue,scope,valid_from,valid_to,taker_delay,ranges,source\n", "the columns of one rule are needed"),
        ("venue,scope,valid_from,valid_to,taker_mult,source\n", "unknown column 'taker_mult'; did you mean"),
        ("venue,scope,valid_from,valid_to,ranges,source\nkalshi,*,2026-06-01,,1:2,a\n", "start:end:step"),
        (
            "venue,scope,valid_from,valid_to,rounding,source\nkalshi,*,2026-06-01,,up,a\n",
            "one of floor, ceil",
        ),
        ("venue,scope,valid_from,valid_to,maker_formula,source\nkalshi,*,2026-06-01,,x,a\n", "'x' is not a"),
    ],
)
def test_a_bad_table_is_refused_with_the_place_and_the_remedy(write: Any, text: str, complaint: str) -> None:
    with pytest.raises(RuleFileError, match=complaint) as refused:
        RuleBook.load(write(text))
    assert refused.value.exit_status == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RuleFileError, match=r"gone\.csv: No such file"):
        RuleBook.load(tmp_path / "gone.csv")


def test_a_row_with_a_column_of_another_rule_is_refused() -> None:
    with pytest.raises(RuleFileError, match="unknown column 'step'"):
        RuleBook([replace(a_delay("2026-01-01", FOREVER), cells={"step": "1"})])


def test_rows_laid_over_a_gap_leave_the_gap() -> None:
    book = RuleBook([a_delay(0, 10)]).overlaid([a_delay(0, 5), a_delay(20, 30, 2)])
    assert [(book.delay(kalshi(), at)) for at in (0, 5, 20)] == [MS, MS, 2 * MS]
    for at in (10, 19, 30):
        with pytest.raises(NoRuleError):
            book.delay(kalshi(), at)


def test_a_row_laid_over_that_changes_nothing_leaves_one_row() -> None:
    below = [a_delay(0, 10), a_delay(10, 20)]
    above = [a_delay(0, 20, 3)]
    (row,) = RuleBook(below).overlaid(above).to_rows()
    assert row["value"] == '{"taker_delay": "3"}'


def value_of(row: dict[str, Any]) -> str:
    return "; ".join(f"{name} {text}" for name, text in json.loads(row["value"]).items())


def day_of(time: object) -> str:
    return (
        ""
        if not isinstance(time, datetime)
        else time.isoformat().replace("+00:00", "Z").replace("T00:00:00Z", "")
    )


DOCUMENT = (Path(__file__).parents[2] / "docs" / "fees.md").read_text()


@pytest.mark.parametrize("row", [r for r in BOOK.to_rows() if not str(r["scope"]).startswith("series:")])
def test_the_document_shows_the_rule_as_shipped(row: dict[str, Any]) -> None:
    since, until = day_of(row["valid_from"]), day_of(row["valid_to"])
    line = f"| {row['venue']} | `{row['scope']}` | {value_of(row)} | {since} | {until} | {row['source']} |"
    assert line in DOCUMENT.splitlines()


def test_the_document_shows_no_rule_that_is_not_shipped() -> None:
    """The packaged tables and the rows on the page are the same in number; each one is found above."""
    shown = [line for line in DOCUMENT.splitlines() if re.match(r"\| (polymarket|kalshi|alpaca) \| `", line)]
    rows = [row for row in BOOK.to_rows() if not str(row["scope"]).startswith("series:")]
    assert len(shown) == len(set(shown)) == len(rows)


def test_the_document_names_every_series_that_deviates_and_no_other() -> None:
    section = DOCUMENT.split("Kalshi series that differ", 1)[1].split("\n## ", 1)[0]
    shown = set()
    for line in section.splitlines()[4:]:
        if line:
            value, since, until, names = (cell.strip() for cell in line.strip("|").split("|"))
            shown |= {(name, value, since, until) for name in names.split()}
    shipped = {
        (str(row["scope"])[7:], value_of(row), day_of(row["valid_from"]), day_of(row["valid_to"]))
        for row in BOOK.to_rows()
        if row["rule"] == "fee_schedule" and str(row["scope"]).startswith("series:")
    }
    assert shown == shipped


def test_the_document_shows_what_each_fee_type_of_kalshi_costs_a_maker() -> None:
    shown = re.findall(r"^\| `(quadratic\w*)` \| m \| (\S*) ?m? \|$", DOCUMENT, re.MULTILINE)
    factors = {"0": 0, "m": 1, "2": 2}
    assert {name: factors[maker] for name, maker in shown} == MAKER_FACTOR
