"""The Makefile: it explains itself and says what is missing. What the targets do is seen in `.ci/run`."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Make = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make(tmp_path: Path, part: Callable[[str], Path]) -> Make:
    """Runs make on a copy of the Makefile, in a folder where nothing was installed."""
    program = part("make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [program, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def fake_python(tmp_path: Path) -> Callable[[str], str]:
    """Makes a program that stands for a Python in which the code with this text in it fails."""

    def make_program(text: str) -> str:
        path = tmp_path / "python"
        path.write_text(f'#!/bin/sh\ncase "$*" in *"{text}"*) exit 1;; esac\nexit 0\n', encoding="utf-8")
        path.chmod(0o755)
        return str(path)

    return make_program


def test_make_alone_lists_the_targets(make: Make) -> None:
    """`make` prints each target that people use, and does nothing."""
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert phony
    result = make()
    targets = set(phony[1].split()) - {"help"}
    assert {"demo", "test", "check", "bench", "clean"} <= targets
    assert targets == set(re.findall(r"^make (\w+)", result.stdout, re.MULTILINE))


def test_a_missing_venv_module_names_its_package(make: Make, fake_python: Callable[[str], str]) -> None:
    """Without python3-venv, one line says which Debian package to install, and nothing is left behind."""
    result = make("demo", f"PYTHON={fake_python('ensurepip')}")
    assert result.returncode != 0
    assert "apt install python3-venv" in result.stderr


def test_an_old_python_is_named(make: Make, fake_python: Callable[[str], str]) -> None:
    """A Python older than 3.11 is refused before anything is made."""
    result = make("test", f"PYTHON={fake_python('version_info')}")
    assert result.returncode != 0
    assert "Python 3.11 or later" in result.stderr


def test_a_missing_python_is_named(make: Make) -> None:
    """Where there is no Python at all, the Debian packages are named."""
    result = make("demo", "PYTHON=no-such-python")
    assert result.returncode != 0
    assert "apt install python3 python3-venv" in result.stderr
