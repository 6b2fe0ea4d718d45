"""What is seen of the processes of a run: memory, CPU, who they are.

Invariants:
    only processes of the last sample are remembered, and the names of those that have not exited.
"""

from collections.abc import Mapping

from eventflow.live.series import Level
from eventflow.live.snapshot import ProcessLine
from eventflow.measuring_events import MemoryKind, ProcessReading, ProcessSampled

_CPU_SECONDS = 2.0


class Machine:
    """The processes of one sitting of a run."""

    def __init__(self) -> None:
        self.memory_bytes = self.peak_memory_bytes = 0
        self.memory_kind: MemoryKind = "pss"
        self.memory = Level()
        self._cpu_seconds = 0.0
        self._processes: tuple[ProcessReading, ...] = ()
        self._sampled_ns = 0
        self._marks: list[tuple[int, float, dict[int, float]]] = []
        self._roles: dict[int, str] = {}
        self._pids: dict[str, int] = {}

    def started(self, writer: str, pid: int, role: str) -> None:
        """A process of the run began; one that is no external program writes a log of its own."""
        self._roles[pid] = role
        if role != "program":
            self._pids[writer] = pid

    def exited(self, pid: int) -> None:
        """A process ended."""
        self._roles.pop(pid, None)
        self._pids = {writer: other for writer, other in self._pids.items() if other != pid}

    def sampled(self, when_ns: int, sample: ProcessSampled) -> None:
        """All processes at one instant. CPU is taken over the last two to four seconds."""
        self.memory_bytes, self.memory_kind = sample.memory_bytes, sample.memory_kind
        self.peak_memory_bytes = max(self.peak_memory_bytes, sample.highest_bytes)
        self.memory.note(when_ns, sample.memory_bytes)
        self._cpu_seconds, self._processes, self._sampled_ns = sample.cpu_seconds, sample.processes, when_ns
        if not self._marks or when_ns - self._marks[-1][0] >= _CPU_SECONDS * 1e9:
            by_pid = {process.pid: process.cpu_seconds for process in sample.processes}
            self._marks = [*self._marks[-1:], (when_ns, sample.cpu_seconds, by_pid)]

    def cpu(self, whole_seconds: float | None) -> float:
        """How many cores are in use; over the whole time if that is given."""
        if whole_seconds is not None:
            return self._cpu_seconds / whole_seconds
        if not self._marks:
            return 0.0
        begin_ns, before, _ = self._marks[0]
        return _share(self._cpu_seconds - before, self._sampled_ns - begin_ns)

    def lines(self, in_flight: Mapping[str, int], *, is_over: bool) -> tuple[ProcessLine, ...]:
        """The processes of the last sample, those that the run told of first; none of a run that is over."""
        if is_over:
            return ()
        begin_ns, _, before = self._marks[0] if self._marks else (0, 0.0, {})
        by_pid = {pid: in_flight.get(writer, 0) for writer, pid in self._pids.items()}
        return tuple(
            ProcessLine(
                pid=process.pid,
                role=self._roles.get(process.pid, "other"),
                memory_bytes=process.memory_bytes,
                cpu=_share(process.cpu_seconds - before.get(process.pid, 0.0), self._sampled_ns - begin_ns),
                threads=process.threads,
                in_flight=by_pid.get(process.pid, 0),
            )
            for process in sorted(self._processes, key=lambda process: process.pid not in self._roles)
        )


def _share(cpu_seconds: float, elapsed_ns: int) -> float:
    return max(0.0, cpu_seconds) / (elapsed_ns / 1e9) if elapsed_ns > 0 else 0.0
