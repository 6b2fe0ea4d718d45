"""What every test has: a clean environment, a store of its own, and `part` for programs that are not Python packages.

A test that needs a program says so with `@pytest.mark.part("nginx")`, or asks the fixture: `part("nginx")` gives
its path. Where the program is missing the test is skipped with the command that installs it. EVENTFLOW_REQUIRE_PARTS=1
turns that into a failure for the parts that `.ci/run` installs, =all for the rest too: CI cannot pass by skipping.
"""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import hypothesis
import pytest

from eventflow.sources import SeededSources

# A shell that starts the tests in the background has them ignore Ctrl-C, and nohup a hang-up; so would what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Two busy cores make every deadline wrong; CI must give the same answer for the same commit.
hypothesis.settings.register_profile("eventflow", deadline=None, print_blob=True, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("eventflow")


class Part(NamedTuple):
    """A program that some tests run, and where it comes from: a Debian package, or else `tests/parts/build`.

    `always` is for the parts that `.ci/run` installs; the others are for machines where they were built.
    """

    program: str
    debian_package: str | None = None
    always: bool = False

    def how_to_get(self) -> str:
        """The command that installs it."""
        return f"apt install {self.debian_package}" if self.debian_package else f"tests/parts/build {self.program}"


PARTS = {
    part.program: part
    for part in (
        Part("chromedriver", "chromium-driver", always=True),
        Part("chromium", "chromium", always=True),
        Part("compose", always=True),
        Part("containerd", "containerd"),
        Part("curl", "curl", always=True),
        Part("etcd", "etcd-server"),
        Part("git", "git", always=True),
        Part("jaeger", always=True),
        Part("kubernetes"),
        Part("make", "make", always=True),
        Part("nginx", "nginx", always=True),
        Part("openssl", "openssl", always=True),
        Part("time", "time", always=True),
        Part("otelcol", always=True),
        Part("prometheus"),
    )
}


def parts_folder() -> Path:
    """Where `tests/parts/build` keeps what it made."""
    return Path(os.environ.get("EVENTFLOW_PARTS") or Path.home() / ".cache" / "eventflow-parts")


def find_part(name: str) -> Path | None:
    """The program: on PATH, in the folders of system programs (which plain users do not have on PATH), or built."""
    folders = [os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", str(parts_folder())]
    found = shutil.which(name, path=os.pathsep.join(folders))
    return Path(found) if found else None


def require_part(name: str) -> Path:
    """The path of a part; the running test is skipped, or failed (see the module), where it is missing."""
    part = PARTS[name]
    path = find_part(name)
    if path is not None:
        return path
    reason = f"{name} is not installed: {part.how_to_get()}"
    required = os.environ.get("EVENTFLOW_REQUIRE_PARTS", "")
    if required == "all" or (required == "1" and part.always):
        pytest.fail(f"{reason} (EVENTFLOW_REQUIRE_PARTS={required})", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Applies the marker `part`."""
    for mark in item.iter_markers("part"):
        for name in mark.args:
            require_part(name)


@pytest.fixture
def part() -> Callable[[str], Path]:
    """`part(name)` gives the path of a program that the test needs; see the module."""
    return require_part


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person or machine that runs the tests reaches them: store, proxy, colours, width."""
    for name in list(os.environ):
        settings = name.startswith("EVENTFLOW_") and name not in {"EVENTFLOW_PARTS", "EVENTFLOW_REQUIRE_PARTS"}
        proxy = name.lower().endswith("_proxy")
        if settings or proxy or name.startswith("OTEL_") or name in {"COLUMNS", "FORCE_COLOR", "LINES", "NO_COLOR"}:
            monkeypatch.delenv(name)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The path of an empty store; the folder does not exist yet."""
    return tmp_path / "store"


@pytest.fixture
def sources() -> SeededSources:
    """Time, ids and randomness that are the same in every run."""
    return SeededSources(seed=1)
