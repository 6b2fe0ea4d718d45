"""Where things lie in the log of a run: folders of writers, segments by number, locks.

    <log>/<writer>/lock               held for as long as a process may write here; it ends with the process
    <log>/<writer>/00000000.ndjson    a segment as it is written
    <log>/<writer>/00000000.parquet   a segment that is sealed: whole, checked, and never written again

Invariants:
    symbolic links are never followed: what is not in the store does not belong to it;
    where a segment is there in both forms, the sealed one counts.
"""

import fcntl
import os
import re
from pathlib import Path
from typing import NamedTuple

from eventflow.errors import LogDamaged

LOCK_NAME = "lock"
_SEGMENT_NAME = re.compile(r"(\d{8})\.(ndjson|parquet)")


class SegmentFile(NamedTuple):
    """A segment of a writer: its number, its file and whether that is the sealed form."""

    number: int
    path: Path
    is_sealed: bool


def segment_name(number: int) -> str:
    """The file name of a writer's n-th live segment."""
    return f"{number:08}.ndjson"


def sealed_name(number: int) -> str:
    """The file name of a writer's n-th segment when it is sealed."""
    return f"{number:08}.parquet"


def sealed_form(segment: SegmentFile) -> SegmentFile:
    """A segment as it is when it is sealed. Whoever finds a listed live one gone finds it there."""
    return SegmentFile(segment.number, segment.path.with_name(sealed_name(segment.number)), is_sealed=True)


def writer_folders(log: Path) -> list[Path]:
    """The folders of the writers of a run, in the order of their names."""
    if log.is_symlink() or not log.is_dir():
        return []
    return sorted(path for path in log.iterdir() if path.is_dir() and not path.is_symlink())


def list_segments(folder: Path) -> list[SegmentFile]:
    """The segments of one writer, in order."""
    found: dict[int, SegmentFile] = {}
    for entry in os.scandir(folder):
        match = _SEGMENT_NAME.fullmatch(entry.name)
        if match and entry.is_file(follow_symlinks=False):
            segment = SegmentFile(int(match[1]), Path(entry.path), match[2] == "parquet")
            if segment.is_sealed or segment.number not in found:
                found[segment.number] = segment
    return [found[number] for number in sorted(found)]


def require_gapless(folder: Path, segments: list[SegmentFile]) -> None:
    """A missing segment is damage, wherever it is missed.

    Raises:
        LogDamaged: a number between 0 and the last one is not there.
    """
    for expected, segment in enumerate(segments):
        if segment.number != expected:
            raise missing_segments(folder, expected, segment.number)


def missing_segments(folder: Path, first: int, end: int) -> LogDamaged:
    """The damage that the segments from `first` to the one before `end` are not there."""
    one = f"segment {first:08} is missing"
    many = f"the segments from {first:08} to {end - 1:08} are missing"
    return LogDamaged(str(folder / segment_name(first)), 0, 1, one if end == first + 1 else many)


def segment_paths(log: Path) -> list[Path]:
    """All segments of a run, live and sealed: each writer's in order."""
    return [segment.path for folder in writer_folders(log) for segment in list_segments(folder)]


def is_locked(folder: Path) -> bool:
    """Whether a process may be writing to this writer's log now."""
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
