"""Books that somebody else recorded: every layout, in every order, and what is refused."""

import gzip
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from pm_pipeline.errors import PipelineError, UsageError
from pm_pipeline.sources.book_log import BOOKS, Seam
from pm_pipeline.sources.errors import BadResponse
from pm_pipeline.sources.polymarket.books import ingest as books_module
from pm_pipeline.sources.polymarket.books.archives import Imported, hour_of, import_files, layout_of
from pm_pipeline.sources.polymarket.books.frames import parse
from pm_pipeline.sources.polymarket.books.ingest import Books, require_all
from pm_pipeline.warehouse.coverage import CoverageStatus, read_coverage
from pm_pipeline.warehouse.files import StorageError
from pm_pipeline.warehouse.lake import Lake
from pm_pipeline_tests.shared import needs_shared
from pm_pipeline_tests.sources.polymarket.books.test_frames import WS, book, change, recorded_frames, ticks
from pm_pipeline_tests.sources.polymarket.material import CONDITION, MARKET

KEY, TOKEN, OTHER = str(MARKET.key), "111", "222"
T0 = datetime(2026, 4, 17, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


V2 = pa.schema(
    [
        ("timestamp_received", pa.timestamp("ms", "UTC")),
        ("timestamp", pa.timestamp("ms", "UTC")),
        ("market", pa.binary(66)),
        ("event_type", pa.string()),
        ("asset_id", pa.string()),
        ("bids", pa.string()),
        ("asks", pa.string()),
        ("price", pa.decimal128(9, 4)),
        ("size", pa.decimal128(18, 6)),
        ("side", pa.string()),
        ("best_bid", pa.decimal128(9, 4)),
        ("best_ask", pa.decimal128(9, 4)),
        ("fee_rate_bps", pa.uint16()),
        ("transaction_hash", pa.string()),
        ("old_tick_size", pa.decimal128(9, 4)),
        ("new_tick_size", pa.decimal128(9, 4)),
    ]
)


def typed(seconds: float, kind: str, token: str = TOKEN, **columns: Any) -> dict[str, Any]:
    return {
        "timestamp_received": at(seconds + 0.1),
        "timestamp": at(seconds),
        "market": CONDITION.encode(),
        "event_type": kind,
        "asset_id": token,
        **columns,
    }


def typed_book(seconds: float, token: str = TOKEN, bids: str = '[["0.4","10"]]') -> dict[str, Any]:
    return typed(seconds, "book", token, bids=bids, asks='[["0.7","1"],["0.6","10"]]')


def typed_change(seconds: float, price: str = "0.4", size: str = "5", **columns: Any) -> dict[str, Any]:
    values = {"price": Decimal(price), "size": Decimal(size), "side": "BUY", **columns}
    return typed(seconds, "price_change", **values)


def packed(seconds: float, kind: str, token: str = TOKEN, **payload: Any) -> dict[str, Any]:
    data = {"update_type": kind, "market_id": CONDITION, "token_id": token, "side": "YES", **payload}
    return {
        "timestamp_received": at(seconds),
        "timestamp_created_at": at(seconds + 2),
        "market_id": CONDITION,
        "update_type": kind,
        "data": json.dumps({**data, "timestamp": at(seconds).timestamp()}),
    }


def parquet(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path)
    return path


def hour(folder: Path, number: int, *rows: dict[str, Any]) -> Path:
    return parquet(folder / f"polymarket_orderbook_2026-04-17T{number:02d}.parquet", rows, V2)


def bring(folder: Path, *paths: Path) -> tuple[Lake, Imported]:
    lake = Lake(folder / "lake", durability="rename")
    return lake, import_files(lake, paths, [MARKET], now=1_800_000_000_000_000_000)


def shown(lake: Lake) -> str:
    """Kind of each row; levels with price and size in cents and contracts."""
    words = []
    for row in lake.read(BOOKS, KEY).to_pylist():
        level = f"{row['side']}{row['price'] // 10_000}x{row['size'] // 1_000_000}" if row["side"] else ""
        words.append(level or row["kind"])
    return " ".join(words)


def test_a_typed_hour_becomes_the_book(tmp_path: Path) -> None:
    path = hour(
        tmp_path,
        12,
        typed_change(0),  # before any book: nobody knows what it changes
        typed_book(1),
        typed_change(2),
        typed_change(2, "0.39", "7"),
        typed(3, "last_trade_price", price=Decimal("0.4"), size=Decimal(1), side="SELL"),
        typed(4, "tick_size_change", new_tick_size=Decimal("0.001"), old_tick_size=Decimal("0.01")),
        typed_change(5),
        typed_book(6),
        typed_book(7, OTHER),
    )
    lake, imported = bring(tmp_path, path)
    assert shown(lake) == (
        "reset bid40x10 ask70x1 ask60x10 bid40x5 bid39x7 gap reset bid40x10 ask70x1 ask60x10 gap"
    )
    rows = lake.read(BOOKS, KEY).to_pylist()
    assert (rows[0]["ts"], rows[0]["known_at"]) == (at(1), at(1.1))
    assert rows[4]["seq"] == rows[5]["seq"] != rows[3]["seq"]  # one message of two levels
    [coverage] = read_coverage(lake, BOOKS, KEY)
    assert (coverage.status, coverage.rows, coverage.gaps) == (CoverageStatus.COMPLETE, 12, 2)
    assert coverage.source == "imported: PMXT Parquet"
    assert imported.messages == 6


def test_an_early_hour_has_the_time_of_its_recorder_only(tmp_path: Path) -> None:
    change_of = {"change_price": "0.4", "change_size": "5", "change_side": "buy"}
    rows = [
        packed(1, "book_snapshot", bids=[["0.4", "10"]], asks=[["0.6", "10"]]),
        packed(2, "price_change", **change_of),
        packed(2, "price_change", OTHER, **change_of),
    ]
    lake, _ = bring(tmp_path, parquet(tmp_path / "polymarket_orderbook_2026-04-14T08.parquet", rows))
    assert shown(lake) == "reset bid40x10 ask60x10 bid40x5 gap"
    assert {(row["ts"], row["known_at"]) for row in lake.read(BOOKS, KEY).to_pylist()} == {
        (at(1), at(1)),
        (at(2), at(2)),
    }


@pytest.mark.parametrize(
    ("hours", "gaps"),
    [
        ((12, 13), 1),
        ((13, 12), 1),  # whatever order they are named in
        ((12, 14), 2),  # an hour is missing
    ],
)
def test_a_book_goes_on_from_one_hour_to_the_next(hours: tuple[int, int], gaps: int, tmp_path: Path) -> None:
    paths = {
        min(hours): hour(tmp_path, min(hours), typed_book(1), typed_change(2)),
        max(hours): hour(tmp_path, max(hours), typed_change(3700), typed_book(3800)),
    }
    lake, _ = bring(tmp_path, *(paths[number] for number in hours))
    assert shown(lake).split().count("gap") == gaps
    assert (shown(lake).split().count("bid40x5") == 2) is (gaps == 1)


def test_hours_that_come_later_are_added_and_the_same_again_changes_nothing(tmp_path: Path) -> None:
    late = hour(tmp_path, 14, typed_book(7201), typed_change(7202))
    early = hour(tmp_path, 12, typed_book(1), typed_change(2))
    lake, _ = bring(tmp_path, late)
    bring(tmp_path, early)
    once = lake.read(BOOKS, KEY)
    assert shown(lake).split().count("gap") == 2
    bring(tmp_path, late)
    bring(tmp_path, early)
    assert lake.read(BOOKS, KEY).equals(once)


def test_an_hour_that_holds_less_than_we_have_is_refused(tmp_path: Path) -> None:
    lake, _ = bring(tmp_path, hour(tmp_path, 12, typed_book(1), typed_change(2), typed_change(3)))
    before = lake.read(BOOKS, KEY)
    _, imported = bring(tmp_path, hour(tmp_path, 12, typed_book(1), typed_change(3)))
    with pytest.raises(PipelineError, match="1 of 1 markets were not written; their former rows stay"):
        require_all(imported.taken)
    [coverage] = read_coverage(lake, BOOKS, KEY)
    assert coverage.status is CoverageStatus.FAILED
    assert lake.read(BOOKS, KEY).equals(before)


def test_a_message_that_cannot_be_is_a_gap_with_its_reason(tmp_path: Path) -> None:
    path = hour(tmp_path, 12, typed_book(1), typed_change(2, "1.5"), typed_change(3), typed_book(4))
    lake, _ = bring(tmp_path, path)
    assert shown(lake).split().count("gap") == 2
    [coverage] = read_coverage(lake, BOOKS, KEY)
    assert "1 messages could not be read and are gaps; first:" in coverage.reason


@pytest.mark.parametrize(
    "row",
    [
        typed_change(1, side=None),
        typed_book(1, bids="not JSON"),
        packed(1, "price_change", change_price="0.4"),
        {**packed(1, "price_change"), "data": "{"},
    ],
)
def test_a_row_of_another_form_ends_the_import_and_nothing_is_written(
    row: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "x.parquet"
    parquet(path, [row], None if "data" in row else V2)
    with pytest.raises(BadResponse, match="PMXT"):
        bring(tmp_path, path)
    assert Lake(tmp_path / "lake").partitions(BOOKS) == []


def test_an_unknown_layout_is_refused_by_the_names_that_are_missing(tmp_path: Path) -> None:
    path = parquet(tmp_path / "x.parquet", [{"timestamp_received": at(0), "data": "{}", "price": 1}])
    with pytest.raises(UsageError) as refused:
        bring(tmp_path, path)
    assert "PMXT v1 needs update_type too" in str(refused.value)
    assert "PMXT v2 needs timestamp, event_type, asset_id" in str(refused.value)
    assert layout_of(path, V2.names).name == "PMXT v2"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.parquet", b"PAR1 no", "is no Parquet file"),
        ("x.csv", b"a,b", "is none of"),
        ("x.jsonl", b'{"received": 1, "msg": "..."}\n', "which has at, connection and text"),
    ],
)
def test_a_file_of_another_form_is_refused(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        bring(tmp_path, path)
    with pytest.raises(UsageError, match="is a folder: name the files in it"):
        bring(tmp_path, tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        bring(tmp_path, tmp_path / "none.jsonl")


FRAMES = [book(10, token=TOKEN), change(20, "BUY0.4x5", token=TOKEN), change(30, "BUY0.4x6", token=TOKEN)]
OURS = [
    {"at": 1_750_000_000_000_000_000, "connection": 1, "what": "open", "tokens": [TOKEN]},
    *({"at": 1_750_000_000_050_000_000, "connection": 1, "text": json.dumps(frame)} for frame in FRAMES),
    {"at": 1_750_000_000_060_000_000, "connection": 1, "what": "stop", "tokens": [TOKEN]},
]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst"])
@pytest.mark.parametrize("ours", [True, False])
def test_lines_of_frames_are_read_plain_or_compressed(suffix: str, ours: bool, tmp_path: Path) -> None:
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in (OURS if ours else FRAMES))
    compress: Any = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": zstandard.compress}[suffix]
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(compress(lines))
    lake, _ = bring(tmp_path, path)
    assert shown(lake) == "reset bid40x10 ask60x10 bid40x5 bid40x6 gap"
    known = lake.read(BOOKS, KEY)["known_at"].to_pylist()
    assert len(set(known)) == (2 if ours else 3)  # bare frames do not say when they came


def test_a_line_that_is_cut_is_a_gap_and_one_of_a_recorder_is_named(tmp_path: Path) -> None:
    bare, ours = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    bare.write_text("\n".join([json.dumps(FRAMES[0]), json.dumps(FRAMES[1])[:40], "", json.dumps(FRAMES[2])]))
    lake, _ = bring(tmp_path, bare)
    assert shown(lake) == "reset bid40x10 ask60x10 gap"
    ours.write_text(json.dumps(OURS[0]) + '\n{"at"')
    with pytest.raises(UsageError, match=r"b\.jsonl, line 2"):
        bring(tmp_path, ours)


def test_a_file_that_ends_too_early_is_an_error_and_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(FRAMES[0]).encode() * 500)[:-20])
    with pytest.raises(StorageError, match="nothing was imported"):
        bring(tmp_path, path)
    assert Lake(tmp_path / "lake").partitions(BOOKS) == []


def test_a_market_of_which_no_book_came_has_a_reason_and_no_rows(tmp_path: Path) -> None:
    lake, imported = bring(tmp_path, hour(tmp_path, 12, typed_change(1)))
    [taken] = imported.taken
    assert (taken.coverage.status, taken.coverage.reason) == (CoverageStatus.EMPTY, "no whole book came")
    assert not lake.exists(BOOKS, KEY)


def test_rows_beyond_what_memory_may_hold_go_through_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [book(0, token=TOKEN), *(change(n, f"BUY0.4x{n}", token=TOKEN) for n in range(1, 400))]
    stored = []
    for held in (10, 1_000_000):
        lake = Lake(tmp_path / str(held), durability="rename")
        monkeypatch.setattr(books_module, "_STEP", 7)
        with Books(lake, [MARKET], held=held) as books:
            for frame in frames:
                for event in parse(json.dumps(frame)):
                    books.apply(event, None)
            [taken] = books.write("test", Seam.BROKEN, 1)
        assert taken.coverage.rows == 402
        stored.append(lake.read(BOOKS, KEY))
        assert not list(lake.root.glob(".tmp-*"))
    assert stored[0].equals(stored[1])


def test_a_tick_change_ends_the_book_until_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    frames = [FRAMES[0], ticks(15, TOKEN), FRAMES[1], book(40, token=TOKEN)]
    path.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
    lake, _ = bring(tmp_path, path)
    assert shown(lake) == "reset bid40x10 ask60x10 gap reset bid40x10 ask60x10 gap"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("polymarket_orderbook_2026-04-17T12.parquet", "2026-04-17T12:00:00Z"),
        ("x.parquet", None),
        ("20260417T120000.000000000Z.jsonl.zst", None),
    ],
)
def test_an_hour_is_read_off_a_name(name: str, text: str | None) -> None:
    from pm_pipeline.markets.clock import format_time

    found = hour_of(Path(name))
    assert (None if found is None else format_time(found)) == text


LINES = b"".join(
    json.dumps(frame).encode() + b"\n"
    for frame in (
        book(1, token=TOKEN),
        *(change(n, f"BUY0.4x{n * 37 % 1000}", token=TOKEN) for n in range(2, 900)),
    )
)
PACKED = {
    ".gz": gzip.compress(LINES),
    ".zst": b"".join(zstandard.compress(LINES[at : at + 9000]) for at in range(0, len(LINES), 9000)),
}


@pytest.mark.parametrize("suffix", PACKED)
@pytest.mark.parametrize("damage", ["none", "half", "last byte", "a block"])
def test_a_file_that_is_cut_or_damaged_imports_nothing(suffix: str, damage: str, tmp_path: Path) -> None:
    whole = PACKED[suffix]
    spoiled = {
        "none": whole,
        "half": whole[: len(whole) // 2],
        "last byte": whole[:-1],
        "a block": whole[:40] + bytes(byte ^ 0xFF for byte in whole[40:60]) + whole[60:],
    }[damage]
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(spoiled)
    if damage == "none":
        lake, imported = bring(tmp_path, path)
        assert (imported.messages, lake.read(BOOKS, KEY).num_rows) == (899, 3 + 898 + 1)
        return
    with pytest.raises(StorageError, match=r"cannot be read to its end .*; nothing was imported"):
        bring(tmp_path, path)
    assert not Lake(tmp_path / "lake").exists(BOOKS, KEY)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_stamp_means_the_same_in_every_unit(unit: str, tmp_path: Path) -> None:
    rows = pa.Table.from_pylist([typed_book(1), {**typed_change(3), "timestamp_received": at(4)}], V2)
    for name in ("timestamp", "timestamp_received"):
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, name, rows[name].cast(pa.timestamp(unit, "UTC"), safe=False))
    pq.write_table(rows, tmp_path / "x.parquet")
    lake, _ = bring(tmp_path, tmp_path / "x.parquet")
    last = lake.read(BOOKS, KEY).to_pylist()[4]
    assert (last["ts"], last["known_at"], last["size"]) == (at(3), at(4), 5_000_000)


@pytest.mark.parametrize("again", ["the same file", "an overlapping one"])
def test_hours_that_overlap_tell_each_message_once(again: str, tmp_path: Path) -> None:
    first = hour(tmp_path, 12, typed_book(1), typed_change(2), typed_change(3))
    (tmp_path / "other").mkdir()
    second = hour(tmp_path / "other", 12, typed_book(2), typed_change(3), typed_change(4), typed_book(5))
    lake, _ = bring(tmp_path, first, first if again == "the same file" else second)
    whole = "reset bid40x10 ask70x1 ask60x10 bid40x5 bid40x5 gap"
    later = "" if again == "the same file" else " reset bid40x10 ask70x1 ask60x10 gap"
    assert shown(lake) == whole + later
    times = lake.read(BOOKS, KEY)["ts"].to_pylist()
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (
            typed(2, "price_changes", price=Decimal("0.4"), size=Decimal(5), side="BUY"),
            "event_type 'price_ch",
        ),
        (packed(2, "snapshot", TOKEN, bids=[], asks=[]), "update_type 'snapshot'"),
    ],
)
def test_an_unknown_kind_of_row_is_refused_by_its_name(
    row: dict[str, Any], name: str, tmp_path: Path
) -> None:
    path = parquet(tmp_path / "x.parquet", [row], V2 if "event_type" in row else None)
    with pytest.raises(BadResponse, match=name):
        bring(tmp_path, path)


@needs_shared
def test_a_recorded_game_is_imported_with_each_book_as_the_last_word(tmp_path: Path) -> None:
    [path] = WS.glob("signaldrift_l2_20250619_mlb-laa-nyy*.csv.gz")
    game = list(recorded_frames(path))
    names = dict(zip(dict.fromkeys(token for token, _, _ in game), (TOKEN, OTHER), strict=True))
    lines = tmp_path / "game.jsonl"
    with lines.open("w") as file:
        for token, _, frame in game:
            file.write(json.dumps(frame).replace(token, names[token]) + "\n")
    lake, _ = bring(tmp_path, lines)
    rows = lake.read(BOOKS, KEY).to_pylist()
    books_sent = sum(kind == "book" and names[token] == TOKEN for token, kind, _ in game)
    assert sum(row["kind"] == "reset" for row in rows) == books_sent
    assert [row["kind"] for row in rows].count("gap") == 1
    [coverage] = read_coverage(lake, BOOKS, KEY)
    assert coverage.reason == ""
