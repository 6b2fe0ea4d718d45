"""The processes of a run in a Perfetto trace: a track for each that writes a log."""

from eventflow.vocabulary import ProcessStarted
from instrumentation.formats.packets import Packets


class Writers:
    """Which process wrote which log, and its track."""

    def __init__(self, packets: Packets, stage: str) -> None:
        self._packets, self._stage = packets, stage
        self._started: dict[str, ProcessStarted] = {}
        self._tracks: dict[str, int] = {}
        self._pids: set[int] = set()  # Perfetto makes one process of two with the same id

    def started(self, writer: str, process: ProcessStarted) -> None:
        """A process told who it is."""
        self._started[writer] = process

    def of(self, pid: int) -> str | None:
        """The writer that is the process of that id: of those that had it the last one."""
        found = None
        for writer, process in self._started.items():
            if process.pid == pid:
                found = writer
        return found

    def track(self, writer: str, pieces: list[bytes]) -> int:
        """The track of a process; if it is new, its packet is added to the pieces."""
        if writer not in self._tracks:
            self._tracks[writer], piece = self._new(writer)
            pieces.append(piece)
        return self._tracks[writer]

    def _new(self, writer: str) -> tuple[int, bytes]:
        """Cases: nothing told who it is; its id was another's before, as in containers and after a resume; neither."""
        process = self._started.get(writer)
        if process is None:
            return self._packets.track(f"process {writer}")
        name = self._stage if process.role == "main" else f"{self._stage} {process.role}"
        if process.pid in self._pids:
            return self._packets.track(f"{name} {process.pid} ({writer})")
        self._pids.add(process.pid)
        return self._packets.process(process.pid, name)
