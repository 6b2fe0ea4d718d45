"""The prompt of `eventflow sql`: what a line means, in this process; what a person sees, on a terminal of its own."""

import contextlib
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_toolkit.history import FileHistory, InMemoryHistory

from eventflow.cli import prompt
from eventflow.cli.answers import Format
from eventflow.cli.prompt import COMMANDS, MODES, Conversation, complete_command, is_whole, open_history, parse_command
from eventflow.log.cookbook import RECIPES
from eventflow.log.runs import create_run
from eventflow.log.views import VIEWS
from eventflow.recorder import Recorder
from eventflow.vocabulary import RunStarted

DEADLINE_SECONDS = 60
FOREVER = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE (a.range * b.range) % 7 = 3;"
BECOME_ITS_TERMINALS_OWNER = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
)


def record_run(store: Path, stage: str) -> None:
    """A run that began."""
    run = create_run(store, stage=stage)
    with Recorder(run.log, run.run) as recorder:
        recorder.open_stream("run").record(RunStarted(stage=stage, workers=1))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a run of the stage `serial`, and a place for the history of nobody else."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    record_run(tmp_path / "store", "serial")
    return tmp_path / "store"


class Talk:
    """A conversation in this process, and what it printed."""

    def __init__(self, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.remembered: list[str] = []
        self._conversation = Conversation(store, Format.TABLE, self.remembered.append)
        self._capsys = capsys

    def __call__(self, text: str) -> tuple[str, str]:
        """Standard output and error after this text."""
        assert self._conversation.answer(text)
        out, err = self._capsys.readouterr()
        return out, err

    def ends_with(self, text: str) -> bool:
        """Whether this text ends the conversation."""
        return not self._conversation.answer(text)

    def close(self) -> None:
        """Let go of the store."""
        self._conversation.close()


@pytest.fixture
def talk(store: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Talk]:
    """A conversation over the store."""
    with contextlib.closing(Talk(store, capsys)) as talk:
        yield talk


def test_enter_ends_a_statement_with_its_semicolon_or_a_command() -> None:
    """Anything else goes on in the next line."""
    for whole in ("", "  ", "FROM runs;", "FROM runs; -- all", ".views", ".views runs", "exit", "QUIT;", "help"):
        assert is_whole(whole), whole
    for part in ("FROM runs", "SELECT ';", "help me", "SELECT 1 /* ;", "SELECT\n.5"):
        assert not is_whole(part), part


def test_commands_are_read_with_their_argument() -> None:
    """Capitals, blanks and a semicolon do not matter."""
    assert parse_command("  .VIEWS  runs ; ") == (".views", "runs")
    assert parse_command("exit") == parse_command("Quit;") == parse_command(".exit") == (".quit", "")
    assert parse_command("FROM runs;") is None


def test_commands_and_their_arguments_are_completed() -> None:
    """The name first, then what it takes: a view, a recipe, a mode."""
    assert [found.text for found in complete_command(".")] == [command.name for command in COMMANDS]
    assert [(found.text, found.replaces) for found in complete_command(" .vi")] == [(".views", 3)]
    assert [found.text for found in complete_command(".views re")] == ["requests"]
    assert [found.text for found in complete_command(".mode ")] == list(MODES)
    assert [found.text for found in complete_command(".cookbook cost")] == ["cost-per-stage"]
    assert list(complete_command(".help ")) == list(complete_command(".views runs ")) == []


def test_statements_are_answered_in_turn_up_to_the_first_error(talk: Talk) -> None:
    """An error is one line that says what to do at a prompt, and the prompt goes on."""
    out, err = talk("SELECT 'first' AS a; SELECT nonsense; SELECT 'third' AS c;")
    assert "first" in out
    assert "third" not in out
    assert err.splitlines()[-1].startswith("the query failed (")
    assert err.endswith(": .views lists the views and their columns\n")
    assert talk("SELECT stage FROM runs;")[0] == "stage\nserial\n"
    assert "only SELECT" in talk("CREATE TABLE x AS FROM runs;")[1]


def test_help_names_every_command(talk: Talk) -> None:
    """And no line is wider than a small terminal."""
    out, _ = talk(".help")
    assert not [command.name for command in COMMANDS if command.name not in out]
    assert max(map(len, out.splitlines())) < 80


def test_views_and_their_columns_are_listed(talk: Talk) -> None:
    """What to ask for, without leaving."""
    assert [line.split("\t")[0] for line in talk(".views")[0].splitlines()[1:]] == [view.name for view in VIEWS]
    assert "peak_memory_bytes\tBIGINT" in talk(".views Runs")[0]
    assert talk(".views nothing") == ("", "there is no view 'nothing': .views lists them\n")


def test_modes_change_how_answers_are_printed(talk: Talk) -> None:
    """Until they are changed again."""
    assert talk(".mode")[0] == "table\n"
    answers = {}
    for mode in MODES:
        assert talk(f".mode {mode}") == ("", "")
        answers[mode], _ = talk("SELECT 1 AS a, 'x' AS bc;")
    assert answers == {
        "table": "a\tbc\n1\tx\n",
        "json": '[{"a":1,"bc":"x"}]\n',
        "csv": "a,bc\n1,x\n",
        "line": " a = 1\nbc = x\n",
    }
    assert "there is no mode 'parquet'" in talk(".mode parquet")[1]


def test_a_recipe_is_shown_answered_and_kept_for_editing(talk: Talk) -> None:
    """A recipe is a beginning: the arrow keys bring it back."""
    assert len(talk(".cookbook")[0].splitlines()) == len(RECIPES) + 1
    recipe = next(recipe for recipe in RECIPES if recipe.name == "events-lost")
    out, _ = talk(".cookbook events-lost")
    assert out.startswith(f"{recipe.statement};\n\nrun\t")
    assert talk.remembered == [f"{recipe.statement};"]
    assert talk(".cookbook nothing")[1] == "there is no recipe 'nothing': .cookbook lists them\n"


def test_refresh_shows_what_came_since(talk: Talk, store: Path) -> None:
    """One moment is looked at until then."""
    record_run(store, "threads")
    assert talk("SELECT count(*) AS n FROM runs;")[0] == "n\n1\n"
    assert re.match(r"2 runs in '.*', as of \d\d:\d\d:\d\d UTC", talk(".refresh")[0])
    assert talk("SELECT count(*) AS n FROM runs;")[0] == "n\n2\n"


def test_a_store_that_is_damaged_meanwhile_leaves_the_old_moment(talk: Talk, store: Path) -> None:
    """A refresh that fails says why, and what was seen before can still be asked."""
    (info,) = store.rglob("run.json")
    info.write_text("{")
    assert "run.json" in talk(".refresh")[1]
    assert talk("SELECT 1 AS a;")[0] == "a\n1\n"


def test_a_wrong_command_and_the_ways_to_leave(talk: Talk) -> None:
    """`.quit` and what people try for it."""
    assert talk(".tables")[1] == "there is no command '.tables': .help lists them\n"
    assert talk.ends_with(".quit")
    assert talk.ends_with("exit")


def test_only_the_beginning_of_a_long_answer_is_shown(talk: Talk) -> None:
    """With how to get all of it."""
    out, err = talk("SELECT range FROM range(1000) ORDER BY ALL;")
    assert out.splitlines()[-1] == str(prompt.ROWS_SHOWN_MAX - 1)
    assert f"only the first {prompt.ROWS_SHOWN_MAX} rows are shown: " in err


def test_an_empty_store_says_how_to_fill_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new user begins there."""
    with contextlib.closing(Conversation(tmp_path / "none", Format.TABLE, print)) as conversation:
        conversation.greet()
    out, _ = capsys.readouterr()
    assert "There is no run in" in out
    assert "`eventflow demo` makes some" in out
    assert max(map(len, out.splitlines()[1:])) < 80


def test_the_history_is_private_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mode 0600 whatever it was before, and the oldest entries go first."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(prompt, "HISTORY_BYTES_MAX", 1)
    path = tmp_path / "eventflow" / "sql_history"
    history = open_history()
    assert isinstance(history, FileHistory)
    for number in range(10_000):
        history.store_string(f"SELECT {number};\nFROM é;")
    path.chmod(0o644)
    again = open_history()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_size < 1 << 18
    kept = list(again.load_history_strings())
    assert kept[0] == "SELECT 9999;\nFROM é;"
    assert 1_000 < len(kept) < 10_000
    assert kept == [f"SELECT {number};\nFROM é;" for number in range(9999, 9999 - len(kept), -1)]


def test_without_a_place_for_it_the_history_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that cannot be written does not keep anybody from asking."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert isinstance(open_history(), InMemoryHistory)
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert isinstance(open_history(), FileHistory)
    assert (tmp_path / "home" / ".local" / "state" / "eventflow" / "sql_history").exists()


class Terminal:
    """`eventflow sql` as a person has it: on a terminal of its own, which Ctrl-C reaches."""

    def __init__(self, store: Path, **environment: str) -> None:
        try:
            self._leader, follower = pty.openpty()
        except OSError as missing:  # a container without /dev/pts
            pytest.skip(f"no terminal can be made here: {missing}")
        chosen = {"TERM": "xterm", "COLUMNS": "80", "LINES": "30", "PROMPT_TOOLKIT_NO_CPR": "1", **environment}
        command = [sys.executable, "-m", "eventflow", "sql", "--store", str(store)]
        self._process = subprocess.Popen(
            [sys.executable, "-c", BECOME_ITS_TERMINALS_OWNER, *command],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=os.environ | chosen,
            start_new_session=True,
        )
        os.close(follower)
        self._raw = b""
        self._seen = 0

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._leader, text.encode())

    def wait_for(self, wanted: str) -> str:
        """What is shown, up to this text; it was not there at the end of the last wait."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (place := self._text().find(wanted, self._seen)) < 0:
            if not select.select([self._leader], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{wanted!r} did not come: {self._text()[self._seen :]!r}")
            self._raw += os.read(self._leader, 65_536)
        begin, self._seen = self._seen, place + len(wanted)
        return self._text()[begin : self._seen]

    def wait_for_end(self) -> int:
        """The exit status."""
        with contextlib.suppress(OSError):  # what Linux says when the other side is closed
            while os.read(self._leader, 65_536):
                pass
        return self._process.wait(DEADLINE_SECONDS)

    def close(self) -> None:
        """End it, if it has not ended."""
        self._process.kill()
        self._process.wait()
        os.close(self._leader)

    def _text(self) -> str:
        """Without what moves the cursor or makes colours."""
        return re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[=>])", "", self._raw.decode(errors="replace"))


def test_a_person_asks_with_tab_and_finds_it_again_with_the_arrow_keys(store: Path, tmp_path: Path) -> None:
    """Tab shows columns and completes a name; the statement is there in the next session; Ctrl-D leaves."""
    with contextlib.closing(Terminal(store)) as terminal:
        assert "1 run in" in terminal.wait_for("sql>")
        terminal.type("FROM ru")
        terminal.wait_for("FROM ru")
        terminal.type("\t")
        terminal.wait_for("ns")
        terminal.type(" SELECT sta")
        terminal.wait_for("SELECT sta")
        terminal.type("\t")
        terminal.wait_for("started_at")
        terminal.wait_for("when it began")
        terminal.type("ge;\r")
        assert "┃ stage" in terminal.wait_for("serial")
        terminal.wait_for("1 row")
        terminal.wait_for("sql>")
        terminal.type("\x04")
        assert terminal.wait_for_end() == 0
    assert not list(store.rglob("*history*"))
    (history,) = (tmp_path / "state").rglob("sql_history")
    assert "+FROM runs SELECT stage;" in history.read_text()
    with contextlib.closing(Terminal(store)) as terminal:
        terminal.wait_for("sql>")
        terminal.type("\x1b[A")
        terminal.wait_for("FROM runs SELECT stage;")
        terminal.type("\r")
        terminal.wait_for("serial")
        terminal.wait_for("sql>")
        terminal.type(".quit\r")
        assert terminal.wait_for_end() == 0


def test_control_c_gives_up_a_line_and_stops_a_query_and_the_prompt_goes_on(store: Path) -> None:
    """It never ends the prompt, and the connection answers afterwards."""
    with contextlib.closing(Terminal(store)) as terminal:
        terminal.wait_for("sql>")
        terminal.type("SELECT\rnonsense")
        terminal.wait_for("nonsense")
        terminal.type("\x03")
        terminal.wait_for("sql>")
        terminal.type(f"{FOREVER}\r")
        terminal.wait_for("still working; Ctrl-C stops it")
        terminal.type("\x03")
        terminal.wait_for("stopped")
        terminal.wait_for("sql>")
        terminal.type("SELECT 6 *\r7;\r")
        terminal.wait_for("│ ")
        terminal.wait_for("42")
        terminal.wait_for("sql>")
        terminal.type("\x04")
        assert terminal.wait_for_end() == 0


def test_a_terminal_that_can_do_little_has_a_prompt_too(store: Path) -> None:
    """Without colours and cursor movements, as in an editor's shell."""
    with contextlib.closing(Terminal(store, TERM="dumb", NO_COLOR="1")) as terminal:
        terminal.wait_for("sql>")
        terminal.type("SELECT 6 * 7;\r")
        terminal.wait_for("42")
        terminal.wait_for("sql>")
        terminal.type(".quit\r")
        assert terminal.wait_for_end() == 0


def test_answers_that_are_too_wide_are_still_readable(store: Path) -> None:
    """A single row as lines; of several rows the columns that fit, with what to do for the others."""
    record_run(store, "threads")
    with contextlib.closing(Terminal(store)) as terminal:
        terminal.wait_for("sql>")
        terminal.type("FROM runs ORDER BY stage LIMIT 1;\r")
        terminal.wait_for("stage = serial")
        terminal.wait_for("1 row")
        terminal.wait_for("sql>")
        terminal.type("FROM runs;\r")
        shown = terminal.wait_for("columns fit: name the ones that you want")
        assert max(map(len, shown.splitlines()[1:])) <= 80
        assert "┃ stage" in shown


def test_other_commands_do_not_pay_for_the_prompt() -> None:
    """Neither prompt_toolkit nor DuckDB is imported before somebody asks."""
    check = "import sys, eventflow.cli.main; sys.exit(bool({'prompt_toolkit', 'duckdb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
