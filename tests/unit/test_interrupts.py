"""Where a signal may raise, and where it waits."""

import importlib
import signal
import sys
import time
from pathlib import Path

import pytest

from eventflow.interrupts import Interrupts
from eventflow.story import Interrupted

MODULE = "import signal\nsignal.raise_signal(signal.SIGINT)\nhas_ended = True\n"


def test_an_import_is_not_cut_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import system calls back where an exception is printed and lost: the interrupt waits until it is through."""
    (tmp_path / "interrupted_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)

    def import_it() -> None:
        importlib.import_module("interrupted_module")
        time.sleep(10)

    with Interrupts(lambda: None, lambda: True), pytest.raises(Interrupted):
        import_it()
    assert sys.modules.pop("interrupted_module").has_ended


def test_elsewhere_it_raises_at_once() -> None:
    """In code that may be cut, the first signal raises, and tells."""
    heard = list[str]()
    with Interrupts(lambda: heard.append("signal"), lambda: True), pytest.raises(Interrupted):
        signal.raise_signal(signal.SIGTERM)
    assert heard == ["signal"]


WHOLE = """
import signal
from eventflow.interrupts import Interrupts
from eventflow.story import Interrupted

said = "nothing"
try:
    with Interrupts(lambda: None, lambda: True):
        signal.raise_signal(signal.SIGINT)
except Interrupted:
    said = "interrupted"
"""


def test_what_is_imported_as_a_whole_can_be_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that a module begins while it is imported: what encloses the run is not protected."""
    (tmp_path / "whole_module.py").write_text(WHOLE)
    monkeypatch.syspath_prepend(tmp_path)
    assert importlib.import_module("whole_module").said == "interrupted"
    del sys.modules["whole_module"]
