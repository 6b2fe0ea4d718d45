"""What `eventflow sql` prints in a pipe: answers in turn, recipes, and how values become text."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eventflow.cli.answers import text_of
from eventflow.cli.main import main
from eventflow.log.cookbook import RECIPES
from eventflow.log.runs import create_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import RunStarted

DEADLINE_SECONDS = 60
FOREVER = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE (a.range * b.range) % 7 = 3;"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a run that began."""
    run = create_run(tmp_path / "store", stage="serial")
    with Recorder(run.log, run.run) as recorder:
        recorder.open_stream("run").record(RunStarted(stage="serial", workers=1))
    return tmp_path / "store"


class Piped:
    """`eventflow sql` in this process, with a text on standard input."""

    def __init__(self, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._store, self._capsys, self._monkeypatch = store, capsys, monkeypatch

    def __call__(self, text: str, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        self._monkeypatch.setattr(sys, "argv", ["eventflow", "sql", "--store", str(self._store), *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(exit_.value.code, int)
        return exit_.value.code, out, err


@pytest.fixture
def piped(store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Piped:
    """The command over the store."""
    return Piped(store, capsys, monkeypatch)


def test_statements_from_a_pipe_are_answered_in_turn(piped: Piped) -> None:
    """An empty line between two answers, JSON a line each; the first error ends it with status 2."""
    assert piped("SELECT 1 AS a; SELECT 2 AS b -- no more") == (0, "a\n1\n\nb\n2\n", "")
    _, out, _ = piped("SELECT 1 AS a;\nSELECT 2 AS b;\n", "--format", "json")
    assert list(map(json.loads, out.splitlines())) == [[{"a": 1}], [{"b": 2}]]
    status, out, err = piped("SELECT 1 AS a; SELECT nonsense; SELECT 3")
    assert (status, out, len(err.splitlines())) == (2, "a\n1\n\n", 1)
    assert piped("-- nothing\n")[0] == 2
    assert piped("", "SELECT 1 AS a; SELECT 2 AS b")[1] == "a\n1\n\nb\n2\n"


def test_parquet_takes_one_statement(piped: Piped, tmp_path: Path) -> None:
    """From a pipe too, and a semicolon does no harm."""
    path = tmp_path / "x.parquet"
    assert piped("FROM runs;\n", "--format", "parquet", "--out", str(path)) == (0, "", "")
    assert path.read_bytes()[:4] == b"PAR1"
    assert piped("FROM runs; FROM runs", "--format", "parquet", "--out", str(path))[0] == 2
    assert piped("FROM runs", "--format", "parquet")[0] == 2


def test_recipes_are_listed_and_answered(piped: Piped) -> None:
    """`--cookbook`, with a name or without."""
    _, out, _ = piped("", "--cookbook")
    assert [line.split("\t")[0] for line in out.splitlines()] == ["recipe", *(recipe.name for recipe in RECIPES)]
    status, out, _ = piped("", "--cookbook", "events-lost", "--format", "json")
    assert (status, len(json.loads(out))) == (0, 1)
    status, _, err = piped("", "--cookbook", "nothing")
    assert (status, err) == (2, "eventflow: there is no recipe 'nothing': `eventflow sql --cookbook` lists them\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (False, "false"),
        (0.000012345678, "1.23457e-05"),
        (999_999.75, "1000000"),
        (1_288_708.0, "1288708"),
        (float("inf"), "inf"),
        ({"id": [1, None]}, '{"id":[1,null]}'),
        ("two\nlines\tand \x1b[2J\x9b31m", "two\nlines\\tand \\x1b[2J\\x9b31m"),
    ],
)
def test_a_value_as_text(value: Any, text: str) -> None:
    """Whole numbers stay readable, lists are JSON, and nothing that came with a URL moves the cursor."""
    assert text_of(value) == text


def test_a_plan_is_shown_as_duckdb_drew_it(piped: Piped) -> None:
    """Without a frame around the frames."""
    _, out, _ = piped("EXPLAIN SELECT 42")
    assert out.startswith(("╭─", "┌─"))
    assert "\t" not in out


def test_a_query_of_the_command_itself_is_stopped_too(store: Path) -> None:
    """With the status of an interrupted command, and nothing else said."""
    command = [sys.executable, "-m", "eventflow", "sql", "--store", str(store), f"SELECT 1 AS first; {FOREVER}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        process.send_signal(2)
        _, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, err) == (130, "")
