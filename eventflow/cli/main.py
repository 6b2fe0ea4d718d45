"""The command `eventflow`: its subcommands, and how every error becomes one line and an exit status.

Exit status: 0 all completed; 1 some requests failed; 2 the command was wrong; 3 the store or the machine failed; 130
interrupted, to be resumed.
"""

import os
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from eventflow.cli.check import doctor, verify
from eventflow.cli.compare import compare
from eventflow.cli.demo import demo
from eventflow.cli.export import export
from eventflow.cli.maintain import repair, seal
from eventflow.cli.origin import origin
from eventflow.cli.problem import problem
from eventflow.cli.query import report, sql
from eventflow.cli.run import resume, run
from eventflow.cli.show import events, runs
from eventflow.cli.sweep import sweep
from eventflow.cli.top import top
from eventflow.cli.trace import trace
from eventflow.cli.whole_file import NO_ROOM
from eventflow.errors import EventflowError, StoreError

USAGE, FAULT, INTERRUPTED = 2, 3, 130


class _DemoFirst(TyperGroup):
    """Typer lists groups after commands; the help begins with what people should begin with."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return sorted(self.commands, key=lambda name: name != "demo")


app = typer.Typer(
    name="eventflow",
    cls=_DemoFirst,
    help="Download and process many things; every step is an event in one log. Start with: eventflow demo",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
demos = typer.Typer(invoke_without_command=True, callback=demo)
demos.command()(problem)
app.add_typer(demos, name="demo")
for command in (
    run,
    resume,
    runs,
    top,
    events,
    trace,
    sql,
    sweep,
    compare,
    report,
    export,
    verify,
    seal,
    repair,
    doctor,
    origin,
):
    app.command()(command)


def main() -> None:
    """Run the command line. Every error of ours is one line on standard error."""
    if (
        signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    ):  # inherited: then every child would seem to end with status 0
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        status = app(standalone_mode=False)
    except typer.exceptions.TyperException as wrong:
        status = _explain_usage(wrong)
    except EventflowError as problem:
        sys.stderr.write(f"eventflow: {problem}\n")
        status = FAULT if isinstance(problem, StoreError) else USAGE
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except OSError as problem:
        status = _explain_output(problem)
    try:
        sys.stdout.flush()
    except OSError as problem:
        status = _explain_output(problem)
    sys.exit(status if isinstance(status, int) else 0)


def _explain_output(problem: OSError) -> int:
    """A reader that has seen enough and is gone (`| head`) is no error, a disk without room is one of the machine's.

    What is left to write is given up, now and when Python ends.
    """
    is_gone = isinstance(problem, BrokenPipeError)
    if not (is_gone or problem.errno in NO_ROOM):
        raise problem
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not is_gone:
        sys.stderr.write(f"eventflow: the output cannot be written ({problem.strerror}): make room\n")
    return 0 if is_gone else FAULT


def _explain_usage(wrong: typer.exceptions.TyperException) -> int:
    """One line in place of a frame: what is wrong, and where the help is."""
    context = getattr(wrong, "ctx", None)
    command = context.command_path if context else "eventflow"
    text = " ".join(getattr(wrong, "format_message", lambda: str(wrong))().split())
    sys.stderr.write(f"eventflow: {text.rstrip('.')}: see `{command} --help`\n" if text else "")
    return USAGE
