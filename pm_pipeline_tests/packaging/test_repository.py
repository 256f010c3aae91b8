"""What may stand in the repository, and what may not."""

import re
import subprocess
import tempfile
import tomllib
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pm_pipeline_tests.processes import BIN, ROOT

# written in two parts, because this file is searched as well
REGISTRIES: Final = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("debian", "org"),
        ("files", "python"),
    )
)
PATHS: Final = (f"{ROOT.parent}/", f"{BIN}/", f"{Path.home()}/", f"{tempfile.gettempdir()}/")

in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this tree is no clone: nothing is tracked")


def git(*arguments: str) -> list[str]:
    """The lines that git answers; for a question with the answer no, none."""
    command = ["git", "-C", str(ROOT), "-c", "safe.directory=*", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.splitlines()


@in_git
def test_no_registry_and_no_path_of_a_machine_stands_in_a_file() -> None:
    files = git("ls-files", "--cached", "--others", "--exclude-standard")
    assert "pyproject.toml" in files
    found = [
        (name, word)
        for name in files
        if (ROOT / name).is_file()
        for word in (*REGISTRIES, *PATHS)
        if word.encode() in (ROOT / name).read_bytes()
    ]
    assert found == []


@in_git
@pytest.mark.parametrize(
    "path",
    [".venv/bin/bt", ".data/sandbox/warehouse.duckdb", ".coverage", ".coverage.host.1", ".env", "kalshi.pem",
     "pm_pipeline/__pycache__/cli.pyc", "pm_pipeline.egg-info/PKG-INFO", ".hypothesis/examples/x"],
)  # fmt: skip
def test_what_is_made_or_secret_is_ignored(path: str) -> None:
    assert git("check-ignore", path) == [path]


@in_git
def test_nothing_that_is_tracked_is_ignored() -> None:
    assert git("ls-files", "--cached", "--ignored", "--exclude-standard") == []


def pins() -> dict[str, str]:
    """Name and version of every line of constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_every_requirement_is_pinned_to_a_version_that_it_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = (project["dependencies"], *project["optional-dependencies"].values())
    wanted = [Requirement(text) for group in groups for text in group]
    pinned = pins()
    assert {canonicalize_name(requirement.name) for requirement in wanted} <= pinned.keys()
    assert all(r.specifier.contains(pinned[canonicalize_name(r.name)]) for r in wanted)
