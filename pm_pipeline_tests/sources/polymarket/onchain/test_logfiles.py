"""Files of logs: every kind reads the same, and a file that cannot be right says why."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pm_pipeline.errors import UsageError
from pm_pipeline.markets.clock import SECOND
from pm_pipeline.sources.adapter import Window
from pm_pipeline.sources.polymarket.onchain.chain import LogFileError, tokens_of
from pm_pipeline.sources.polymarket.onchain.logfiles import files_of, logs_of, read_files
from pm_pipeline_tests.shared import SHARED, needs_shared
from pm_pipeline_tests.sources.polymarket import chain_material
from pm_pipeline_tests.sources.polymarket.chain_material import Order, match_logs
from pm_pipeline_tests.sources.polymarket.material import MARKET

LOGS = match_logs([Order("a", False, 0, 100, 30)], Order("t", True, 0, 100, 30))
ROWS: list[dict[str, Any]] = [msgspec.to_builtins(log) for log in LOGS]
TOKENS = tokens_of([MARKET])


def parquet(path: Path, *, binary: bool, time: str = "block_timestamp", typed: bool = False) -> None:
    def raw(text: str | None) -> Any:
        return None if text is None else bytes.fromhex(text[2:]) if binary else text

    seconds = [int(log.block_timestamp or "0x0", 16) for log in LOGS]
    columns: dict[str, Any] = {
        "address": [raw(log.address) for log in LOGS],
        "data": [raw(log.data) for log in LOGS],
        "transaction_hash": [raw(log.transaction_hash) for log in LOGS],
        "block_number": [int(log.block_number, 16) for log in LOGS],
        "log_index": [int(log.log_index, 16) for log in LOGS],
        time: pa.array([s * 1000 for s in seconds], pa.timestamp("ms", "UTC")) if typed else seconds,
        "chain_id": [137] * len(LOGS),
    }
    for n in range(4):
        columns[f"topic{n}"] = [raw(dict(enumerate(log.topics)).get(n)) for log in LOGS]
    pq.write_table(pa.table(columns), path)


def write(path: Path) -> None:
    lines = "\n".join(json.dumps(row) for row in ROWS) + "\n\n"
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.name == "list.json":
        path.write_text(json.dumps(ROWS))
    elif path.name == "answer.json":
        path.write_text(json.dumps({"id": 1, "result": ROWS}))
    elif path.name == "noted.json":
        path.write_text(json.dumps({"note": "x", "logs": ROWS}))
    elif path.name == "bytes.parquet":
        parquet(path, binary=True)
    elif path.name == "text.parquet":
        parquet(path, binary=False, time="timestamp")
    elif path.name == "typed.parquet":
        parquet(path, binary=True, typed=True)
    else:
        path.write_text(lines)


@pytest.mark.parametrize(
    "name",
    [
        *("logs.jsonl", "logs.ndjson", "logs.jsonl.gz", "list.json", "answer.json", "noted.json"),
        *("bytes.parquet", "text.parquet", "typed.parquet"),
    ],
)
def test_every_kind_of_file_reads_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write(path)
    events, span = read_files(files_of(path), TOKENS)
    assert (events.cash.tolist(), events.takes.tolist()) == ([30, 30], [False, True])
    second = chain_material.SECOND
    assert span == Window(second * SECOND, (second + 1) * SECOND)
    assert set(events.ts.tolist()) == {second}


def test_a_folder_is_all_its_files_and_a_match_may_lie_in_two(tmp_path: Path) -> None:
    (tmp_path / "1.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS[:1]))
    (tmp_path / "2.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS[1:]))
    (tmp_path / "notes.txt").write_text("not logs")
    files = files_of(tmp_path)
    assert [file.name for file in files] == ["1.jsonl", "2.jsonl"]
    events, _ = read_files(files, TOKENS)
    assert len(events) == 2


def test_without_logs_of_the_exchanges_there_is_no_span(tmp_path: Path) -> None:
    path = tmp_path / "logs.jsonl"
    path.write_text(json.dumps(ROWS[0] | {"address": "0x" + "1" * 40}))
    events, span = read_files([path], TOKENS)
    assert (len(events), span) == (0, Window(0, 0))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("logs.jsonl", "{", "cannot be read"),
        ("logs.jsonl", "[]", "object"),
        ("logs.jsonl", json.dumps({**ROWS[0], "data": 5}), "data"),
        (
            "logs.jsonl",
            json.dumps({k: v for k, v in ROWS[0].items() if k != "blockTimestamp"}),
            "blockTimestamp",
        ),
        ("logs.jsonl", json.dumps({**ROWS[0], "blockTimestamp": "soon"}), "blockTimestamp"),
        ("logs.jsonl", json.dumps({**ROWS[0], "removed": True}), "reorganisation"),
        ("logs.jsonl", "\n".join(json.dumps(r) for r in [ROWS[0], *ROWS]), "two logs"),
        ("logs.jsonl", "\n".join(json.dumps(r) for r in [ROWS[0], ROWS[2]]), "logs are missing"),
        ("logs.jsonl.gz", "not gzip", "cannot be read"),
        ("logs.json", "7", "array"),
        ("logs.parquet", "no parquet", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_right_is_named_with_the_reason(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(LogFileError, match=reason) as told:
        read_files([path], TOKENS)
    assert str(path) in str(told.value)


@pytest.mark.parametrize("place", [30, 200, -1])
def test_a_compressed_file_that_is_damaged_is_named(tmp_path: Path, place: int) -> None:
    path = tmp_path / "logs.jsonl.gz"
    whole = bytearray(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    path.write_bytes(whole[:-1] if place < 0 else whole[:place] + b"\xff" * 9 + whole[place + 9 :])
    with pytest.raises(LogFileError, match=re.escape(f"{path}: it cannot be read")):
        read_files([path], TOKENS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"topic2": None}, "lacks the column topic2"),
        ({"block_timestamp": None}, "lacks the column block_timestamp or timestamp"),
        ({"block_number": pa.array([-1, -1, -1])}, "block_number holds -1"),
        ({"data": pa.array([1, 2, 3])}, "data holds int"),
        ({"block_timestamp": pa.array([SECOND] * 3, pa.timestamp("s"))}, "times without a zone"),
    ],
)
def test_a_parquet_file_of_another_form_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "logs.parquet"
    parquet(path, binary=True)
    rows = pq.read_table(path)
    for name, values in change.items():
        rows = rows.drop_columns([name])
        rows = rows if values is None else rows.append_column(name, values)
    pq.write_table(rows, path)
    with pytest.raises(LogFileError, match=reason):
        list(logs_of(path))


@pytest.mark.parametrize("name", ["absent.jsonl", "notes.txt", "empty"])
def test_where_there_is_no_file_of_logs_the_kinds_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"\.jsonl"):
        files_of(tmp_path / name)


@needs_shared
def test_the_recorded_file_is_read_as_it_is() -> None:
    path = SHARED / "samples/polymarket/onchain/v2_order_filled_logs_2026-05-10.json"
    assert len(list(logs_of(path))) == 2
