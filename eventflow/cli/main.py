"""The command `eventflow`: its subcommands, and how every error becomes one line and an exit status.

Exit status: 0 all completed; 1 some requests failed; 2 the command was wrong; 3 the store or the machine failed; 130
interrupted, to be resumed.
"""

import os
import sys

import typer

from eventflow.cli.check import doctor, verify
from eventflow.cli.demo import demo
from eventflow.cli.maintain import repair, seal
from eventflow.cli.origin import origin
from eventflow.cli.query import report, sql
from eventflow.cli.run import resume, run
from eventflow.cli.show import events, runs
from eventflow.cli.top import top
from eventflow.errors import EventflowError, StoreError

USAGE, FAULT, INTERRUPTED = 2, 3, 130

app = typer.Typer(
    name="eventflow",
    help="Download and process many things; every step is an event in one log. Start with: eventflow demo",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (demo, run, resume, runs, top, events, sql, report, verify, seal, repair, doctor, origin):
    app.command()(command)


def main() -> None:
    """Run the command line. Every error of ours is one line on standard error."""
    try:
        status = app(standalone_mode=False)
    except typer.exceptions.TyperException as wrong:
        status = _explain_usage(wrong)
    except EventflowError as problem:
        sys.stderr.write(f"eventflow: {problem}\n")
        status = FAULT if isinstance(problem, StoreError) else USAGE
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except BrokenPipeError:
        status = 0
    _flush_output()
    sys.exit(status if isinstance(status, int) else 0)


def _flush_output() -> None:
    """Write what is left. A reader that has seen enough and is gone (`| head`) is no error, now or when Python ends."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explain_usage(wrong: typer.exceptions.TyperException) -> int:
    """One line in place of a frame: what is wrong, and where the help is."""
    context = getattr(wrong, "ctx", None)
    command = context.command_path if context else "eventflow"
    text = getattr(wrong, "format_message", lambda: str(wrong))()
    sys.stderr.write(f"eventflow: {text.strip().rstrip('.')}: see `{command} --help`\n" if text else "")
    return USAGE
