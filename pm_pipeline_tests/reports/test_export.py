import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from pm_pipeline.reports.export import write_trades_csv, write_trades_json
from pm_pipeline.reports.files import replacing
from pm_pipeline.warehouse.schema import table
from pm_pipeline_tests.reports.sample import rows, trip

TRIPS = rows(
    "backtest.trips",
    [
        trip(
            entered_at=datetime(2026, 7, 24, 0, 0, 16, 250_000, UTC),
            cost=9_007_199_254_740_993,
            pnl=-1,
            p_hat=0.1,
            closing_price=None,
            group_key='a,"b"\nc',
        ),
        trip(payout=500_000, hindsight_close=True),
    ],
)


def test_csv_holds_exact_decimals_and_utc_times(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    write_trades_csv(path, [TRIPS, TRIPS.slice(1)])
    with path.open(newline="", encoding="utf-8") as file:
        first, second, third = csv.DictReader(file)
    assert list(first) == [column.name for column in table("backtest.trips").columns]
    assert first["cost"] == "9007199254.740993"
    assert first["pnl"] == "-0.000001"
    assert first["entered_at"] == "2026-07-24T00:00:16.250000Z"
    assert (first["p_hat"], first["closing_price"], first["hindsight_close"]) == ("0.1", "", "false")
    assert first["group_key"] == 'a,"b"\nc'
    assert (second["payout"], second["hindsight_close"]) == ("0.500000", "true")
    assert second == third


def test_json_keeps_money_as_text_and_the_rest_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "trades.json"
    write_trades_json(path, [TRIPS])
    first, second = json.loads(path.read_text(encoding="utf-8"))
    assert (first["cost"], first["pnl"]) == ("9007199254.740993", "-0.000001")
    assert (first["p_hat"], first["closing_price"], first["outcome_index"]) == (0.1, None, 0)
    assert (second["hindsight_close"], second["exited_at"]) == (True, "2025-01-02T00:00:00Z")


@pytest.mark.parametrize("tables", [[], [TRIPS.slice(0, 0)]])
def test_no_trades_are_an_empty_list_and_a_header(tmp_path: Path, tables: list[pa.Table]) -> None:
    write_trades_json(tmp_path / "t.json", tables)
    write_trades_csv(tmp_path / "t.csv", tables)
    assert json.loads((tmp_path / "t.json").read_text()) == []
    assert (tmp_path / "t.csv").read_text().count("\n") == 1


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "made" / "file"
    with replacing(path) as file:
        file.write(b"old")

    def fail() -> None:
        with replacing(path) as file:
            file.write(b"new")
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        fail()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_an_export_that_breaks_half_way_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    write_trades_csv(path, [TRIPS])
    before = path.read_bytes()
    with pytest.raises(KeyError):
        write_trades_csv(path, [TRIPS, TRIPS.drop_columns(["pnl"])])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["trades.csv"]
