"""The wheel: one file that holds all four packages and gives a working `eventflow`, away from the checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("eventflow", "instrumentation", "stages", "analysis")

# The tests' own packages, without their .pth files: the editable install of this checkout is one of those.
DEPENDENCIES_PTH = "test-dependencies.pth"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built without the network."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (found,) = folder.glob("eventflow-*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of a fresh virtual environment with the wheel in it."""
    folder = tmp_path_factory.mktemp("away from the checkout") / "venv"
    _run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    _run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel, cwd=folder.parent)
    dependencies = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    ours = subprocess.check_output(
        [sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(dependencies) / DEPENDENCIES_PTH).write_text(ours, encoding="utf-8")
    return folder / "bin"


def _run(*command: str | Path, cwd: Path) -> str:
    """What the command prints. Nothing of this process's Python settings reaches it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}
    result = subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, check=False, timeout=100)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    """Four packages, each with its `py.typed`, the licence, and no test, document or cache."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert not [name for name in names if "__pycache__" in name]


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    """No file of a package is forgotten, data files such as schemas and templates among them."""
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    ours = {str(path.relative_to(ROOT)) for path in files if "__pycache__" not in path.parts}
    assert not ours - names


def test_the_command_works_away_from_the_checkout(environment: Path, tmp_path: Path) -> None:
    """`eventflow --help` runs, and every package comes from the wheel."""
    assert "eventflow" in _run(environment / "eventflow", "--help", cwd=tmp_path)
    code = f"import json; print(json.dumps([__import__(name).__file__ for name in {PACKAGES!r}]))"
    places = [Path(place) for place in json.loads(_run(environment / "python", "-c", code, cwd=tmp_path))]
    assert all(place.is_relative_to(environment.parent) for place in places), places
    assert not any(place.is_relative_to(ROOT) for place in places), places


def test_the_module_runs_as_a_program(environment: Path, tmp_path: Path) -> None:
    """`python -m eventflow` is the same command."""
    assert "eventflow" in _run(environment / "python", "-m", "eventflow", "--help", cwd=tmp_path)
