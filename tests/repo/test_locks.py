"""The locks: complete, with hashes, and one set of versions for what is tested and what is shipped."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.txt", "requirements-dev.txt")


def pins(lock: str) -> dict[str, str]:
    """The version of each package of a lock."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.!+]+)", text, re.MULTILINE))


def declared(*groups: str) -> list[Requirement]:
    """What pyproject.toml asks for: the dependencies, all extras, and these dependency groups."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *(line for extra in extras.values() for line in extra)]
    wanted += [line for group in groups for line in project["dependency-groups"][group] if isinstance(line, str)]
    return [requirement for line in wanted if (requirement := Requirement(line)).name != "eventflow"]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_line_is_a_pin_with_hashes(lock: str) -> None:
    """A lock holds exact versions with SHA-256 hashes, and nothing else: no option, no address, no path."""
    joined = (ROOT / lock).read_text(encoding="utf-8").replace(" \\\n    ", " ")
    pin = re.compile(r"[\w.-]+==[\w.!+]+( ; [^#@]+?)?( --hash=sha256:[0-9a-f]{64})+")
    assert not [line for line in joined.splitlines() if not pin.fullmatch(line)]


@pytest.mark.parametrize(
    ("lock", "groups"), [("requirements.txt", ["build"]), ("requirements-dev.txt", ["build", "dev"])]
)
def test_the_lock_holds_what_the_project_asks_for(lock: str, groups: list[str]) -> None:
    """Every requirement in pyproject.toml has a pin that satisfies it; where not, `make lock` was forgotten."""
    versions = pins(lock)
    missing = [
        str(requirement)
        for requirement in declared(*groups)
        if not requirement.specifier.contains(versions.get(canonicalize_name(requirement.name), "0"))
    ]
    assert not missing


def test_what_is_shipped_is_what_is_tested() -> None:
    """Both locks agree on every version."""
    shipped, tested = (pins(lock) for lock in LOCKS)
    assert not {name: version for name, version in shipped.items() if tested.get(name) != version}
