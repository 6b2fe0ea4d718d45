"""One sitting of a sweep: from what the store says to all that can be done now.

Invariants:
    two sittings of one sweep never run at once: they would measure each other;
    a run that failed, or requests of one that did, are said when it happens, and again in the end.
"""

import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eventflow.cli.run_facts import run_facts
from eventflow.cli.stage_process import program_name
from eventflow.cli.sweep_cells import Outcome, Stopping, Workshop, open_workshop
from eventflow.cli.sweep_result import in_short, is_done
from eventflow.cli.sweep_view import SweepView, open_view
from eventflow.disk import Disk
from eventflow.errors import StoreError, UsageError
from eventflow.log.runs import RunFolder, store_path
from eventflow.quantities import format_count, format_duration, format_size
from eventflow.sweep import Cell, Sweep, cells, cells_left, sweep_path, sweep_runs, warm_up_size
from eventflow.time_left import Costs, about

FAILURES_IN_A_ROW_MAX = 3
"""After so many runs that failed one after the other, the fault is not a stage's, and the sweep ends."""

_START_SECONDS = 0.5  # what a process needs before its run begins and after it has ended, about
_LIVE_LOOK_SECONDS = 0.2
_DOUBT = 2.0  # a run is begun if it may come to its end within the budget, half as long as it is expected to take
_BUDGET = "the budget is used up"


def carry_out(store: Path, plan: Sweep, *, budget: float | None) -> int:
    """Run what is left of a sweep. Returns the exit status, but for failed requests.

    Args:
        store: the store.
        plan: the sweep.
        budget: after so many seconds it stops in order; None for never.

    Raises:
        UsageError: it is going on in another process, or the user's list cannot be read any more.
    """
    with Stopping() as stopping, _alone(store, plan), open_view() as view:
        return _Sitting(store, plan, stopping, view).carry_out(budget)


@contextmanager
def _alone(store: Path, plan: Sweep) -> Iterator[None]:
    """Two sittings at once would measure each other."""
    disk = Disk()
    try:
        lock = disk.lock(sweep_path(store, plan.name))
    except BlockingIOError:
        raise UsageError(f"the sweep {plan.name} is going on in another process", "wait for it, or stop it") from None
    try:
        yield
    finally:
        disk.unlock(lock)


class _Sitting:
    """Signals are heard by `stopping`; `view` shows how far it is."""

    def __init__(self, store: Path, plan: Sweep, stopping: Stopping, view: SweepView) -> None:
        self._store, self._plan, self._stopping, self._view = store, plan, stopping, view
        self._begun = time.monotonic()
        self._costs = Costs()
        self._total = len(cells(plan))
        self._left = cells(plan)  # until the store was looked at
        self._failed: list[Cell] = []
        self._failures_in_a_row = 0

    def carry_out(self, budget: float | None) -> int:
        """Run what is left. Returns the exit status, but for failed requests."""
        until = None if budget is None else self._begun + budget
        why, status = "interrupted", 130
        try:
            self._look()
            if not self._left:
                self._view.tell(f"sweep {self._plan.name}: all {self._total} runs are there already")
                return 0
            self._introduce()
            with open_workshop(self._store, self._plan, self._stopping) as workshop:
                why = self._warm_up(workshop, until) or self._run_cells(workshop, until)
            status = 130 if why in ("interrupted", _BUDGET) else 3
        except KeyboardInterrupt:
            pass
        except StoreError as problem:
            why, status = str(problem), 3
        if not why or not self._left:
            took = format_duration(time.monotonic() - self._begun)
            self._view.show(f"{self._total} of {self._total}", 1.0, f"took {took}")
            return 0
        self._explain(why)
        return status

    def _look(self) -> None:
        """What is done, by the store."""
        self._wait_for_live_runs()
        runs = sweep_runs(self._store, self._plan)
        facts, problems = run_facts(self._store, [run.run for run in runs])
        for run, problem in problems.items():
            self._view.tell(f"{run} does not count, since it cannot be read ({problem})")
        done = [run for run in runs if is_done(facts.get(run.run), run.requests)]
        for one in done:
            self._costs.note(one.stage, one.requests, facts[one.run]["seconds"] + _START_SECONDS)
        self._left = cells_left(self._plan, (one.cell for one in done))

    def _wait_for_live_runs(self) -> None:
        """Where a run could not be killed with its sweep, it would be measured with what comes now."""
        for run in sweep_runs(self._store, self._plan):
            folder = RunFolder(self._store / run.run)
            if folder.is_live():
                self._view.tell(f"waiting for {run.run}, which an earlier sitting has left")
            while folder.is_live():
                time.sleep(_LIVE_LOOK_SECONDS)

    def _introduce(self) -> None:
        plan, done = self._plan, self._total - len(self._left)
        stages = f"{len(plan.stages)} stage{'s' * (len(plan.stages) != 1)}"
        sizes = f"{', '.join(map(format_count, plan.sizes))} request{'s' * (plan.sizes[-1] != 1)}"
        files = f"of {format_size(plan.file_size_bytes)}, {format_duration(plan.latency_s)} away"
        files = "of your list" if plan.source else files
        often = "once" if plan.repeat == 1 else f"{plan.repeat} times"
        runs = f"{done} of {self._total} runs are there" if done else f"{self._total} runs"
        self._view.tell(f"sweep {plan.name}: {stages} with {sizes} {files}, {often} each: {runs}")

    def _warm_up(self, workshop: Workshop, until: float | None) -> str:
        """One small run of each stage that has something left. Returns why the sweep is to stop, if it is."""
        size = warm_up_size(self._plan)
        waiting = [stage for stage in self._plan.stages if any(cell.stage == stage for cell in self._left)]
        for stage in waiting:
            cell = Cell(stage, size, 0)
            if why := self._carry_out(workshop, cell, until, f"warm-up: {stage}", is_warm_up=True):
                return why
        left = self._costs.left((cell.stage, cell.requests) for cell in self._left)
        self._view.tell(f"warmed up; the {len(self._left)} runs will take {about(left)}")
        return ""

    def _run_cells(self, workshop: Workshop, until: float | None) -> str:
        for place, cell in enumerate(list(self._left), self._total - len(self._left) + 1):
            work = f"{format_count(cell.requests)} request{'s' * (cell.requests != 1)}"
            text = f"{place} of {self._total}: {cell.stage}, {work}"
            if until is not None and self._costs.expected(*cell[:2]) > _DOUBT * (until - time.monotonic()):
                return _BUDGET
            if why := self._carry_out(workshop, cell, until, text):
                return why
        return "some runs failed" if self._failed else ""

    def _carry_out(
        self, workshop: Workshop, cell: Cell, until: float | None, text: str, *, is_warm_up: bool = False
    ) -> str:
        """One cell. Returns why the sweep is to stop, if it is."""

        def tick(seconds: float) -> None:
            rest = self._rest(cell, seconds)
            passed = time.monotonic() - self._begun
            self._view.show(text, passed / (passed + rest), f"{about(rest)} left")

        tick(0.0)
        outcome = workshop.carry_out(cell, is_warm_up=is_warm_up, until=until, tick=tick)
        if outcome.problem and self._stopping.is_asked:
            return "interrupted"
        if outcome.problem and until is not None and time.monotonic() >= until:
            return _BUDGET
        if outcome.problem:
            self._failures_in_a_row += 1
            self._failed += [] if is_warm_up else [cell]
            self._view.tell(f"{text}: the run failed: {outcome.problem}")
        else:
            self._failures_in_a_row = 0
            self._note(cell, outcome, text, is_warm_up=is_warm_up)
        if self._stopping.is_asked:
            return "interrupted"
        return "three runs failed one after the other" if self._failures_in_a_row >= FAILURES_IN_A_ROW_MAX else ""

    def _note(self, cell: Cell, outcome: Outcome, text: str, *, is_warm_up: bool) -> None:
        summary = outcome.summary
        assert summary is not None
        self._costs.note(cell.stage, cell.requests, outcome.seconds)
        if not is_warm_up:
            self._left.remove(cell)
        figures = f"{format_duration(summary.seconds)}, {summary.requests_per_second:,.0f} requests/s"
        memory = format_size(summary.peak_memory_bytes)
        failed = f", {summary.failed} FAILED" if summary.failed else ""
        rest = "" if is_warm_up else f"; {about(self._rest(None, 0.0))} left"
        say = self._view.tell if failed else self._view.note
        say(f"{text}: {figures}, {memory}{failed}{rest}")

    def _rest(self, current: Cell | None, seconds: float) -> float:
        """How long it will take yet, if the current cell has taken so long."""
        later = [(cell.stage, cell.requests) for cell in self._left if cell != current]
        now = max(0.0, self._costs.expected(current.stage, current.requests) - seconds) if current else 0.0
        return now + self._costs.left(later)

    def _explain(self, why: str) -> None:
        """What stopped it, what is missing, and how to go on."""
        option = f" --store {shlex.quote(os.fspath(self._store))}" if self._store != store_path(None) else ""
        self._view.tell(f"{why}: {self._total - len(self._left)} of {self._total} runs are done")
        self._view.tell(f"missing: {in_short(self._left)}")
        self._view.tell(f"go on with: {program_name()} sweep --resume {self._plan.name}{option}")
