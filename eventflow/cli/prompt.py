"""The prompt of `eventflow sql`: statements and a few commands, typed one after the other over one store.

prompt_toolkit edits the line, keeps the history and shows what Tab finds; this module says what a line means. It is
imported only when a prompt is opened, since it takes a tenth of a second.

Invariants:
    nothing typed here ends the prompt but .quit and Ctrl-D: an error is one line, Ctrl-C ends a line or a query;
    the history is a file of the person's own, in their folder for such things, never in the store, and bounded.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.lexers import Lexer

from eventflow.cli.answers import Format, find_recipe, print_answer, print_recipes, text_of
from eventflow.cli.completion import Candidate, Words, complete, read_words
from eventflow.cli.output import print_table, status_console
from eventflow.cli.statements import all_in, is_finished, tokens
from eventflow.errors import EventflowError, UsageError, name_of
from eventflow.log.cookbook import RECIPES
from eventflow.log.runs import list_runs
from eventflow.log.sql import connect
from eventflow.log.views import VIEWS

ROWS_SHOWN_MAX = 100
HISTORY_BYTES_MAX = 1 << 18
MODES = (Format.TABLE, Format.JSON, Format.CSV, Format.LINE)

_ADVICE = "add a WHERE or LIMIT; `eventflow sql --format csv` gives all"
_STYLES = {"keyword": "bold", "string_const": "ansigreen", "numeric_const": "ansicyan", "comment": "ansibrightblack"}
_PLAIN_WORDS = {"help": ".help", "quit": ".quit", "exit": ".quit", ".exit": ".quit"}


class Command(NamedTuple):
    """A command of the prompt: what is typed, what it does, and what its argument may be."""

    name: str
    argument: str
    about: str
    choices: tuple[str, ...] = ()


COMMANDS = (
    Command(".help", "", "these lines"),
    Command(".views", "[VIEW]", "the views, or the columns of one", tuple(view.name for view in VIEWS)),
    Command(".cookbook", "[NAME]", "questions with their answers, or one of them", tuple(r.name for r in RECIPES)),
    Command(".mode", "[MODE]", f"how answers are printed: {', '.join(MODES)}", MODES),
    Command(".refresh", "", "look again: see what was recorded since"),
    Command(".quit", "", "leave; Ctrl-D does too"),
)


def parse_command(text: str) -> tuple[str, str] | None:
    """The command that a text is, and its argument; None if it is SQL. The three plain words are what people try.

    >>> parse_command(" .views runs; "), parse_command("exit"), parse_command("FROM runs")
    (('.views', 'runs'), ('.quit', ''), None)
    """
    words = text.strip().rstrip(";").split()
    if not words or not (words[0].startswith(".") or (len(words) == 1 and words[0].lower() in _PLAIN_WORDS)):
        return None
    return _PLAIN_WORDS.get(words[0].lower(), words[0].lower()), " ".join(words[1:])


def is_whole(text: str) -> bool:
    """Whether Enter ends the text rather than the line: it is empty, a command, or a statement with its `;`."""
    return not text.strip() or parse_command(text) is not None or is_finished(text)


def complete_command(before: str) -> Iterator[Candidate]:
    """What a command that is being typed can go on with: its name, then its argument."""
    words = before.lstrip().split(" ")
    if len(words) == 1:
        found = [(command.name, command.about) for command in COMMANDS]
    else:
        found = [(choice, "") for command in COMMANDS if command.name == words[0] for choice in command.choices]
    typed = words[-1]
    if len(words) <= 2:
        yield from (Candidate(text, len(typed), about) for text, about in found if text.startswith(typed))


def bounded(history: bytes, bytes_max: int = HISTORY_BYTES_MAX) -> bytes:
    r"""The newest whole entries of a history file, half of the limit, if the file has become larger than that.

    >>> bounded(b"\n# 1\n+SELECT 1;\n\n# 2\n+SELECT 2;\n\n# 3\n+SELECT 3;\n", 45)
    b'\n# 3\n+SELECT 3;\n'
    """
    if len(history) <= bytes_max:
        return history
    _, found, rest = history[-(bytes_max // 2) :].partition(b"\n\n# ")
    return b"\n# " + rest if found else b""


def history_path() -> Path:
    """Where the history is: below `XDG_STATE_HOME`, which is `~/.local/state` unless it is set."""
    given = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (given if given.is_absolute() else Path.home() / ".local" / "state") / "eventflow" / "sql_history"


def open_history() -> History:
    """The history of earlier prompts, in a file that only its owner can read; in memory where there can be none."""
    try:
        path = history_path()
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(path, "a+b", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK, 0o600)) as file:
            os.fchmod(file.fileno(), 0o600)
            file.seek(0)
            before = file.read()
            after = bounded(before)
            if after != before:
                file.truncate(0)
                file.write(after)
    except (OSError, RuntimeError):  # no home, or none that can be written
        return InMemoryHistory()
    return _LastingHistory(path)


def open_prompt(store: Path, form: Format) -> None:
    """Ask for statements and answer them, until the person leaves.

    Raises:
        StoreError: the store cannot be read at all.
    """
    history = open_history()
    with contextlib.closing(Conversation(store, form, history.append_string)) as conversation:
        session: PromptSession[str] = PromptSession(
            [("bold", "sql> ")],
            prompt_continuation=lambda _, __, wraps: "     " if wraps else " ... ",
            multiline=Condition(lambda: not is_whole(get_app().current_buffer.text)),
            lexer=_SqlLexer(),
            completer=_SqlCompleter(conversation.words),
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            history=history,
        )
        conversation.greet()
        while True:
            try:
                if not conversation.answer(session.prompt()):
                    return
            except KeyboardInterrupt:  # the line is given up
                continue
            except EOFError:
                return


class Conversation:
    """What has been chosen so far: the moment of the store that is looked at, and how answers are printed.

    Args:
        store: the store that is asked.
        form: how answers are printed until `.mode` says otherwise.
        remember: makes a statement one that the arrow keys find.
    """

    def __init__(self, store: Path, form: Format, remember: Callable[[str], None]) -> None:
        self._store, self._form, self._remember = store, form, remember
        self._seen_at = datetime.now(UTC)
        self._connection = connect(store)
        self._words: Words | None = None
        self._actions: dict[str, Callable[[str], None]] = {
            ".help": self._help,
            ".views": self._views,
            ".cookbook": self._cookbook,
            ".mode": self._mode,
            ".refresh": self._refresh,
        }

    def close(self) -> None:
        """Let go of the store."""
        self._connection.close()

    def words(self) -> Words:
        """What DuckDB knows, for completion; read when it is asked for the first time."""
        self._words = self._words or read_words(self._connection)
        return self._words

    def greet(self) -> None:
        """Say what is looked at, and how to go on."""
        self._say_moment()
        sys.stdout.write("End statements with ; · Tab completes · .help says what else · Ctrl-D leaves\n\n")

    def answer(self, text: str) -> bool:
        """Do what the text says, all on standard output but for errors. Returns whether to go on."""
        try:
            command = parse_command(text)
            if command is None:
                for statement in all_in([text]):
                    self._ask(statement)
            elif command[0] == ".quit":
                return False
            elif command[0] in self._actions:
                self._actions[command[0]](command[1])
            else:
                raise UsageError(f"there is no command {name_of(command[0])}", ".help lists them")
        except EventflowError as problem:
            _complain(str(problem).replace("`eventflow sql --views`", ".views"))
        except KeyboardInterrupt:
            _complain("stopped")
        return True

    def _ask(self, statement: str) -> None:
        begin = time.monotonic()
        count = print_answer(self._connection, statement, self._form, rows_max=ROWS_SHOWN_MAX, advice=_ADVICE)
        if self._form is Format.TABLE:
            status_console().print(
                f"{count} {'row' if count == 1 else 'rows'}, {time.monotonic() - begin:.2f} s", style="dim"
            )

    def _say_moment(self) -> None:
        runs = len(list_runs(self._store))
        have = f"{runs} {'run' if runs == 1 else 'runs'} in" if runs else "There is no run in"
        sys.stdout.write(f"{have} {name_of(str(self._store))}, as of {self._seen_at:%H:%M:%S} UTC")
        sys.stdout.write(" (.refresh looks again).\n" if runs else ": `eventflow demo` makes some.\n")

    def _help(self, _: str) -> None:
        width = max(len(f"{command.name} {command.argument}") for command in COMMANDS)
        for command in COMMANDS:
            sys.stdout.write(f"{f'{command.name} {command.argument}':<{width}}  {command.about}\n")
        sys.stdout.write(
            "\nAnything else is SQL, up to a ; at the end of a line.\n"
            "Ctrl-C gives up a line or stops a query. The arrow keys and Ctrl-R find earlier\n"
            "statements, those of .cookbook too. A first one to try: FROM runs;\n"
        )

    def _views(self, name: str) -> None:
        if not name:
            print_table(("view", "what"), [(view.name, view.description) for view in VIEWS])
            return
        for view in VIEWS:
            if view.name == name.lower():
                print_table(("column", "type", "what"), [(c.name, c.type, c.description) for c in view.columns])
                return
        raise UsageError(f"there is no view {name_of(name)}", ".views lists them")

    def _cookbook(self, name: str) -> None:
        if not name:
            print_recipes()
            return
        recipe = find_recipe(name, ".cookbook lists them")
        sys.stdout.write(f"{recipe.statement};\n\n")
        self._remember(f"{recipe.statement};")
        self._ask(recipe.statement)

    def _mode(self, name: str) -> None:
        if not name:
            sys.stdout.write(f"{self._form}\n")
        elif name in MODES:
            self._form = Format(name)
        else:
            raise UsageError(f"there is no mode {name_of(name)}", f"there are {', '.join(MODES)}")

    def _refresh(self, _: str) -> None:
        seen_at = datetime.now(UTC)
        fresh = connect(self._store)
        self._connection.close()
        self._connection, self._seen_at = fresh, seen_at
        self._say_moment()


class _LastingHistory(FileHistory):
    """Keeps each entry in the file at once. A disk that is full costs the entry and not the prompt."""

    def store_string(self, string: str) -> None:
        with contextlib.suppress(OSError):
            super().store_string(string)


class _SqlCompleter(Completer):
    """What Tab shows."""

    def __init__(self, words: Callable[[], Words]) -> None:
        self._words = words

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:  # noqa: ARG002
        before, after = document.text_before_cursor, document.text_after_cursor
        is_command = before.lstrip().startswith(".")
        found = complete_command(before) if is_command else complete(before, after, self._words())
        for text, replaces, about in found:
            yield Completion(text, -replaces, display_meta=about)


class _SqlLexer(Lexer):
    """Colours, by DuckDB's own tokens."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        styles = [""] * len(document.text)
        for token in tokens(document.text):
            style = _STYLES.get(token.kind, "")
            styles[token.start : token.start + len(token.text)] = [style] * len(token.text)
        starts = [document.translate_row_col_to_index(row, 0) for row in range(document.line_count)]

        def line(row: int) -> StyleAndTextTuples:
            text = document.lines[row] if row < document.line_count else ""
            return [(styles[starts[row] + place], letter) for place, letter in enumerate(text)]

        return line


def _complain(problem: str) -> None:
    sys.stdout.flush()
    status_console().print(text_of(problem), style="red", markup=False, soft_wrap=not sys.stderr.isatty())
