"""T23: the log against a plain list, through everything that can be done to it, in any order.

The model is a list of identifiers for each writer, and how many of them are acknowledged. A kill may keep, cut or half
write what was not.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eventflow.disk import Disk
from eventflow.errors import WrongVersion
from eventflow.event import Event
from eventflow.log.appending import Appender
from eventflow.log.following import EventTail, Subscription
from eventflow.log.layout import list_segments, writer_folders
from eventflow.log.reader import read_events
from eventflow.log.runs import create_run
from eventflow.log.seal import seal_run
from eventflow.log.sql import query
from eventflow.log.verify import verify_run
from eventflow.sources import SeededSources
from eventflow.vocabulary import RequestFailed

EXAMPLES = int(os.environ.get("EVENTFLOW_EXAMPLES", "12"))
WRITERS = ("a", "b")
STREAMS = ("s", "t")


class UnsyncedDisk(Disk):
    """A disk that is fast and promises nothing: no power is cut here."""

    def sync(self, descriptor: int) -> None:
        del descriptor

    def sync_folder(self, path: Path) -> None:
        del path


class LogMachine(RuleBasedStateMachine):
    """Appends, kills, reopens, seals, follows, subscribes, asks; after each step the log is what the list is."""

    @initialize(segment_bytes_max=st.sampled_from([300, 2_000, 1 << 30]))
    def begin(self, segment_bytes_max: int) -> None:
        """A new run."""
        self.folder = Path(tempfile.mkdtemp(prefix="eventflow-machine-"))
        self.disk = UnsyncedDisk()
        self.run = create_run(self.folder, stage="s", disk=self.disk)
        self.sources = SeededSources(1)
        self.segment_bytes_max = segment_bytes_max
        self.open: dict[str, Appender] = {}
        self.model: dict[str, list[str]] = {writer: [] for writer in WRITERS}
        self.versions = dict.fromkeys(STREAMS, -1)
        self.tail = EventTail(self.run.log)
        self.followed: dict[str, list[str]] = {writer: [] for writer in WRITERS}
        self.subscribed: list[str] = []

    @rule(
        writer=st.sampled_from(WRITERS),
        stream=st.sampled_from(STREAMS),
        count=st.integers(1, 5),
        size=st.integers(0, 300),
    )
    def append(self, writer: str, stream: str, count: int, size: int) -> None:
        """With the right expectation it is appended, sent again it changes nothing, with a wrong one it is refused."""
        appender = self._appender(writer)
        version = self.versions[stream]
        made = [self._event(stream, version + number, size) for number in range(1, count + 1)]
        first = appender.append(made, version)
        assert appender.append(made, version) == first
        self.model[writer] += [event.id for event in made]
        self.versions[stream] = version + count
        with pytest.raises(WrongVersion, match=f"at version {version + count}, not {version}"):
            appender.append([self._event(stream, version + 1, 0)], version)

    @rule(writer=st.sampled_from(WRITERS), keep=st.floats(0, 1), size=st.integers(0, 300))
    def kill(self, writer: str, keep: float, size: int) -> None:
        """In the middle of an append, at any byte: what was not acknowledged is there wholly or not at all."""
        appender = self._appender(writer)
        path = appender._writer.path
        acknowledged = path.stat().st_size
        version = self.versions["s"]
        made = self._event("s", version + 1, size)
        appender._writer._segment_bytes_max = 1 << 40  # the kill comes before a new segment begins
        appender.append([made], None)
        appender._writer.abandon_in_child()  # what a kill leaves: nothing is closed, the lock is gone
        del self.open[writer]
        whole = path.read_bytes()
        end = acknowledged + round((len(whole) - acknowledged) * keep)
        path.write_bytes(whole[:end])
        if end == len(whole):
            self.model[writer].append(made.id)
            self.versions["s"] = version + 1

    @rule(writer=st.sampled_from(WRITERS))
    def close(self, writer: str) -> None:
        """In order."""
        if writer in self.open:
            self.open.pop(writer).close()

    @rule(keep=st.booleans())
    def seal(self, *, keep: bool) -> None:
        """Whatever nobody writes to."""
        list(seal_run(self.run, keep=keep, disk=self.disk))

    @rule()
    def follow(self) -> None:
        """One tail through everything: each event once, in order."""
        for event in self.tail.poll():
            self.followed[event.writer].append(event.id)
        assert self.followed == self.model

    @rule(count=st.integers(0, 10))
    def subscribe(self, count: int) -> None:
        """A named reader that comes back: what it has done does not come again, and nothing is left out."""
        with Subscription(self.run.path, "reader", disk=self.disk) as subscription:
            for number, event in enumerate(subscription.poll(), 1):
                assert event.id not in self.subscribed
                self.subscribed.append(event.id)
                if number >= count:
                    break

    @rule()
    def ask(self) -> None:
        """O6: SQL sees what is there."""
        ((count, distinct),) = query(self.run, "SELECT count(*), count(DISTINCT id) FROM events").rows()
        assert count == distinct == sum(map(len, self.model.values()))

    @invariant()
    def the_log_is_the_list(self) -> None:
        """O1 to O4."""
        found: dict[str, list[str]] = {writer: [] for writer in WRITERS}
        for event in read_events(self.run.log):
            assert event.seq == len(found[event.writer])
            found[event.writer].append(event.id)
        assert found == self.model
        assert not [report.damage for report in verify_run(self.run.log, self.run.run) if report.damage]
        for folder in writer_folders(self.run.log):
            assert [segment.number for segment in list_segments(folder)] == list(range(len(list_segments(folder))))

    def teardown(self) -> None:
        """Leave nothing behind."""
        for appender in getattr(self, "open", {}).values():
            appender.close()
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def _appender(self, writer: str) -> Appender:
        if writer not in self.open:
            self.open[writer] = Appender(self.run.log, writer, disk=self.disk, segment_bytes_max=self.segment_bytes_max)
        return self.open[writer]

    def _event(self, stream: str, version: int, size: int) -> Event[RequestFailed]:
        what = RequestFailed(error="E", message="é" * size, seconds=0.5)
        trace, span = self.sources.trace_id(), self.sources.span_id()
        return Event(self.sources.event_id(), what.TYPE, 1, "", stream, version, "", 0, trace, span, what)


LogMachine.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=20, deadline=None)
TestLogMachine = LogMachine.TestCase
