from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance import InstanceRef

from pm_pipeline.config import Settings
from pm_pipeline.defs import storage
from pm_pipeline.defs.storage import WarmSqliteEventLog, WarmSqliteStorage

WARM = """
storage:
  custom:
    module: pm_pipeline.defs.storage
    class: WarmSqliteStorage
    config:
      base_dir: {env: DAGSTER_HOME}
telemetry:
  enabled: false
"""


@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b", "c"]))
def numbers() -> None: ...


def run(instance: dg.DagsterInstance, key: str) -> str:
    result = dg.materialize([numbers], partition_key=key, instance=instance)
    assert result.success
    return result.run_id


def events(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    return [str(entry.dagster_event_type) for entry in instance.all_logs(run_id) if entry.is_dagster_event]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    return tmp_path


def test_dagsters_own_class_reads_what_the_warm_one_wrote_and_the_other_way_round(home: Path) -> None:
    (home / "dagster.yaml").write_text(WARM)
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, WarmSqliteEventLog)
        first = run(instance, "a")
        told = events(instance, first)
        assert "DagsterEventType.ASSET_MATERIALIZATION" in told
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    with dg.DagsterInstance.get() as instance:
        assert not isinstance(instance.event_log_storage, WarmSqliteEventLog)
        assert events(instance, first) == told
        assert instance.get_materialized_partitions(dg.AssetKey("numbers")) == {"a"}
        second = run(instance, "b")
    (home / "dagster.yaml").write_text(WARM)
    with dg.DagsterInstance.get() as instance:
        assert events(instance, first) == told
        assert len(events(instance, second)) == len(told)
        assert instance.get_materialized_partitions(dg.AssetKey("numbers")) == {"a", "b"}


def test_few_database_files_stay_open_and_none_is_lost(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "KEPT_ENGINES", 2)
    (home / "dagster.yaml").write_text(WARM)
    with dg.DagsterInstance.get() as instance:
        log = instance.event_log_storage
        assert isinstance(log, WarmSqliteEventLog)
        runs = [run(instance, key) for key in ("a", "b", "c")]
        assert len(log._engines) == 2
        counts = {run_id: len(events(instance, run_id)) for run_id in runs}
        assert len(set(counts.values())) == 1
        log.dispose()
        assert not log._engines
        assert {run_id: len(events(instance, run_id)) for run_id in runs} == counts


def test_the_whole_storage_is_sqlite_under_one_home(home: Path) -> None:
    held = WarmSqliteStorage(str(home))
    assert isinstance(held.event_log_storage, WarmSqliteEventLog)
    assert (home / "history" / "runs").is_dir()


def test_without_a_home_the_records_lie_where_those_of_bt_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("PM_DATA_DIR", str(tmp_path / "data"))
    bare = WARM.replace("    config:\n      base_dir: {env: DAGSTER_HOME}\n", "")
    assert bare != WARM
    (tmp_path / "dagster.yaml").write_text(bare)
    passing = tmp_path / "passing"  # as Dagster's commands do where no home is named
    passing.mkdir()
    with dg.DagsterInstance.from_ref(
        InstanceRef.from_dir(str(passing), config_dir=str(tmp_path))
    ) as instance:
        run(instance, "a")
    home = Settings.from_environment().home / "dagster"
    (home / "dagster.yaml").write_text(WARM)
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with dg.DagsterInstance.get() as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("numbers")) == {"a"}
