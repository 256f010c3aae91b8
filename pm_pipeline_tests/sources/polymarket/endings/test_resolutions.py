"""Who says how a market ended: each source by itself, their order, their quarrels, and what they cost."""

import asyncio
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from pm_pipeline.markets.clock import DAY, SECOND, Nanos, parse_time
from pm_pipeline.markets.keys import MarketKey, Venue
from pm_pipeline.markets.market import Instrument, Market
from pm_pipeline.markets.resolution import Claim, ResolutionStatus, contradiction, shares
from pm_pipeline.sources.adapter import Ending, Selection, Window
from pm_pipeline.sources.connect import open_adapter
from pm_pipeline.sources.errors import BadResponse, SourceError
from pm_pipeline.sources.polymarket.books.frames import MarketResolved
from pm_pipeline.sources.polymarket.endings.resolutions import (
    CONDITION_RESOLUTION,
    CTF,
    Asked,
    ChainEnd,
    Endings,
    FileEnds,
    data_rows,
    decode_resolution,
    is_resolution,
)
from pm_pipeline.sources.polymarket.endings.resolve import Said, claims_of, decide
from pm_pipeline.sources.polymarket.onchain.chain import Log
from pm_pipeline.sources.polymarket.wire import ClobMarket, GammaMarket, ResolutionRow
from pm_pipeline.sources.sandbox import World, build_app, load_world
from pm_pipeline.sources.sandbox.polygon import resolution_logs
from pm_pipeline.sources.wire import convert
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.material import CONDITION, MARKET, NOW, gamma_market, packed
from pm_pipeline_tests.sources.server import Server, client_of

SAMPLES = SHARED / "samples" / "polymarket"
PAID_AT = parse_time("2026-07-13T09:00:00Z")
CLOSED = {"closed": True, "closedTime": "2026-07-12 18:00:00+00", "umaEndDate": "2026-07-12T20:00:00Z"}
YES, NO, HALF = (1_000_000, 0), (0, 1_000_000), (500_000, 500_000)
UMA = {**CLOSED, "umaResolutionStatus": "resolved"}
GAMMA_YES = {**UMA, "outcomePrices": packed("1", "0")}


def data_row(**changes: Any) -> dict[str, Any]:
    whole = {"condition_id": CONDITION, "status": "resolved", "payouts": [1, 0], "resolved_at": "1783933200"}
    return whole | changes


def clob_record(winner: int | None = 0, **changes: Any) -> dict[str, Any]:
    tokens = [
        {"token_id": token, "outcome": label, "price": 0.5, "winner": n == winner}
        for n, (token, label) in enumerate((("111", "Yes"), ("222", "No")))
    ]
    return {"condition_id": CONDITION, "closed": True, "tokens": tokens, **changes}


def words(*numbers: int) -> str:
    return "0x" + "".join(f"{number:064x}" for number in numbers)


def log(*payouts: int, condition: str = CONDITION, at: Nanos = PAID_AT, **changes: Any) -> dict[str, Any]:
    return {
        "address": CTF,
        "topics": [CONDITION_RESOLUTION, condition, words(7), words(8)],
        "data": words(len(payouts), 64, len(payouts), *payouts),
        "blockNumber": hex(at // SECOND),
        "transactionHash": "0x" + "ee" * 32,
        "logIndex": "0x1",
        "blockTimestamp": hex(at // SECOND),
        **changes,
    }


class Chain:
    """A chain that answers from a table, and remembers what it was asked."""

    def __init__(self, found: Mapping[str, ChainEnd] | None = None) -> None:
        self.found, self.asked = found or {}, list[tuple[tuple[str, ...], Window]]()

    async def ends(self, conditions: Sequence[str], window: Window) -> Mapping[str, ChainEnd]:
        self.asked.append((tuple(conditions), window))
        return self.found


def paid(*numerators: int) -> Chain:
    return Chain({CONDITION: ChainEnd(numerators, PAID_AT, "0xee")})


def ended(
    *,
    gamma: Mapping[str, Any] = CLOSED,
    data: Sequence[Mapping[str, Any]] = (),
    clob: Mapping[str, Any] | None = None,
    chain: Chain | None = None,
    market: Market = MARKET,
    asked: Asked = Asked.AUTO,
) -> tuple[Ending, list[str]]:
    """The ending of one market, and which hosts were asked for it."""
    servers = {
        "gamma": Server({"/markets/654414": gamma_market(**gamma)}),
        "clob": Server({f"/markets/{CONDITION}": clob} if clob else {}),
        "data": Server({"/v2/resolutions": {"data": list(data)}}),
    }
    return asyncio.run(_ended(servers, chain, market, asked))


async def _ended(
    servers: Mapping[str, Server], chain: Chain | None, market: Market, asked: Asked
) -> tuple[Ending, list[str]]:
    gamma, clob, data = (client_of(server) for server in servers.values())
    async with gamma, clob, data:
        [ending] = [e async for e in Endings(gamma, clob, data, chain, asked).of([market], NOW)]
    return ending, [name for name, server in servers.items() for _ in server.paths]


@pytest.mark.parametrize(
    ("chain", "data", "clob", "gamma", "payouts", "source"),
    [
        (paid(1, 0), [data_row()], clob_record(), GAMMA_YES, YES, "chain:ConditionResolution"),
        (paid(0, 5), [], None, CLOSED, NO, "chain:ConditionResolution"),
        (paid(1, 1), [], None, CLOSED, HALF, "chain:ConditionResolution"),
        (None, [data_row()], clob_record(), GAMMA_YES, YES, "data:/v2/resolutions"),
        (None, [], clob_record(), GAMMA_YES, YES, "clob:/markets"),
        (None, [], clob_record(1), CLOSED, NO, "clob:/markets"),
        (None, [], clob_record(None, is_50_50_outcome=True), CLOSED, HALF, "clob:/markets"),
        (None, [data_row(payouts="")], clob_record(), CLOSED, YES, "clob:/markets"),
        (None, [], None, GAMMA_YES, YES, "gamma:outcomePrices"),
    ],
)
def test_the_chain_goes_first_then_the_data_api_then_the_clob_then_gamma(
    chain: Any, data: Any, clob: Any, gamma: Any, payouts: Any, source: str
) -> None:
    found, _ = ended(chain=chain, data=data, clob=clob, gamma=gamma, asked=Asked.ALL)
    assert found.error is None
    assert found.resolution is not None
    assert (found.resolution.payouts, found.resolution.source) == (payouts, source)


@pytest.mark.parametrize(
    ("chain", "data", "gamma", "moment"),
    [
        (paid(1, 0), [data_row(resolved_at="1783933999")], GAMMA_YES, PAID_AT),
        (None, [data_row(resolved_at="1783933999")], GAMMA_YES, 1783933999 * SECOND),
        # rows of early 2026 tell when, and not what
        (None, [data_row(payouts=None, price="69")], GAMMA_YES, PAID_AT),
        # the CLOB names no time: that of the oracle, never before trading ended, and never the endDate
        (None, [], UMA, parse_time("2026-07-12T20:00:00Z")),
        (None, [], {**UMA, "umaEndDate": "2026-07-12T17:00:00Z"}, parse_time("2026-07-12T18:00:00Z")),
        (None, [], {}, NOW),
    ],
)
def test_money_moves_when_the_block_says_or_when_the_oracle_was_done(
    chain: Any, data: Any, gamma: Any, moment: Nanos
) -> None:
    found, _ = ended(chain=chain, data=data, clob=clob_record(), gamma=gamma, asked=Asked.ALL)
    assert found.resolution is not None
    assert found.resolution.resolved_at == found.resolution.known_at == moment


@pytest.mark.parametrize(
    ("given", "source", "trusted", "payouts", "words_"),
    [
        ({"gamma": GAMMA_YES}, "gamma", True, YES, "umaResolutionStatus resolved, outcomePrices ['1', '0']"),
        ({"gamma": {**UMA, "outcomePrices": packed("0", "0")}}, "gamma", False, None, "no payouts"),
        ({"gamma": {**UMA, "outcomePrices": packed("0.97", "0.03")}}, "gamma", False, None, "no payouts"),
        ({"gamma": {**GAMMA_YES, "umaResolutionStatus": None}}, "gamma", False, YES, "has not answered"),
        (
            {"gamma": GAMMA_YES, "data": [data_row(status="disputed", payouts=None)]},
            "gamma",
            False,
            YES,
            "the oracle is at work: disputed",
        ),
        ({"clob": clob_record(closed=False)}, "clob", False, YES, "the market is not closed"),
        (
            {"clob": clob_record(), "data": [data_row(status="proposed", payouts=None)]},
            "clob",
            False,
            YES,
            "the oracle is at work: proposed",
        ),
        # the Data API has no row: Gamma's word of the oracle counts
        (
            {"clob": clob_record(), "gamma": {**CLOSED, "umaResolutionStatus": "disputed"}},
            "clob",
            False,
            YES,
            "the oracle is at work: disputed",
        ),
        (
            {
                "clob": clob_record(None, is_50_50_outcome=True),
                "gamma": {**CLOSED, "umaResolutionStatus": "proposed"},
            },
            "clob",
            False,
            HALF,
            "the oracle is at work: proposed",
        ),
        (
            {"clob": clob_record(), "gamma": {**CLOSED, "umaResolutionStatus": "settled"}},
            "clob",
            True,
            YES,
            "closed True, winner 1/0",
        ),
        ({"clob": clob_record(None)}, "clob", True, None, "closed True, winner nothing"),
        # old prices have some forty decimals; near a payout is no payout
        (
            {"gamma": {**UMA, "outcomePrices": packed("0.99999999999999999999", "0.00000000000000000001")}},
            "gamma",
            False,
            None,
            "no payouts",
        ),
    ],
)
def test_a_claim_says_what_it_rests_on_and_why_it_may_not_decide(
    given: Any, source: str, trusted: bool, payouts: Any, words_: str
) -> None:
    found, _ = ended(**given)
    claim = next(claim for claim in found.claims if claim.source == source)
    assert (claim.trusted, claim.payouts, claim.known_at) == (trusted, payouts, NOW)
    assert words_ in claim.note


def test_two_winners_are_no_winner() -> None:
    record = clob_record()
    record["tokens"][1]["winner"] = True
    found, _ = ended(clob=record)
    [clob] = [claim for claim in found.claims if claim.source == "clob"]
    assert (clob.trusted, clob.payouts, "2 winners" in clob.note) == (False, None, True)
    assert found.resolution is not None
    assert found.resolution.status is ResolutionStatus.CLOSED


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clob": clob_record(condition_id="0x1")}, "asked for"),
        ({"clob": clob_record(tokens=[{"token_id": "9", "outcome": "x", "winner": True}])}, "no outcome"),
        ({"chain": paid(1, 0, 0)}, "pays"),
        ({"chain": paid(0, 0)}, "pays"),
        ({"market": replace(MARKET, condition_id=None)}, "no condition id"),
        ({"gamma": {"umaResolutionStatus": "lost"}}, "/markets/654414: umaResolutionStatus is 'lost'"),
        ({"data": [data_row(status="lost")]}, "/v2/resolutions: status is 'lost'"),
    ],
)
def test_what_makes_no_sense_is_the_error_of_its_market(given: Any, message: str) -> None:
    found, _ = ended(**given)
    assert isinstance(found.error, SourceError)
    assert message in str(found.error)
    assert found.resolution is None


@pytest.mark.parametrize(
    ("gamma", "data", "disputed"),
    [
        (GAMMA_YES, [data_row()], False),
        ({**GAMMA_YES, "umaResolutionStatuses": packed("proposed", "disputed")}, [data_row()], True),
        (CLOSED, [data_row(was_disputed="")], False),
        (CLOSED, [data_row(status="challenged", payouts=None)], True),
        ({**CLOSED, "umaResolutionStatus": "challenged"}, [], True),
    ],
)
def test_an_objection_is_remembered_from_whoever_tells_of_it(gamma: Any, data: Any, disputed: bool) -> None:
    found, _ = ended(gamma=gamma, data=data)
    assert found.resolution is not None
    assert found.resolution.was_disputed is disputed


# --- what it costs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "hosts"),
    [
        ({"gamma": {}}, ["gamma", "data"]),
        ({"gamma": {}, "asked": Asked.ALL}, ["gamma", "clob", "data"]),
        ({"gamma": GAMMA_YES, "data": [data_row()]}, ["gamma", "data"]),
        ({"gamma": GAMMA_YES}, ["gamma", "clob", "data"]),
        ({"gamma": GAMMA_YES, "data": [data_row(payouts=[0, 1])]}, ["gamma", "clob", "data"]),
        ({"gamma": GAMMA_YES, "chain": paid(1, 0)}, ["gamma", "data"]),
        ({"gamma": CLOSED}, ["gamma", "clob", "data"]),
    ],
)
def test_the_clob_is_asked_where_a_doubt_is_left(given: Any, hosts: list[str]) -> None:
    _, asked = ended(**given)
    assert asked == hosts


@pytest.mark.parametrize(
    ("gamma", "asked", "start"),
    [
        ({}, Asked.AUTO, None),
        ({}, Asked.ALL, MARKET.opened_at),
        (CLOSED, Asked.AUTO, MARKET.opened_at),
        ({**CLOSED, "closedTime": "2026-07-30T00:00:00Z"}, Asked.AUTO, parse_time("2026-07-23T00:00:00Z")),
    ],
)
def test_the_chain_is_searched_from_a_week_before_the_end(
    gamma: Any, asked: Asked, start: Nanos | None
) -> None:
    chain = Chain()
    ended(gamma=gamma, chain=chain, asked=asked)
    assert chain.asked == ([] if start is None else [((CONDITION,), Window(start, NOW))])


def test_a_market_without_its_times_does_not_hide_the_others_from_the_chain() -> None:
    other = replace(MARKET, key=MarketKey(Venue.POLYMARKET, "7"), condition_id="0x" + "cd" * 32)
    lost = gamma_market(id="7", conditionId=other.condition_id, closed=True)
    rows = {"markets": [gamma_market(**CLOSED), lost]}

    async def run() -> list[Ending]:
        tables: list[dict[str, Any]] = [{"/markets/keyset": rows}, {}, {"/v2/resolutions": {"data": []}}]
        gamma, clob, data = (client_of(Server(table)) for table in tables)
        async with gamma, clob, data:
            return [e async for e in Endings(gamma, clob, data, paid(1, 0)).of([other, MARKET], NOW)]

    broken, whole = asyncio.run(run())
    assert "closed, but without closedTime" in str(broken.error)
    assert whole.resolution is not None
    assert whole.resolution.payouts == YES


def small_world() -> World:
    return load_world(None)


async def _sandbox(asked: Asked, **more: Any) -> tuple[list[Market], list[Ending], list[str]]:
    requests: list[str] = []
    inner = build_app(small_world())

    async def counted(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            requests.append(f"{dict(scope['headers'])[b'host'].decode()}{scope['path']}")
        await inner(scope, receive, send)

    async with open_adapter(Venue.POLYMARKET, "sandbox", sandbox_app=counted, asked=asked, **more) as adapter:
        pages = adapter.get_markets(Selection(venue=Venue.POLYMARKET))
        markets = [market async for page in pages for market in page]
        await adapter.now()
        requests.clear()
        endings = [ending async for ending in adapter.get_endings(markets)]
    return markets, endings, requests


def test_a_hundred_markets_take_few_requests_and_say_the_truth() -> None:
    markets, endings, requests = asyncio.run(_sandbox(Asked.AUTO))
    world = small_world()
    for market, ending in zip(markets, endings, strict=True):
        truth = world.market(str(market.key)).resolution
        assert ending.error is None
        assert ending.resolution is not None
        assert ending.resolution.payouts == truth.payouts
        assert ending.resolution.was_disputed is (
            truth.was_disputed or truth.status is ResolutionStatus.DISPUTED
        )
        assert contradiction(ending.claims, whole=market.exclusive_group) == ""
        if truth.payouts is not None:
            assert ending.resolution.resolved_at == truth.resolved_at
    per_market = len(requests) / len(markets)
    assert len(markets) > 20
    assert per_market < 0.2, requests


def test_all_sources_agree_in_the_sandbox_when_all_are_asked() -> None:
    _, endings, requests = asyncio.run(_sandbox(Asked.ALL))
    told = [ending for ending in endings if ending.resolution and ending.resolution.payouts]
    assert len(told) > 5
    for ending in told:
        assert {claim.source for claim in ending.claims} == {"chain", "data", "clob", "gamma"}
        assert len({claim.payouts for claim in ending.claims}) == 1
        assert ending.resolution is not None
        assert ending.resolution.source == "chain:ConditionResolution"
    assert any(path.startswith("polygon.invalid") for path in requests)


def test_files_of_logs_say_the_same_as_the_node(tmp_path: Path) -> None:
    world = small_world()
    logs = [
        one | {"blockTimestamp": hex(int(one["blockNumber"], 16) + 1_777_374_040 - 87_814_766)}
        for one in resolution_logs(world, 0, 2**31)
    ]
    path = tmp_path / "ends.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in logs))
    by_node = asyncio.run(_sandbox(Asked.ALL))[1]
    by_file = asyncio.run(_sandbox(Asked.ALL, polygon_logs=path))[1]
    assert [e.resolution for e in by_file] == [e.resolution for e in by_node]
    assert len(logs) > 5


# --- the chain's logs ------------------------------------------------------------------------------------


def test_a_log_is_read_as_payouts_and_the_time_of_its_block() -> None:
    found = convert(log(1, 0), Log, "log")
    assert is_resolution(found)
    assert decode_resolution(found, 5) == (CONDITION, ChainEnd((1, 0), 5 * SECOND, "0x" + "ee" * 32))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"removed": True}, "taken back"),
        ({"topics": [CONDITION_RESOLUTION, CONDITION]}, "four topics"),
        ({"topics": [CONDITION_RESOLUTION, "0x1", words(7), words(8)]}, "four topics"),
        ({"data": "0x"}, "0 words do not hold"),
        ({"data": words(2, 64, 2, 1)}, "do not hold the payouts of 2 outcomes"),
        ({"data": words(2, 64, 2, 1, 0)[:-1]}, "do not hold"),
        ({"data": words(2, 65, 2, 1, 0)}, "data begins with"),
        ({"data": words(1, 64, 1, 1)}, "do not hold"),
        ({"data": words(2, 64, 2, 1, 0).replace("1", "g")}, "no hexadecimal"),
    ],
)
def test_a_log_of_another_form_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadResponse, match=message):
        decode_resolution(convert(log(1, 0, **changes), Log, "log"), 5)


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ([log(1, 0), log(0, 1)], "resolves .* twice"),
        ([log(1, 0, blockTimestamp=None)], "blockTimestamp is missing"),
        ([log(1, 0), {"nonsense": 1}], "address"),
    ],
)
def test_files_that_contradict_themselves_are_refused(
    tmp_path: Path, logs: list[dict[str, Any]], message: str
) -> None:
    path = tmp_path / "ends.jsonl"
    path.write_text("\n".join(json.dumps(one) for one in logs))
    with pytest.raises(BadResponse, match=message):
        asyncio.run(FileEnds(path).ends([CONDITION], Window(0, NOW)))


def test_other_logs_in_a_file_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "ends.json"
    path.write_text(json.dumps([log(1, 0, address="0x" + "11" * 20), log(0, 1), log(0, 1)]))
    found = asyncio.run(FileEnds(path).ends([CONDITION, "0x" + "cd" * 32], Window(0, NOW)))
    assert {condition: end.numerators for condition, end in found.items()} == {CONDITION: (0, 1)}


# --- claims against each other ---------------------------------------------------------------------------


def claim(source: str, payouts: Any, trusted: bool = True) -> Claim:
    return Claim(
        market_key=MARKET.key,
        source=source,
        status=ResolutionStatus.RESOLVED if payouts else ResolutionStatus.CLOSED,
        payouts=payouts,
        resolved_at=None,
        was_disputed=None,
        trusted=trusted,
        note="",
        known_at=NOW,
    )


@pytest.mark.parametrize(
    ("claims", "whole", "words_"),
    [
        ([], True, ""),
        ([claim("data", YES), claim("gamma", YES)], True, ""),
        ([claim("data", YES), claim("gamma", None)], True, ""),
        ([claim("data", YES), claim("gamma", NO, trusted=False)], True, ""),
        ([claim("data", HALF)], False, ""),
        ([claim("data", YES), claim("clob", NO)], False, "data says 1/0; clob says 0/1"),
        ([claim("data", HALF), claim("clob", NO)], False, "data says 0.5/0.5; clob says 0/1"),
        ([claim("data", HALF)], True, "data says 0.5/0.5, but a market of a neg-risk group cannot be split"),
    ],
)
def test_a_contradiction_shows_both_values(claims: Any, whole: bool, words_: str) -> None:
    assert contradiction(claims, whole=whole) == words_


def test_no_payouts_read_as_nothing() -> None:
    assert (shares(None), shares(HALF)) == ("nothing", "0.5/0.5")


# --- real answers ----------------------------------------------------------------------------------------


def sample(name: str) -> Any:
    path = SAMPLES / name
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return json.loads(text)


def recorded_market(raw: Mapping[str, Any]) -> Market:
    """A market with the ids of a recorded Gamma object."""
    key = MarketKey(Venue.POLYMARKET, str(raw["id"]))
    tokens = json.loads(raw["clobTokenIds"])
    instruments = tuple(Instrument(key, n, "", token) for n, token in enumerate(tokens))
    return replace(MARKET, key=key, instruments=instruments, condition_id=raw["conditionId"])


def of_gamma(raw: Mapping[str, Any]) -> tuple[Market, Said]:
    kept = {name: value for name, value in raw.items() if name not in {"events", "tags"}}
    return recorded_market(raw), Said(gamma=convert(kept, GammaMarket, "sample"))


@needs_shared
def test_the_recorded_row_of_the_data_api_pays_yes() -> None:
    [row] = sample("data_api_v2/resolutions_2026-09-14.json")["data"]
    said = replace(of_gamma(gamma_market(**CLOSED))[1], data=convert(row, ResolutionRow, "x"))
    [data] = [one for one in claims_of(MARKET, said, NOW) if one.source == "data"]
    assert (data.payouts, data.resolved_at) == (YES, parse_time("2026-09-09T21:19:19Z"))
    assert (data.was_disputed, data.trusted) == (False, True)


@needs_shared
def test_the_zeros_of_2020_tell_nothing() -> None:
    market, said = of_gamma(sample("gamma/nautilus_gamma_market_closed_zero_zero_legacy.json"))
    claims = claims_of(market, said, NOW)
    assert [claim.payouts for claim in claims] == [None]
    assert decide(market, said, claims, NOW).status is ResolutionStatus.CLOSED


@needs_shared
@pytest.mark.parametrize(
    ("name", "payouts", "deciding"),
    [("accepting_true", YES, {"clob"}), ("accepting_false", NO, {"clob", "gamma"})],
)
def test_recorded_markets_end_alike_by_gamma_and_the_clob(
    name: str, payouts: Any, deciding: set[str]
) -> None:
    """Gamma names no state of the oracle for the first, so that its prices may not decide."""
    market, said = of_gamma(sample(f"gamma/nautilus_gamma_market_closed_binary_{name}.json"))
    record = convert(
        sample(f"clob_other/nautilus_clob_market_closed_binary_{name}.json"), ClobMarket, "sample"
    )
    assert record.condition_id == market.condition_id
    claims = claims_of(market, replace(said, clob=record), NOW)
    assert {claim.payouts for claim in claims} == {payouts}
    assert {claim.source for claim in claims if claim.trusted} == deciding


@needs_shared
def test_every_recorded_record_of_the_clob_parses_and_names_one_winner_at_most() -> None:
    rows = sample("clob_other/nautilus_clob_markets_page_2024.json.gz")["data"]
    records = [convert(row, ClobMarket, "sample") for row in rows]
    winners = [sum(token.winner for token in record.tokens) for record in records]
    assert len(records) > 10
    assert max(winners) == 1


@needs_shared
def test_every_recorded_five_minute_market_is_resolved_by_gamma() -> None:
    path = SAMPLES / "gamma/btc5m_updown_markets_resolved_2026-07-24.jsonl.gz"
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines() if line.strip()]
    found = []
    for row in rows:
        market, said = of_gamma(row["raw"])
        state = decide(market, said, claims_of(market, said, NOW), NOW)
        found.append(state.status)
        assert state.resolved_at is not None
        assert said.closed_at is not None
        assert 0 <= state.resolved_at - said.closed_at < DAY
    assert (len(found), set(found)) == (292, {ResolutionStatus.RESOLVED})


@needs_shared
def test_the_channels_word_of_a_resolution_names_the_winner() -> None:
    frame = convert(sample("ws/nautilus_ws_market_resolved_msg.json"), MarketResolved, "sample")
    assert frame is not None


# the forms of a row of the Data API, as captured

ONE, ZERO, HALF_ANSWER = "1000000000000000000", "0", "500000000000000000"
LIFE = {
    "question_id": "0x" + "cc" * 32,
    "extended_review": False,
    "new_version_q": True,
    "proposed_price": ONE,
    "reproposed_price": "69",
    "price": "69",
    "transaction_hash": "0x" + "ee" * 32,
    "log_index": "602",
    "last_update_timestamp": "1783933200",
}


@pytest.mark.parametrize(
    ("row", "status", "payouts"),
    [
        ({"price": ONE, "market_type": "BINARY"}, ResolutionStatus.RESOLVED, YES),
        ({"price": ZERO}, ResolutionStatus.RESOLVED, NO),
        ({"price": HALF_ANSWER}, ResolutionStatus.RESOLVED, HALF),
        ({"price": ONE, "market_type": "INCREMENTAL_NEGRISK"}, ResolutionStatus.RESOLVED, YES),
        ({"price": ONE, "payouts": [1_000_000, 0]}, ResolutionStatus.RESOLVED, YES),
        # an answer that packs several markets, none at all, and one that we do not know
        ({"price": ONE, "market_type": "ATOMIC_NEGRISK"}, ResolutionStatus.PENDING, None),
        ({"price": "69"}, ResolutionStatus.PENDING, None),
        ({"price": "700000000000000000"}, ResolutionStatus.PENDING, None),
        (
            {"status": "disputed", "proposed_price": ONE, "was_disputed": True},
            ResolutionStatus.DISPUTED,
            None,
        ),
        ({"status": "proposed", "price": ONE}, ResolutionStatus.PENDING, None),
    ],
)
def test_the_oracles_answer_pays_where_a_resolved_row_names_no_payouts(
    row: dict[str, Any], status: ResolutionStatus, payouts: Any
) -> None:
    whole = {**LIFE, "condition_id": CONDITION, "status": "resolved", **row}
    found, _ = ended(data=[whole])
    assert found.error is None
    assert found.resolution is not None
    assert (found.resolution.status, found.resolution.payouts) == (status, payouts)
    if payouts:
        assert found.resolution.resolved_at == 1783933200 * SECOND


def test_payouts_and_an_answer_that_disagree_are_refused() -> None:
    found, _ = ended(data=[data_row(price=ZERO)])
    assert found.resolution is None
    assert "pays [1, 0], but price is 0" in str(found.error)


def test_a_row_that_names_no_condition_is_refused() -> None:
    with pytest.raises(BadResponse, match="/v2/resolutions: condition_id is missing"):
        ended(data=[{"status": "resolved"}])


def test_markets_are_asked_for_twenty_at_a_time() -> None:
    markets = [replace(MARKET, condition_id=f"0x{n:064x}", event_id=str(n)) for n in range(1, 46)]

    def answer(request: Request) -> Response:
        named = request.query_params.get("condition", "").split(",")
        rows = [data_row(condition_id=each) for each in named if each != markets[0].condition_id]
        return Response(json.dumps({"data": rows if "condition" in request.query_params else []}))

    server = Server({"/v2/resolutions": answer})

    async def read() -> dict[str, Any]:
        async with client_of(server) as client:
            return await data_rows(client, markets)

    found = asyncio.run(read())
    assert set(found) == {market.condition_id for market in markets[1:]}
    asked = [params for _, params in server.asked]
    assert [len(params["event_id"].split(",")) for params in asked[:3]] == [20, 20, 5]
    assert [len(params["condition"].split(",")) for params in asked[3:]] == [20, 20, 5]
