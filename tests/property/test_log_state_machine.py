"""T23: the log against a plain list, through everything that can be done to it, in any order.

The model is a list of identifiers for each writer: those that are acknowledged. A kill may keep, cut or half write what
is not; a bit that flips may take the end of a log, but only through a repair.
"""

import itertools
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eventflow.errors import LogDamaged, NewerFormat, WrongVersion
from eventflow.event import Event
from eventflow.log.appending import Appender
from eventflow.log.following import EventTail, Subscription
from eventflow.log.format import batch_bounds, encode_commit
from eventflow.log.layout import list_segments, segment_name, writer_folders
from eventflow.log.reader import read_events
from eventflow.log.recovery import set_aside
from eventflow.log.runs import create_run
from eventflow.log.seal import seal_run
from eventflow.log.sql import query
from eventflow.log.verify import verify_run
from eventflow.recorder import Recorder, Span
from eventflow.sources import SeededSources
from eventflow.stream import Stream
from eventflow.vocabulary import RequestFailed
from tests.unsynced_log import UnsyncedDisk

EXAMPLES = int(os.environ.get("EVENTFLOW_EXAMPLES", "8"))
WRITERS = ("a", "b")
STREAMS = ("s", "t")


class Named(SeededSources):
    """Seeded sources for the recorder of a writer of that name."""

    def __init__(self, seed: int, writer: str) -> None:
        super().__init__(seed)
        self.writer = writer

    def name_suffix(self) -> str:
        return self.writer


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
        self.places: dict[str, tuple[str, int]] = {}
        self.recorders = 0
        self.tail = EventTail(self.run.log)
        self.followed: dict[str, list[str]] = {writer: [] for writer in WRITERS}
        self.subscribed: list[str] = []
        self.given_up: list[str] = []

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
        self._note(writer, made)
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
            self._note(writer, [made])

    @rule(
        writer=st.sampled_from(WRITERS), stream=st.sampled_from(STREAMS), count=st.integers(0, 5), flush=st.booleans()
    )
    def record(self, writer: str, stream: str, count: int, *, flush: bool) -> None:
        """A recorder goes on with the log and with the story, in one batch or in many."""
        self.close(writer)
        self.recorders += 1
        sources = Named(1_000 + self.recorders, writer)
        with Recorder(self.run.log, self.run.run, sources=sources, disk=self.disk, batch_seconds_max=None) as recorder:
            recorder._writer._segment_bytes_max = self.segment_bytes_max
            story = Stream(stream, sources.trace_id(), self.versions[stream] + 1)
            span = Span(recorder, story, sources.span_id(), None)
            for _ in range(count):
                link = span.record(RequestFailed(error="E", message="r", seconds=0.5))
                self.model[writer].append(link.id)
                self.versions[stream] += 1
                self.places[link.id] = stream, self.versions[stream]
                if flush:
                    recorder.flush()

    @rule(writer=st.sampled_from(WRITERS), size=st.integers(0, 118))
    def kill_between_segments(self, writer: str, size: int) -> None:
        """The next segment has been made, and perhaps a part of its first line written, or all of it."""
        appender = self._appender(writer)._writer
        appender.abandon_in_child()
        del self.open[writer]
        commit = encode_commit(0, appender.seq, appender._place.chain)
        number = list_segments(appender.folder)[-1].number + 1
        if appender.path.stat().st_size:
            (appender.folder / segment_name(number)).write_bytes(commit[:size])

    @rule(writer=st.sampled_from(WRITERS), bit=st.integers(0, 1 << 20))
    def rot(self, writer: str, bit: int) -> None:
        """A bit of the last batch flips: nobody writes there until a repair takes that batch out, and no other."""
        self._appender(writer)  # cuts what is torn
        for name in WRITERS:
            self.close(name)
        path = list_segments(self.run.log / writer)[-1].path
        whole = path.read_bytes()
        *before, _ = [0, *(end for _, end in batch_bounds(whole, len(whole)))]
        start = before[-1] if before else 0
        if len(before) < 2 or start == len(whole):
            return
        flipped = bytearray(whole)
        place = start * 8 + bit % ((len(whole) - start) * 8)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises((LogDamaged, NewerFormat)) as caught:
            self._appender(writer)
        assert path.read_bytes() == flipped
        if isinstance(caught.value, NewerFormat):
            path.write_bytes(whole)
            return
        done = set_aside(path.parent, self.disk)
        assert done is not None
        assert path.read_bytes() + Path(done.path).read_bytes() == flipped
        assert path.stat().st_size == start
        self._give_up(writer, len(re.findall(rb'^\{"id', whole[start:], re.MULTILINE)))

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
                    return
        assert sorted(self.subscribed) == sorted([*itertools.chain(*self.model.values()), *self.given_up])

    @rule(writer=st.sampled_from(WRITERS), after=st.integers(-1, 60))
    def look_back(self, writer: str, after: int) -> None:
        """Another tail, from any place on."""
        found = [event.id for event in EventTail(self.run.log, after={writer: after}).poll() if event.writer == writer]
        assert found == self.model[writer][after + 1 :]

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

    def _note(self, writer: str, events: list[Event[RequestFailed]]) -> None:
        """They are acknowledged, or will be found."""
        for event in events:
            self.model[writer].append(event.id)
            self.versions[event.stream] = event.version
            self.places[event.id] = event.stream, event.version

    def _give_up(self, writer: str, count: int) -> None:
        """The last events of a writer are gone; who had seen them is told so by whoever repaired the log."""
        lost = self.model[writer][len(self.model[writer]) - count :]
        del self.model[writer][len(self.model[writer]) - count :]
        self.given_up += [event_id for event_id in lost if event_id in self.subscribed]
        self.versions = dict.fromkeys(STREAMS, -1)
        for event_id in itertools.chain(*self.model.values()):
            stream, version = self.places[event_id]
            self.versions[stream] = max(version, self.versions[stream])
        self.tail = EventTail(self.run.log)
        self.followed = {name: [] for name in WRITERS}

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
