"""Small logs, made fast, to be damaged: closed in order, or as a killed process leaves them."""

from collections.abc import Sequence
from pathlib import Path

from eventflow.disk import Disk
from eventflow.log.runs import RunFolder
from eventflow.log.segment import SEGMENT_BYTES_MAX, LogWriter

WRITER = "w"


class UnsyncedDisk(Disk):
    """A disk that is fast and promises nothing: no power is cut where it is used."""

    def sync(self, descriptor: int) -> None:
        del descriptor

    def sync_folder(self, path: Path) -> None:
        del path


def line(run: RunFolder, seq: int, text: str = "") -> bytes:
    """An event line, as short as they get."""
    return (
        f'{{"id":"01a2087d-ec80-75eb-ac93-{seq:012x}","type":"a.b","time":{seq},"run":"{run.run}","stream":"s",'
        f'"version":{seq},"writer":"{WRITER}","seq":{seq},"trace_id":"t","span_id":"s","data":{{"x":"{text}"}}}}\n'
    ).encode()


def opened(run: RunFolder, segment_bytes_max: int = SEGMENT_BYTES_MAX) -> LogWriter:
    """The log, opened, and recovered if need be."""
    return LogWriter(run.log, run.run, WRITER, UnsyncedDisk(), segment_bytes_max)


def write(
    run: RunFolder,
    sizes: Sequence[int],
    *,
    closed: bool,
    text: str = "",
    segment_bytes_max: int = SEGMENT_BYTES_MAX,
) -> None:
    """Write batches of these sizes; then close the log, or kill its writer."""
    writer = opened(run, segment_bytes_max)
    for size in sizes:
        first = writer.seq + 1
        writer.append(b"".join(line(run, seq, text) for seq in range(first, first + size)), size)
    if closed:
        writer.close()
    else:
        writer.abandon_in_child()


def crashed(run: RunFolder, lines: Sequence[bytes]) -> None:
    """Open the log, append a batch of these lines, and kill the process that did it."""
    writer = opened(run)
    writer.append(b"".join(line + b"\n" for line in lines), len(lines))
    writer.abandon_in_child()
