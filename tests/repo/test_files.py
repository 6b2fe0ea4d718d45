"""What no file of the repository holds, and the files that must be there."""

import re
from pathlib import Path

import pytest

from tests.conftest import PARTS

ROOT = Path(__file__).parents[2]
FOLDERS = (".ci", "analysis", "benchmarks", "docs", "eventflow", "instrumentation", "otel", "stages", "tests")
WANTED = (
    ".ci/run",
    ".editorconfig",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "docker-compose.otel.yml",
    "pyproject.toml",
    "requirements-dev.txt",
    "requirements.txt",
)
REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|(proxy|sum)\.golang\.org|registry\.(npmjs|k8s|hub)|(extra-)?index-url|--find-links"
)
MACHINE_PATH = re.compile(r"(?<![\w.:/-])/(work|root|home)/[\w.]")


def texts() -> dict[str, str]:
    """Every text file that is part of the repository, by its path."""
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if "__pycache__" not in path.parts]
    patterns = ("*.md", "*.toml", "*.txt", "*.yml", "*.yaml", "Makefile", ".editorconfig", ".gitignore")
    outside = [path for pattern in patterns for path in ROOT.glob(pattern)]
    found = {}
    for path in sorted([*inside, *outside]):
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content:
            found[str(path.relative_to(ROOT))] = content.decode("utf-8")
    return found


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    """Each line, with its place, in which the pattern is found. This file holds the patterns and is left out."""
    here = str(Path(__file__).relative_to(ROOT))
    return [
        f"{path}:{number}: {line.strip()[:100]}"
        for path, text in texts().items()
        if path != here
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("name", WANTED)
def test_the_file_is_there(name: str) -> None:
    """The files that people and programs look for are there, and not empty."""
    assert (ROOT / name).stat().st_size > 0


def test_no_registry_is_named() -> None:
    """Where packages come from is the reader's choice: no file names a registry's host."""
    assert not lines_with(REGISTRY)


def test_no_machine_path_is_named() -> None:
    """No file names a folder of the machine that it was written on."""
    assert not lines_with(MACHINE_PATH)


def test_ci_is_a_program() -> None:
    """`.ci/run` can be started as it is."""
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_ci_installs_the_parts_that_it_requires() -> None:
    """`.ci/run` installs from Debian, or builds, every part that EVENTFLOW_REQUIRE_PARTS=1 asks for."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    installed, built = (
        set(re.findall(rf"^{name}=\((.+)\)$", script, re.MULTILINE)[0].split())
        for name in ("debian_packages", "built_parts")
    )
    wanted = [part for part in PARTS.values() if part.always]
    assert not {part.debian_package for part in wanted if part.debian_package} - installed
    assert {part.program for part in wanted if not part.debian_package} == built


def test_the_changelog_has_this_version() -> None:
    """The version in pyproject.toml has its section in CHANGELOG.md."""
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert version
    assert f"## [{version[1]}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
