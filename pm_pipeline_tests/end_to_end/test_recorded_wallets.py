"""Recorded wallets, carried from the retired form into that of v2, ingested whole and reconciled.

What is compared is computed here by hand from the recorded rows with exact decimals.
"""

import csv
import gzip
import json
import re
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from pm_pipeline.markets.clock import day_of, parse_time
from pm_pipeline.markets.units import MICRO, to_micro
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.data import record
from pm_pipeline.sources.polymarket.wallets.client import Held, WalletReader
from pm_pipeline.sources.polymarket.wallets.records import ActivityRow, PositionRow
from pm_pipeline.sources.polymarket.wallets.rows import MarketIds, as_table
from pm_pipeline.sources.wallet_log import ingest_activity, ingest_leaderboard, ingest_positions
from pm_pipeline.warehouse.holdings import net_contracts
from pm_pipeline.warehouse.leaders import LEADERBOARD, Period, RankedBy, leaders_known_at
from pm_pipeline.warehouse.readings import ACTIVITY, POSITIONS
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket.wallets.wallet_material import (
    leader,
    position_from_v1,
    read_wallets,
    trade_from_v1,
    wallet_server,
)
from pm_pipeline_tests.warehouse.builders import lake_at

pytestmark = needs_shared

RECORDED = SHARED / "recorded"
V1 = SHARED / "samples" / "polymarket" / "data_api_v1"
NOW = parse_time("2026-09-01T00:00:00Z")
WEATHER = "0xbddc2a7690bf600e347d5eb4a9c28f9f24e55d4f"
NONE = MarketIds.of([])


def rows_in(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(gzip.decompress(path.read_bytes()).decode())))


@lru_cache(maxsize=1)
def beffer() -> dict[str, Any]:
    path = RECORDED / "polymarket_wallet_beffer45_2026" / "ledger.json.gz"
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def weather_trades() -> list[dict[str, Any]]:
    folder = RECORDED / "polymarket_wallet_weather_2026"
    return [trade_from_v1(row, WEATHER) for row in rows_in(folder / "target-wallet-weather-trades.csv.gz")]


def enriched_trades() -> list[dict[str, Any]]:
    folder = RECORDED / "polymarket_wallet_weather_2026"
    return [trade_from_v1(row, WEATHER) for row in rows_in(folder / "target-wallet-enriched-trades.csv.gz")]


def milan_trades() -> list[dict[str, Any]]:
    path = RECORDED / "polymarket_wallet_weather_2026" / "target-wallet-milan-june-trades.json.gz"
    rows = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)
    return [trade_from_v1(row, WEATHER) for row in rows]


def beffer_trades() -> list[dict[str, Any]]:
    # the ledger names no condition; one per slug stands in for it
    renamed = [
        {
            **row,
            "conditionId": f"0x{abs(int.from_bytes(row['slug'].encode(), 'big')) % 16**64:064x}",
            "timestamp": row["ts"],
            "transactionHash": row["tx"],
        }
        for row in beffer()["BEFFER45_LEDGER_TRADES"]
    ]
    return [trade_from_v1(row, beffer()["BEFFER45_WALLET"]) for row in renamed]


@pytest.mark.parametrize(
    ("trades", "count"),
    [(weather_trades, 1766), (enriched_trades, 1766), (milan_trades, 5), (beffer_trades, 153)],
)
def test_a_recorded_wallet_is_ingested_whole_and_its_sums_agree(
    trades: Any, count: int, tmp_path: Path
) -> None:
    rows = trades()
    assert len(rows) == count
    wallet = rows[0]["proxy_wallet"]
    lake = lake_at(tmp_path)
    server = wallet_server({"/v2/activity": rows})
    (outcome,) = read_wallets(server, lambda reader: ingest_activity(reader, lake, [wallet], NONE, NOW))
    assert outcome.error is None
    assert outcome.coverage.complete
    stored = lake.read(ACTIVITY, wallet)
    assert stored.num_rows == count

    def signed(row: dict[str, Any], amount: Decimal) -> Decimal:
        return amount if row["side"] == "BUY" else -amount

    by_token: Counter[str] = Counter()
    for row in rows:
        by_token[row["token_id"]] += to_micro(signed(row, row["size"]), "half_even")
    assert net_contracts(stored, {}) == dict(by_token)
    paid = sum(signed(row, row["usdc_size"]) for row in rows)
    told = sum(
        cash if side == "buy" else -cash
        for side, cash in zip(stored["side"].to_pylist(), stored["cash"].to_pylist(), strict=True)
    )
    assert abs(Decimal(told) / MICRO - paid) <= Decimal(count) / (2 * MICRO)  # each is rounded once
    assert Counter(stored["tx"].to_pylist()) == Counter(row["transaction_hash"] for row in rows)


def test_the_published_cash_of_the_ledger_is_found_again(tmp_path: Path) -> None:
    summary = beffer()["BEFFER45_LEDGER_SUMMARY"]
    wallet = beffer()["BEFFER45_WALLET"]
    lake = lake_at(tmp_path)
    server = wallet_server({"/v2/activity": beffer_trades()})
    read_wallets(server, lambda reader: ingest_activity(reader, lake, [wallet], NONE, NOW))
    stored = lake.read(ACTIVITY, wallet).to_pylist()
    assert len(stored) == summary["trade_count"]
    for side in ("buy", "sell"):
        cash = Decimal(sum(row["cash"] for row in stored if row["side"] == side)) / MICRO
        assert abs(cash - Decimal(summary[f"{side}_notional"])) < Decimal("0.0001")


# positions


def recorded_positions() -> list[dict[str, Any]]:
    text = (V1 / "positions_closed_positions_2026-01.txt").read_text()
    blocks = re.findall(r"^\[\n.*?^\]", text, re.M | re.S)
    return [row for block in blocks for row in json.loads(block, parse_float=Decimal)]


def test_recorded_positions_open_and_closed_keep_their_profit(tmp_path: Path) -> None:
    recorded = recorded_positions()
    assert len(recorded) > 2
    wallet = recorded[0]["proxyWallet"]
    rows = [position_from_v1(row) for row in recorded]
    lake = lake_at(tmp_path)
    server = wallet_server({"/v2/positions": rows}, most=2)
    (outcome,) = read_wallets(server, lambda reader: ingest_positions(reader, lake, [wallet], NONE, NOW))
    assert outcome.error is None
    stored = {row["token_id"]: row for row in lake.read(POSITIONS, wallet).to_pylist()}
    assert set(stored) == {row["asset"] for row in recorded}
    for row in recorded:
        mine = stored[row["asset"]]
        assert mine["realised_pnl"] == to_micro(str(row["realizedPnl"]), "half_even")
        assert mine["bought"] == to_micro(str(row["totalBought"]), "half_even")
        assert mine["status"] == ("redeemable" if row.get("redeemable") else "closed")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nautilus_trades_sanitised.json", ActivityRow),
        ("wallet_trades_milan_june.json", ActivityRow),
        ("nautilus_positions.json", PositionRow),
    ],
)
def test_the_recorded_rows_themselves_are_refused_as_retired(name: str, kind: type) -> None:
    document = json.loads((V1 / name).read_text())
    rows = (
        document if isinstance(document, list) else next(v for v in document.values() if isinstance(v, list))
    )
    assert rows
    for row in rows:
        with pytest.raises(BadResponse, match=r"retired Data API v1 \(.*proxyWallet"):
            record(row, kind, "/v2/x")


# positions of many wallets: the election


def test_the_identities_of_the_election_wallets_hold_in_our_units() -> None:
    path = RECORDED / "polymarket_election2024_wallets" / "cleaned_wallet_betting.json.gz"
    rows = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)
    assert len(rows) == 1375
    apart = [
        row
        for row in rows
        if abs(
            Decimal(row["currentValue"])
            - Decimal(row["size"]) * Decimal(row["avgPrice"])
            - Decimal(row["cashPnl"])
        )
        > Decimal("0.000001") * (1 + Decimal(row["size"]))
    ]
    assert apart == []


@lru_cache(maxsize=1)
def election() -> list[dict[str, Any]]:
    """What the wallets held, in the form of v2; ids are made up, one per question and outcome."""
    path = RECORDED / "polymarket_election2024_wallets" / "cleaned_wallet_betting.json.gz"
    rows = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)
    return [
        {
            "proxy_wallet": row["wallet"],
            "condition_id": f"0x{sha256(row['title'].encode()).hexdigest()}",
            "token_id": str(int(sha256(f"{row['title']}{row['bettingPosition']}".encode()).hexdigest(), 16)),
            "current_size": row["size"],
            "avg_price": row["avgPrice"],
            "realized_pnl": 0,
            "status": "REDEEMABLE",
            "outcome_index": 999,
            "total_size": row["size"],
        }
        for row in rows
    ]


def test_every_position_of_the_election_wallets_is_read_to_the_millionth() -> None:
    rows = election()
    assert len(rows) == 1375
    read = {}
    for condition in {row["condition_id"] for row in rows}:
        own = [row for row in rows if row["condition_id"] == condition]
        server = wallet_server({"/v2/positions": own})

        async def ask(reader: WalletReader, condition: str = condition) -> Held:
            return await reader.positions_in(condition, NONE)

        held = read_wallets(server, ask)
        assert held.combos == 0
        assert as_table(POSITIONS, held.rows, ts=NOW, known_at=NOW, ingested_at=NOW).num_rows == len(own)
        read.update({(row["wallet"], row["token_id"]): row for row in held.rows})
    assert len(read) == len(rows)
    for row in rows:
        mine = read[row["proxy_wallet"], row["token_id"]]
        assert mine["size"] == to_micro(row["current_size"], "half_even")
        assert mine["avg_price"] == to_micro(row["avg_price"], "half_even")


# leaderboards


def test_every_reading_of_a_recorded_day_is_stored_whole(tmp_path: Path) -> None:
    lake, stored = lake_at(tmp_path), Counter[str]()
    folder = RECORDED / "polymarket_crypto_leaderboard_2026" / "wallets"
    for path in sorted(folder.glob("leaderboard_*.csv.gz")):
        recorded: dict[str, dict[str, dict[str, str]]] = {}
        for row in rows_in(path):
            recorded.setdefault(row["timestamp_utc"], {})[row["address"]] = row
        for stamp, told in sorted(recorded.items()):
            ranked = sorted(told.values(), key=lambda row: (-Decimal(row["pnl"]), row["address"]))
            rows = [
                leader(n, row["address"], pnl=Decimal(row["pnl"]), volume=Decimal(row["vol"]))
                for n, row in enumerate(ranked, 1)
            ]
            now = parse_time(stamp)

            async def read(reader: WalletReader, day: str = day_of(now), top: int = len(rows)) -> Any:
                return await ingest_leaderboard(
                    reader, lake, day, top=top, periods=[Period.MONTH], orders=[RankedBy.PNL]
                )

            assert read_wallets(wallet_server({"/v2/leaderboard": rows}, now=now), read).error is None
            stored[day_of(now)] += len(rows)
    assert len(stored) == 14
    assert {day: lake.read(LEADERBOARD, day).num_rows for day in stored} == dict(stored)


def boards() -> Iterable[tuple[str, list[dict[str, str]]]]:
    folder = RECORDED / "polymarket_crypto_leaderboard_2026" / "wallets"
    for path in sorted(folder.glob("leaderboard_*.csv.gz")):
        rows = rows_in(path)
        first = rows[0]["timestamp_utc"]
        yield first, [row for row in rows if row["timestamp_utc"] == first]


def test_recorded_leaderboards_are_added_day_by_day_and_known_when_they_were_read(tmp_path: Path) -> None:
    lake = lake_at(tmp_path)
    leaders_of: list[tuple[int, str]] = []
    for stamp, recorded in boards():
        ranked = sorted(recorded, key=lambda row: (-Decimal(row["pnl"]), row["address"]))
        unique = list({row["address"]: row for row in ranked}.values())
        rows = [
            leader(n, row["address"], pnl=Decimal(row["pnl"]), volume=Decimal(row["vol"]))
            for n, row in enumerate(unique, 1)
        ]
        now = parse_time(stamp)
        server = wallet_server({"/v2/leaderboard": rows}, now=now)

        async def read(reader: WalletReader, day: str = day_of(now), top: int = len(rows)) -> Any:
            return await ingest_leaderboard(
                reader, lake, day, top=top, periods=[Period.MONTH], orders=[RankedBy.PNL]
            )

        outcome = read_wallets(server, read)
        assert outcome.error is None
        stored = lake.read(LEADERBOARD, day_of(now))
        assert stored.num_rows == len(rows)
        assert sum(stored["pnl"].to_pylist()) == pytest.approx(
            float(sum(Decimal(row["pnl"]) for row in unique)) * MICRO, rel=1e-9
        )
        leaders_of.append((now, rows[0]["user_id"]))
    assert len(leaders_of) == 14
    for n, (now, first) in enumerate(leaders_of):
        found = leaders_known_at(lake, now, Period.MONTH, RankedBy.PNL)
        assert found is not None
        assert found["wallet"][0].as_py() == first
        before = leaders_known_at(lake, now - 1, Period.MONTH, RankedBy.PNL)
        assert (None if before is None else before["wallet"][0].as_py()) == (
            leaders_of[n - 1][1] if n else None
        )
