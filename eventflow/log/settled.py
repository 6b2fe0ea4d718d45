"""Settled runs: sealed wholly, and with their views in files, computed once.

Most questions are about requests, attempts and samples, which are a fold over millions of events. Of a run that is over
they are the same every time, so sealing writes them down, in `<run>/projections/<view>.parquet`, and SQL reads those.

Invariants:
    the files count only as long as the log is the one that they were made from, and the views are those of this
    version: both are in `<run>/projections/settled.json`, which is written last. Otherwise they are as good as not
    there.
"""

from hashlib import blake2b
from importlib.resources import files
from pathlib import Path

import msgspec

from eventflow.log.format import FORMAT
from eventflow.log.layout import list_segments, writer_folders
from eventflow.log.runs import RunFolder

SETTLED_VIEWS = (
    "requests",
    "attempts",
    "origins",
    "operations",
    "samples",
    "processes",
    "usage",
    "latencies",
    "metrics",
    "sittings",
    "runs",
)
_NAME = "settled.json"


class Settled(msgspec.Struct, frozen=True):
    """From what the files were made.

    Attributes:
        format: of the log.
        views: the digest of the statements that made them.
        segments: by writer, the number of its last segment and the size of that file.
    """

    format: int
    views: str
    segments: dict[str, tuple[int, int]]


def views_text() -> str:
    """The statements that make the views."""
    return files("eventflow.log").joinpath("views.sql").read_text(encoding="utf-8")


def settled_state(folder: RunFolder) -> Settled | None:
    """What the files of a run would be made from now. None while a segment is not sealed: the run may still go on."""
    segments: dict[str, tuple[int, int]] = {}
    for writer in writer_folders(folder.log):
        found = list_segments(writer)
        if not found or not all(segment.is_sealed for segment in found):
            return None
        segments[writer.name] = found[-1].number, found[-1].path.stat().st_size
    digest = blake2b(views_text().encode(), digest_size=16).hexdigest()
    return Settled(FORMAT, digest, segments) if segments else None


def settled_path(folder: RunFolder) -> Path:
    """Where it is said from what the files were made."""
    return folder.path / "projections" / _NAME


def view_path(folder: RunFolder, view: str) -> Path:
    """The file of a view of a run."""
    return folder.path / "projections" / f"{view}.parquet"


def is_settled(folder: RunFolder) -> bool:
    """Whether the files of the run's views are there and still right."""
    try:
        kept = msgspec.json.decode(settled_path(folder).read_bytes(), type=Settled)
    except (OSError, ValueError):
        return False
    return kept == settled_state(folder) and all(view_path(folder, view).is_file() for view in SETTLED_VIEWS)
