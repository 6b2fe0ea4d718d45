"""`eventflow demo problem`: the problem of each stage, seen by running it."""

import sys
import textwrap
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from eventflow.cli.options import JsonOption
from eventflow.cli.output import print_json, print_table, result_console, status_console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from stages.problems.registry import Problem
    from stages.problems.shown import Shown

_WIDTH_MAX = 100
_INDENT = 7


def problem(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|all", help="Which problem; without one, they are listed.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show a problem of a stage by running it, and what is done about it. A few seconds each, no network.

    Example: eventflow demo problem lost-error
    """
    from stages.problems.registry import PROBLEMS, find_problem

    if name is None:
        _list(list(PROBLEMS.values()), json=json)
        return
    for number, chosen in enumerate(PROBLEMS.values() if name == "all" else [find_problem(name)]):
        with status_console().status(f"{chosen.name} …"):
            shown = chosen.show()
        if json:
            print_json({"name": chosen.name, "stage": chosen.stage, "title": chosen.title, "shown": shown})
        else:
            if number:
                result_console().print()
            _print(chosen, shown)
        sys.stdout.flush()


def _list(problems: "list[Problem]", *, json: bool) -> None:
    if json:
        print_json(problems)
        return
    print_table(("stage", "problem", "what it shows"), ((each.stage, each.name, each.title) for each in problems))
    status_console().print("eventflow demo problem NAME shows one, all shows all", style="dim", markup=False)


def _print(problem: "Problem", shown: "Shown") -> None:
    console = result_console()
    width = min(_WIDTH_MAX, console.width)
    console.print(Text.assemble((problem.name, "bold"), f" ({problem.stage}): {problem.title}\n"))
    if shown.program:
        _print_program(console, shown.program)
    for label, sentences in (
        ("Seen", shown.seen),
        ("Why", (shown.why,)),
        ("Next", (shown.next, *shown.seen_next)),
        ("But", (shown.missing,) if shown.missing else ()),
    ):
        for number, sentence in enumerate(sentences):
            beginning = (label if number == 0 else "").ljust(_INDENT)
            lines = textwrap.wrap(sentence, width - _INDENT, break_long_words=False, break_on_hyphens=False)
            text = f"\n{' ' * _INDENT}".join(lines)
            console.print(Text.assemble((beginning, "bold"), text), soft_wrap=True)


def _print_program(console: Console, program: str) -> None:
    """The program as it was run; with colours on a terminal."""
    text = textwrap.indent(program, "    ")
    if console.is_terminal:
        from rich.syntax import Syntax

        console.print(Syntax(text, "python", theme="ansi_dark", background_color="default"))
    else:
        console.print(text, markup=False)
