"""A run with a few events in several segments, for tests of what surrounds a log rather than of what is in it."""

from pathlib import Path

from eventflow.log.appending import Appender
from eventflow.log.reader import read_events
from eventflow.log.runs import RunFolder
from tests.scripted_log import Script


def fill(run: RunFolder, count: int = 6, writer: str = "w") -> list[str]:
    """Append events one by one, a few to a segment, and close. Gives their ids."""
    script = Script(run.run, writer)
    with Appender(run.log, writer, segment_bytes_max=1_500) as appender:
        for number in range(count):
            appender.append([script.event(number)], number - 1)
    return [script.id_of(number) for number in range(count)]


def ids(run: RunFolder) -> list[str]:
    """The ids of all events."""
    return [event.id for event in read_events(run.log)]


def everything(folder: Path) -> dict[str, bytes]:
    """All files below a folder, with what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
