"""T15 and T16 in one process: an append with an expectation happens once, wholly, and only where it was meant to."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from eventflow.errors import (
    EventTooLarge,
    LogClosed,
    LogDamaged,
    LogWriteFailed,
    PartlyAppended,
    UsageError,
    WrongVersion,
)
from eventflow.event import Event, Payload
from eventflow.log.appending import Appended, Appender
from eventflow.log.format import LINE_BYTES_MAX
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder, create_run
from eventflow.recorder import Recorder
from eventflow.vocabulary import RequestFailed
from tests.scripted_log import Script, check_chain


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A new run in a new store."""
    return create_run(tmp_path / "store", stage="serial")


def story(run: RunFolder, name: str, versions: Sequence[int], stream: str = "s") -> list[Event[Payload]]:
    """Events of one stream with these versions; the ids follow from the name."""
    script = Script(run.run, name)
    return [msgspec.structs.replace(script.event(version), stream=stream, version=version) for version in versions]


def ids(run: RunFolder) -> list[tuple[str, int, str]]:
    """Writer, place and id of every event."""
    return [(event.writer, event.seq, event.id) for event in read_events(run.log)]


def test_events_get_the_place_that_they_are_given_whatever_they_say(run: RunFolder) -> None:
    """Run, writer and seq are the log's; everything else is the caller's."""
    with Appender(run.log, "w") as appender:
        odd = [
            msgspec.structs.replace(event, run="x", writer="y", seq=77) for event in story(run, "a", [0, 1], "s \n é")
        ]
        assert appender.append(odd) == Appended("w", 0, 1)
        assert appender.append(story(run, "b", [0])) == Appended("w", 2, 2)
    found = list(read_events(run.log))
    assert [(event.run, event.writer, event.seq) for event in found] == [(run.run, "w", seq) for seq in range(3)]
    assert [event.stream for event in found] == ["s \n é", "s \n é", "s"]
    assert check_chain(run) == 3


def test_the_expected_version_must_be_the_streams(run: RunFolder) -> None:
    """-1 for one that has no event; the error says which version it has; nothing is appended."""
    with Appender(run.log, "w") as appender:
        for expected in (0, 5):
            with pytest.raises(WrongVersion) as refused:
                appender.append(story(run, "a", [expected + 1]), expected)
            assert (refused.value.stream, refused.value.expected, refused.value.actual) == ("s", expected, -1)
        appender.append(story(run, "a", [0, 1, 2]), -1)
        appender.append(story(run, "t", [0], "other"), -1)
        for expected in (-1, 1, 3):
            with pytest.raises(WrongVersion, match=f"is at version 2, not {expected}: read it again"):
                appender.append(story(run, "b", [expected + 1]), expected)
        appender.append(story(run, "b", [3]), 2)
    assert check_chain(run) == 5


def test_versions_of_other_writers_and_of_recorders_count(run: RunFolder) -> None:
    """T16: whoever wrote it, also while both live, also when the log was there before this appender."""
    with Recorder(run.log, run.run) as recorder, Appender(run.log, "w") as one:
        span = recorder.open_stream("s")
        said = RequestFailed(error="E", message="m", seconds=0)
        for _ in range(3):
            span.record(said)
        recorder.flush()
        with pytest.raises(WrongVersion, match="version 2, not -1"):
            one.append(story(run, "a", [0]), -1)
        one.append(story(run, "a", [3]), 2)
        with Appender(run.log, "v") as two:
            with pytest.raises(WrongVersion, match="version 3, not 2"):
                two.append(story(run, "b", [3]), 2)
            two.append(story(run, "b", [4, 5]), 3)
        with pytest.raises(WrongVersion, match="version 5, not 3"):
            one.append(story(run, "c", [4]), 3)
        one.append(story(run, "c", [6]), 5)
    versions = sorted(event.version for event in read_events(run.log, streams=["s"]))
    assert versions == list(range(7))


def test_an_append_that_is_sent_again_changes_nothing(run: RunFolder) -> None:
    """T15: all there: the same places, by whomever it is sent, also when the stream has moved on since."""
    batch = story(run, "a", [0, 1, 2])
    with Appender(run.log, "w") as appender:
        first = appender.append(batch, -1)
        assert appender.append(batch, -1) == first == Appended("w", 0, 2)
        appender.append(story(run, "b", [3]), 2)
        assert appender.append(batch, -1) == first
    with Appender(run.log, "w") as again, Appender(run.log, "v") as other:
        assert again.append(batch, -1) == first
        assert other.append(batch, -1) == first
    assert check_chain(run) == 4
    assert len({event_id for _, _, event_id in ids(run)}) == 4


@pytest.mark.parametrize("there", [[0], [1], [0, 1], [0, 2]])
def test_an_append_of_which_a_part_is_there_is_refused(run: RunFolder, there: list[int]) -> None:
    """T15: it cannot be the same append; nothing is appended."""
    batch = story(run, "a", [0, 1, 2])
    with Appender(run.log, "w") as appender:
        given = [msgspec.structs.replace(batch[place], version=version) for version, place in enumerate(there)]
        appender.append(given, -1)
        before = ids(run)
        with pytest.raises(PartlyAppended) as refused:
            appender.append(batch, -1)
        assert (refused.value.found, refused.value.given) == (len(there), 3)
    assert ids(run) == before


def test_events_that_are_no_story_are_refused(run: RunFolder) -> None:
    """With an expectation they are of one stream and go on from it; without one they may be of any."""
    with Appender(run.log, "w") as appender:
        with pytest.raises(UsageError, match="nothing to append"):
            appender.append([], -1)
        for wrong in (story(run, "a", [1]), story(run, "a", [0, 2]), story(run, "a", [0, 0])):
            with pytest.raises(UsageError, match="is expected"):
                appender.append(wrong, -1)
        with pytest.raises(UsageError, match="of 's' is expected"):
            appender.append(story(run, "a", [0]) + story(run, "b", [1], "t"), -1)
        appender.append(story(run, "a", [0]) + story(run, "b", [1], "t"))
    assert check_chain(run) == 2


def test_an_event_too_long_for_a_line_is_refused_with_its_batch(run: RunFolder) -> None:
    """T22: the limit counts the newline; the longest line that fits can be read; the appender goes on."""
    (event,) = story(run, "a", [0])

    def of_size(size: int) -> Event[Payload]:
        empty = msgspec.structs.replace(event, data=RequestFailed(error="E", message="", seconds=0))
        message = "x" * (size - len(msgspec.json.encode(empty)) - 1)
        return msgspec.structs.replace(event, data=RequestFailed(error="E", message=message, seconds=0))

    with Appender(run.log, "w") as appender:
        for size in (LINE_BYTES_MAX + 1, 5 * LINE_BYTES_MAX):
            with pytest.raises(EventTooLarge) as refused:
                appender.append([*story(run, "b", [0]), of_size(size)])
            assert (refused.value.size, refused.value.limit) == (size, LINE_BYTES_MAX)
        appender.append([of_size(LINE_BYTES_MAX)], -1)
        appender.append(story(run, "b", [1]), 0)
    assert check_chain(run) == 2


@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_log_with_a_segment_missing_is_not_gone_on_with(run: RunFolder, missing: int) -> None:
    """T11: wherever it is missed, though opening looks at the last one only."""
    with Appender(run.log, "w", segment_bytes_max=1_000) as appender:
        for version in range(12):
            appender.append(story(run, "a", [version]))
    segments = sorted((run.log / "w").glob("*.ndjson"))
    assert len(segments) > 5
    segments[missing].unlink()
    before = [path.read_bytes() for path in sorted((run.log / "w").glob("*.ndjson"))]
    with pytest.raises(LogDamaged, match=f"segment {missing:08} is missing"):
        Appender(run.log, "w")
    assert [path.read_bytes() for path in sorted((run.log / "w").glob("*.ndjson"))] == before


def test_a_closed_appender_appends_nothing(run: RunFolder) -> None:
    """Closing is idempotent."""
    appender = Appender(run.log, "w")
    appender.append(story(run, "a", [0]), -1)
    appender.close()
    appender.close()
    with pytest.raises((LogWriteFailed, LogClosed)):
        appender.append(story(run, "a", [1]), 0)
    assert check_chain(run) == 1


def test_a_turn_that_is_never_given_up_is_an_error_and_not_a_hang(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process that was stopped in the middle of an append holds the turn; what needs no turn goes on."""
    monkeypatch.setattr("eventflow.log.appending._TURN_TRIES", 2)
    with Appender(run.log, "w") as one, Appender(run.log, "v") as two:
        one._take_turn()
        with pytest.raises(LogWriteFailed, match="other appends have held the lock"):
            two.append(story(run, "a", [0]), -1)
        two.append(story(run, "b", [0], "t"))
        one._give_turn()
        two.append(story(run, "a", [0]), -1)
