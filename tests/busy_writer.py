"""A process that appends to logs as fast as the disk allows, and says what is acknowledged.

    python tests/busy_writer.py STORE

For each line on its standard input it makes a run and appends to it. After each append, before the next one begins, the
number of acknowledged events is in the run's file `acknowledged`, as 8 bytes.

Invariants:
    a run has `EVENTS` events in batches of `BATCH`, each event the only one of a request: n events are n requests.
"""

import os
import sys
from pathlib import Path

from eventflow.event import Event, Payload
from eventflow.log.format import encode_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.segment import LogWriter
from eventflow.sources import SeededSources
from eventflow.vocabulary import RequestQueued
from tests.synthetic_log import START_NS

BATCH = 7
EVENTS = 2_000 * BATCH


def batch(sources: SeededSources, run: str, writer: str, first_seq: int) -> bytes:
    """The lines of a batch, with text that is not ASCII."""
    events: list[Event[Payload]] = [
        Event(
            sources.event_id(), RequestQueued.TYPE, sources.time_ns(), run, f"request-{seq}", 0, writer, seq,
            sources.trace_id(), sources.span_id(), RequestQueued(number=seq, url=f"http://h/ä€😀\n{seq}", name="ü" * 9),
        )
        for seq in range(first_seq, first_seq + BATCH)
    ]  # fmt: skip
    return encode_events(events)


def write(folder: RunFolder, sources: SeededSources) -> None:
    """Append all the events of a run, in segments of 100 kB."""
    writer = LogWriter(folder.log, folder.run, "a", segment_bytes_max=100_000)
    descriptor = os.open(folder.path / "acknowledged", os.O_CREAT | os.O_WRONLY)
    for seq in range(0, EVENTS, BATCH):
        writer.append(batch(sources, folder.run, "a", seq), BATCH)
        os.pwrite(descriptor, (writer.seq + 1).to_bytes(8, "big"), 0)
    os.close(descriptor)
    writer.close()


if __name__ == "__main__":
    for number, _ in enumerate(sys.stdin):
        sources = SeededSources(number, START_NS + number * 1_000_000_000)
        write(create_run(Path(sys.argv[1]), stage="serial", sources=sources), sources)
