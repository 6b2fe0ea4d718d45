"""The ladder: every stage by name, with what it is and how many workers it has when nobody says."""

import importlib
import os
from collections.abc import Callable

import msgspec

from eventflow.errors import UsageError, name_of
from eventflow.work import Work


class Stage(msgspec.Struct, frozen=True):
    """A way to run the work.

    `workers` is the default number of requests that are carried out at once; for the director, of its processes.
    `keeps_tally` says that it notes in `work.tally` what it does, so that nobody has to read its log meanwhile.
    """

    name: str
    summary: str
    workers: int
    keeps_tally: bool = False

    def load(self) -> Callable[[Work], None]:
        """The stage's `run`. Its module, and the libraries that it needs, are imported only now."""
        run: Callable[[Work], None] = importlib.import_module(f"stages.{self.name}").run
        return run


_PROCESSES = max(2, min(8, os.cpu_count() or 2))

STAGES = {
    stage.name: stage
    for stage in (
        Stage("serial", "one request after the other", 1),
        Stage("threads", "a pool of threads", 16),
        Stage("processes", "a pool of worker processes", _PROCESSES),
        Stage("subprocess", "threads, and an external program for each file", 16),
        Stage("loop", "one thread, an event loop", 32),
        Stage("director", "events decide what is next; every state is seen", 1, keeps_tally=True),
        Stage("lineage", "the director, and every event says what caused it", 1, keeps_tally=True),
    )
}


def find_stage(name: str) -> Stage:
    """The stage of that name.

    Raises:
        UsageError: there is none.
    """
    try:
        return STAGES[name]
    except KeyError:
        raise UsageError(f"no stage {name_of(name)}", f"choose one of {', '.join(STAGES)}") from None
