"""Reads Dockerfile, .dockerignore and docker-compose.yml as the engine would, as far as used here."""

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from pm_pipeline_tests.processes import ROOT

HEALTH_PORT: Final = "3000"
"""Where the webserver listens in its container."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction of a Dockerfile, and the folder in which it is carried out."""

    name: str
    text: str
    workdir: PurePosixPath

    @property
    def words(self) -> list[str]:
        """The arguments: a JSON list, or words of a shell."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)


def read_dockerfile(path: Path = ROOT / "Dockerfile") -> list[Step]:
    """The instructions, continued lines joined."""
    lines = (line for line in path.read_text().splitlines() if not line.startswith("#"))
    workdir, steps = PurePosixPath("/"), []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, text = line.strip().partition(" ")
        if name == "WORKDIR":
            workdir /= text
        if name:
            steps.append(Step(name, text.strip(), workdir))
    return steps


def environment(steps: list[Step]) -> dict[str, str]:
    """What ENV sets."""
    pairs = (word.partition("=") for step in steps if step.name == "ENV" for word in step.words)
    return {name: value for name, _, value in pairs}


def healthcheck(steps: list[Step]) -> list[str]:
    """The command that HEALTHCHECK runs."""
    [step] = [step for step in steps if step.name == "HEALTHCHECK"]
    return list(json.loads(step.text.partition("CMD ")[2]))


def copies(steps: list[Step]) -> Iterator[tuple[str, PurePosixPath]]:
    """What COPY takes from the context, and the path that it gets in the image."""
    for step in steps:
        if step.name == "COPY":
            *sources, target = step.words
            for source in sources:
                into = target.endswith("/")
                yield source, step.workdir / target / (PurePosixPath(source).name if into else "")


def is_sent(path: PurePosixPath, ignore: Path = ROOT / ".dockerignore") -> bool:
    """Whether a file of the repository is part of the build context: the last matching line decides."""
    sent = True
    for line in ignore.read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.parts if line.removeprefix("!").startswith("**/") else ()
        whole = any(fnmatch(str(parent), pattern) for parent in (path, *path.parents))
        if whole or any(fnmatch(part, pattern) for part in parts):
            sent = line.startswith("!")
    return sent


def read_compose(path: Path = ROOT / "docker-compose.yml") -> dict[str, Any]:
    """The compose file, its anchors resolved."""
    compose: dict[str, Any] = yaml.safe_load(path.read_text())
    return compose
