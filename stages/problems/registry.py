"""The problems by name, with the stage whose problem it is. What shows one is loaded when it is shown."""

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from eventflow.errors import UsageError, name_of

if TYPE_CHECKING:
    from stages.problems.shown import Shown


class Problem(msgspec.Struct, frozen=True):
    """A problem of a stage; its scenario is the function of its name in `stages.problems.<stage>`."""

    stage: str
    name: str
    title: str

    def show(self) -> "Shown":
        """Run the scenario. When this returns or raises, nothing of it is left.

        Raises:
            StoreError: something that it needs did not work on this machine.
            KeyboardInterrupt: a signal came.
        """
        from stages.problems.scene import Scene

        module = importlib.import_module(f"stages.problems.{self.stage}")
        scenario: Callable[[Scene], Shown] = getattr(module, self.name.replace("-", "_"))
        with Scene() as scene:
            return scenario(scene)


PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("serial", "sum-of-waits", "the time is the sum of the waits"),
        Problem("threads", "one-lock", "threads do not compute at the same time"),
        Problem("threads", "lost-error", "an error in a future that nobody awaits is lost"),
        Problem("threads", "hanging-exit", "a thread that blocks keeps the program from ending"),
        Problem("processes", "cost-of-workers", "a worker process costs a whole interpreter"),
        Problem("processes", "unpicklable-error", "one exception that cannot cross takes the pool with it"),
        Problem("processes", "oom-kill", "a worker that is killed for its memory leaves no word"),
        Problem("subprocess", "zombies", "who ended and was not waited for stays"),
        Problem("subprocess", "full-pipe", "64 KiB of output nobody reads, and both wait for ever"),
        Problem("subprocess", "lost-status", "a program fails, and its exit status says 0"),
        Problem("subprocess", "orphan", "the program is killed, what it started lives on"),
        Problem("subprocess", "secret-in-ps", "arguments can be read by everybody"),
        Problem("loop", "error-arrives", "errors and cancellation arrive (this one is no problem)"),
        Problem("loop", "one-slow-piece", "one slow piece of Python stops everything"),
        Problem("loop", "blind", "nobody sees what a request waits for"),
        Problem("director", "no-cause", "every state is seen, and not what led to what"),
        Problem("lineage", "whole-chain", "from a file back to the line and the run (this one is no problem)"),
    )
}


def find_problem(name: str) -> Problem:
    """The problem of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return PROBLEMS[name]
    except KeyError:
        raise UsageError(f"no problem {name_of(name)}", f"choose one of {', '.join(PROBLEMS)}, or all") from None
