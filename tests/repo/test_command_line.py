"""The command line explains itself: every command has an example, and every example in help and documents is right."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main
from typer.core import TyperGroup
from typer.testing import CliRunner

from eventflow.cli.main import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
GROUP = typer.main.get_command(app)
assert isinstance(GROUP, TyperGroup)
COMMANDS = sorted(GROUP.commands)
SUBCOMMANDS = [
    f"{name} {inner}"
    for name, command in GROUP.commands.items()
    if isinstance(command, TyperGroup)
    for inner in command.commands
]


class Example(NamedTuple):
    """A command line of `eventflow` that people may copy, and where it stands."""

    place: str
    line: str


def help_text(command: str) -> str:
    """What `eventflow COMMAND --help` prints."""
    result = CliRunner().invoke(
        app, [*command.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    )
    assert result.exit_code == 0, result.output
    return result.output


def examples_in(place: str, text: str) -> Iterator[Example]:
    """The examples in a text: lines that start with `eventflow` or `Example: eventflow`, up to a pipe or comment."""
    for line in re.findall(
        r"^[\s│]*(?:Examples?: |\$ )?(eventflow [a-z].*?)[\s│]*$", text.replace("\\\n", " "), re.MULTILINE
    ):
        yield Example(place, re.split(r" [|#;>&]+ |  #", line)[0])


def document_examples() -> Iterator[Example]:
    """The examples in the code blocks of all documents."""
    for path in DOCUMENTS:
        for block in re.findall(
            r"^```(?:console|sh|shell|bash)\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        ):
            yield from examples_in(str(path.relative_to(ROOT)), block)


def unknown_options(line: str) -> list[str]:
    """The options on a command line that its command does not have."""
    assert isinstance(GROUP, TyperGroup)
    words = shlex.split(line)[1:]
    command = GROUP.commands[words[0]]
    if isinstance(command, TyperGroup) and words[1:] and not words[1].startswith("-"):
        command = command.commands[words[1]]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    given = [word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)]
    return [option for option in given if option not in known]


@pytest.mark.parametrize("command", COMMANDS + SUBCOMMANDS)
def test_every_command_has_an_example(command: str) -> None:
    """`eventflow COMMAND --help` shows at least one line to copy, whose command and options exist."""
    examples = [
        example
        for example in examples_in(command, help_text(command))
        if f"{example.line} ".startswith(f"eventflow {command} ")
    ]
    assert examples
    assert not [(example.line, unknown_options(example.line)) for example in examples if unknown_options(example.line)]


def test_help_lists_every_command() -> None:
    """`eventflow --help` names every command."""
    result = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    assert not [command for command in COMMANDS if command not in result.output]


def test_documents_show_commands_that_exist() -> None:
    """Every `eventflow …` line in a document's code block names a command, and options, that exist."""
    examples = list(document_examples())
    unknown = [example for example in examples if example.line.split()[1] not in COMMANDS]
    assert not unknown
    assert not [example for example in examples if unknown_options(example.line)]


def test_the_readme_shows_the_demo() -> None:
    """README.md shows the main job as a command to copy."""
    assert "make demo" in (ROOT / "README.md").read_text(encoding="utf-8")
