import subprocess
import sys
from pathlib import Path

import pytest

from pm_pipeline.warehouse import LockTimeoutError, StorageError, file_lock
from pm_pipeline.warehouse.locks import LockMode, lock_path


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        ("shared", "shared", True),
        ("shared", "exclusive", False),
        ("exclusive", "shared", False),
        ("exclusive", "exclusive", False),
    ],
)
def test_only_shared_locks_go_together(
    tmp_path: Path, held: LockMode, wanted: LockMode, granted: bool
) -> None:
    path = tmp_path / "warehouse.duckdb"
    with file_lock(path, mode=held, timeout_s=0):
        if granted:
            with file_lock(path, mode=wanted, timeout_s=0):
                pass
        else:
            with (
                pytest.raises(LockTimeoutError, match=r"warehouse\.duckdb\.lock.*try again"),
                file_lock(path, mode=wanted, timeout_s=0.05),
            ):
                pass


def test_a_lock_is_free_again_after_its_block_and_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"

    def fail() -> None:
        with file_lock(path, mode="exclusive", timeout_s=0):
            raise KeyError("inside")

    with pytest.raises(KeyError):
        fail()
    with file_lock(path, mode="exclusive", timeout_s=0):
        assert lock_path(path).exists()


def test_a_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "file"
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time, pathlib\n"
            "from pm_pipeline.warehouse.locks import file_lock\n"
            "with file_lock(pathlib.Path(sys.argv[1]), mode='exclusive', timeout_s=0):\n"
            "    print('held', flush=True)\n"
            "    time.sleep(60)\n",
            str(path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LockTimeoutError), file_lock(path, mode="shared", timeout_s=0):
            pass
        child.kill()
        child.wait()
    with file_lock(path, mode="exclusive", timeout_s=5):
        pass


def test_a_lock_that_cannot_be_created_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match=r"cannot write .*below\.lock"),
        file_lock(tmp_path / "file" / "below", mode="shared", timeout_s=0),
    ):
        pass
