"""The machine code of a package: where it is kept, and how it is loaded."""

import subprocess
import sys
from pathlib import Path

from pm_pipeline.engine.kernel.cache import cache_folder
from pm_pipeline.engine.points import warm

LOADS = """
import sys
from pm_pipeline.engine.points import warm
told = []
warm(told.append)
print(told, "numba.np.arraymath" in sys.modules, "scipy.linalg" in sys.modules)
"""


def test_other_sources_have_another_folder(tmp_path: Path) -> None:
    package = tmp_path / "sums"
    package.mkdir()
    (package / "one.py").write_text("A = 1")
    before = cache_folder(package)
    assert before.name.startswith("sums-")
    (package / "one.py").write_text("A = 2")
    cache_folder.cache_clear()
    try:
        assert cache_folder(package) != before
    finally:
        cache_folder.cache_clear()


def test_what_was_compiled_before_is_loaded_without_making_numba_ready_to_compile() -> None:
    warm()
    done = subprocess.run([sys.executable, "-c", LOADS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]", "False", "False"]
