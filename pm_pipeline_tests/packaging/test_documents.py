"""What the documents tell people to type exists, and the examples are valid."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import click
import dagster as dg
import pytest
import yaml

from pm_pipeline.cli import main
from pm_pipeline.config import Settings
from pm_pipeline.definitions import resolve
from pm_pipeline.strategies import REGISTRY
from pm_pipeline.universe import Universe
from pm_pipeline_tests.processes import ROOT

DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLES: Final = sorted((ROOT / "examples").glob("*.yaml"))
TARGETS: Final = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
COMMENT: Final = re.compile(r"\s#\s.*")


def spoken(document: Path) -> Iterator[str]:
    """The lines of code blocks, and what stands between backticks in running text."""
    text = document.read_text()
    for block in re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        yield from (COMMENT.sub("", line) for line in block.splitlines())
    yield from re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def invocations(program: str) -> list[Any]:
    """Every call of a program that the documents show: its arguments, with the document as the id."""
    found = []
    for document in DOCUMENTS:
        for line in spoken(document):
            words = line.split()
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                words.pop(0)
            if words and words[0].rpartition("/")[2] == program:
                arguments = shlex.split(" ".join(words[1:]))
                found.append(pytest.param(arguments, id=f"{document.name}: {program} {' '.join(arguments)}"))
    return found


@pytest.mark.parametrize("arguments", invocations("make"))
def test_make_targets_of_the_documents_exist(arguments: list[str]) -> None:
    named = {word for word in arguments if "=" not in word}
    assert named <= set(TARGETS)
    assert {word.partition("=")[0] for word in set(arguments) - named} <= {"RECORDED", "ARGS", "PYTHON"}


@pytest.mark.parametrize("arguments", invocations("bt"))
def test_bt_commands_of_the_documents_can_be_parsed(arguments: list[str]) -> None:
    name, *rest = arguments
    if name.startswith("-"):
        return
    command = main.get_command(click.Context(main), name)
    assert command is not None, f"there is no command {name}"
    command.make_context(name, rest)  # raises for an option that does not exist


@pytest.mark.parametrize("arguments", invocations("dagster"))
def test_dagster_jobs_of_the_documents_exist(arguments: list[str]) -> None:
    options = dict(pairwise(arguments))
    if "-j" in options and options["-j"].isidentifier():
        assert resolve(options["-j"])
    assert (ROOT / options.get("-c", "README.md")).exists()


def test_the_documents_show_how_to_use_each_program() -> None:
    assert all(len(invocations(program)) > 1 for program in ("make", "bt"))
    assert invocations("dagster")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files_and_variables_are_settings(document: Path) -> None:
    text = document.read_text()
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        assert "://" in link or (document.parent / link).exists(), link
    known = {f"PM_{name.upper()}" for name in Settings.model_fields} | {"PM_RECORDED_DIR"}
    assert set(re.findall(r"\bPM_[A-Z]+(?:_[A-Z]+)*\b", text)) <= known


def test_every_target_is_explained_by_make_help() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert [line.split()[1] for line in shown.splitlines()] == TARGETS
    assert all(len(line.split()) > 3 for line in shown.splitlines())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_valid(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    if "ops" not in content:
        assert Universe.read(path).markets
        return
    assert dg.validate_run_config(resolve("backtest"), content)
    asked = content["ops"]["plan"]["config"]
    assert Universe.parse({"markets": asked["universe"]}, path.name).markets
    for name, params in asked["strategies"].items():
        REGISTRY.parse_params(name, params)
