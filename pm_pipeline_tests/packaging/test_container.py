"""The image without an engine: what it copies, installs and runs, in a clean virtual environment."""

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath
from typing import Any, Final

import pytest

from pm_pipeline.config import Settings
from pm_pipeline_tests.packaging.container import (
    HEALTH_PORT,
    copies,
    environment,
    healthcheck,
    is_sent,
    read_compose,
    read_dockerfile,
)
from pm_pipeline_tests.processes import ROOT, free_port, running, wait_for

STEPS: Final = read_dockerfile()
COMPOSE: Final = read_compose()
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]


@pytest.mark.parametrize("source", [source for source, _ in copies(STEPS)])
def test_what_is_copied_exists_and_is_sent_to_the_engine(source: str) -> None:
    assert (ROOT / source).exists()
    assert is_sent(PurePosixPath(source))


@pytest.mark.parametrize(
    "path",
    [".git/config", ".venv/bin/bt", ".data/live/lake/x.parquet", ".env", "pm_pipeline_tests/shared.py",
     "pm_pipeline/__pycache__/cli.pyc", "pm_pipeline/engine/__pycache__/fees.pyc"],
)  # fmt: skip
def test_what_has_no_business_in_the_image_is_not_sent(path: str) -> None:
    assert not is_sent(PurePosixPath(path))


def test_package_data_is_sent() -> None:
    assert is_sent(PurePosixPath("pm_pipeline/markets/data/fees.csv"))


def test_commands_of_the_image_are_installed_by_its_dependencies() -> None:
    scripts = entry_points(group="console_scripts").names | {"python"}
    commands = [healthcheck(STEPS), *(step.words for step in STEPS if step.name == "CMD")]
    for service in SERVICES.values():
        commands += [service["command"]] if "command" in service else []
        commands += [service["healthcheck"]["test"][1:]] if "healthcheck" in service else []
    assert len(commands) == 4
    assert {command[0] for command in commands} <= scripts


def test_it_runs_as_a_user_without_privileges() -> None:
    user = [step.text for step in STEPS if step.name == "USER"][-1]
    created = [
        step.text
        for step in STEPS
        if step.name == "RUN" and f"useradd --create-home --uid 1000 {user}" in step.text
    ]
    assert user not in {"root", "0"}
    assert created
    names = [step.name for step in STEPS]
    assert names.index("USER") < names.index("CMD")


def test_volumes_hold_the_data_and_dagsters_home() -> None:
    env = environment(STEPS)
    kept = {env["PM_DATA_DIR"], env["DAGSTER_HOME"]}
    [volume] = [set(step.words) for step in STEPS if step.name == "VOLUME"]
    assert volume == kept
    for service in SERVICES.values():
        mounts = dict(mount.split(":")[:2] for mount in service["volumes"])
        assert {mounts[name] for name in COMPOSE["volumes"]} == kept
        for host, inside in mounts.items():
            if host.startswith("."):
                assert (ROOT / host).exists()
                assert PurePosixPath(inside) in [target for _, target in copies(STEPS)]


def test_variables_that_are_passed_on_are_settings_that_may_differ() -> None:
    known = {f"PM_{name.upper()}" for name in Settings.model_fields}
    for service in SERVICES.values():
        passed = set(service["environment"])
        assert passed <= known
        assert not passed & set(environment(STEPS))


def test_only_loopback_is_published_on_the_host() -> None:
    assert SERVICES["webserver"]["ports"] == [f"127.0.0.1:{HEALTH_PORT}:{HEALTH_PORT}"]
    assert [step.text for step in STEPS if step.name == "EXPOSE"] == [HEALTH_PORT]


@pytest.mark.slow
def test_the_image_can_be_built_and_its_commands_work(tmp_path: Path) -> None:
    """Build it in a folder: copy what is copied, install what is installed, start what is started."""
    root, venv = tmp_path / "image", tmp_path / "venv"
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PM_", "DAGSTER_", "PYTHON", "COV"))
    }
    env |= {
        name: str(inside(root, path)) for name, path in environment(STEPS).items() if path.startswith("/")
    }
    env["PATH"] = f"{venv / 'bin'}{os.pathsep}{env['PATH']}"

    def run(*command: str, cwd: Path) -> str:
        done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    for source, target in copies(STEPS):
        send(source, inside(root, target))
    installs = [step for step in STEPS if step.name == "RUN" and "pip install" in step.text]
    assert installs
    for step in installs:
        try:
            # bytecode is made here of what is imported, and not of everything that is installed
            run(*step.words, "--quiet", "--no-compile", cwd=inside(root, step.workdir))
        except AssertionError:
            if reaches_registry(venv, tmp_path):
                raise
            pytest.skip("no package registry can be reached from here")

    app = inside(root, STEPS[-1].workdir)
    installed = Path(run("python", "-c", "import pm_pipeline as p; print(p.__path__[0])", cwd=app).strip())
    assert installed.is_relative_to(venv)
    assert package_data(installed) == package_data(ROOT / "pm_pipeline")
    assert "Backtest prediction markets" in run("bt", "--help", cwd=app)
    assert {row["strategy"] for row in json.loads(run("bt", "strategies", "--json", cwd=app))} >= {
        "favourite"
    }
    run("dagster", "definitions", "validate", "-w", "workspace.yaml", cwd=app)
    chosen = ("-s", "favourite", "--platform", "kalshi", "--series", "KXHIGHNY", "--json")
    result = json.loads(run("bt", "backtest", *chosen, cwd=app).splitlines()[-1])
    assert Path(result["files"]["report.html"]).is_relative_to(
        inside(root, environment(STEPS)["PM_DATA_DIR"])
    )

    port = str(free_port())
    translated = {HEALTH_PORT: port, "0.0.0.0": "127.0.0.1"}
    server = [translated.get(word, word) for word in STEPS[-1].words]
    check = [word.replace(f":{HEALTH_PORT}/", f":{port}/") for word in healthcheck(STEPS)]
    assert subprocess.run(check, env=env, capture_output=True).returncode != 0  # nobody answers yet
    with running(server, env, tmp_path / "webserver.log", cwd=app):
        wait_for(
            "a healthy webserver", lambda: subprocess.run(check, env=env, capture_output=True).returncode == 0
        )
        daemon = SERVICES["daemon"]
        with running(daemon["command"], env, tmp_path / "daemon.log", cwd=app):
            alive = daemon["healthcheck"]["test"][1:]
            wait_for(
                "a healthy daemon",
                lambda: subprocess.run(alive, env=env, capture_output=True).returncode == 0,
            )


def reaches_registry(venv: Path, folder: Path) -> bool:
    """Whether a package registry answers: without one, nothing of the image can be installed."""
    download = ["-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "-d", str(folder), "click"]
    return subprocess.run([str(venv / "bin/python"), *download], capture_output=True).returncode == 0


def inside(root: Path, path: PurePosixPath | str) -> Path:
    """Where an absolute path of the image lies in the folder that stands for it."""
    return root / PurePosixPath(path).relative_to("/")


def send(source: str, target: Path) -> None:
    """COPY: a file, or what is in a folder, as far as it is sent to the engine."""
    whole = ROOT / source
    for path in [whole] if whole.is_file() else whole.rglob("*"):
        if path.is_file() and is_sent(PurePosixPath(path.relative_to(ROOT))):
            to = target / path.relative_to(whole)
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, to)


def package_data(package: Path) -> set[str]:
    """The files of a package that are neither modules nor compiled."""
    return {
        str(path.relative_to(package))
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in {".py", ".pyc"}
    }
