"""SQL over the log: views in an in-memory DuckDB that read the files where they lie, also while they are being written.

It is a projection like every other, and the only one that is not a fold: DuckDB reads the lines of all segments in each query, so
nothing is kept in step and nothing is stored twice. The force is a reader that must never see what does not count: a segment that is
being written, or was torn by a crash, ends in bytes of any kind, and DuckDB reads a file to its end or not at all. Hence two ways:
segments that end with a commit and cannot grow any more are read by DuckDB in place, in parallel; of the others the committed lines are
copied into memory when the connection is made (at most one segment, 64 MiB, for each process that writes or crashed).

Invariants:
    all queries of one connection see one prefix of each writer's log, the one that was committed when it was made;
    no query sees part of a line, or a line without its commit; a committed line that is damaged makes it fail and is never skipped;
    no query reads another file, reaches the network or loads an extension; `query` runs nothing that could write a file.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventflow.errors import LogDamaged, UsageError
from eventflow.log.format import COMMIT_PREFIX, LINE_BYTES_MAX, event_lines
from eventflow.log.reader import SegmentTail, writer_folders, writer_segments
from eventflow.log.runs import RunFolder, find_run, list_runs
from eventflow.log.views import VIEWS

if TYPE_CHECKING:
    import duckdb

__all__ = ["VIEWS", "Answer", "connect", "query", "write_parquet"]
