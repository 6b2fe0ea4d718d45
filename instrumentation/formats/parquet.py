"""A view of a run as one Parquet file: what `eventflow sql` shows, with its types, for pandas, Spark and the like."""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from eventflow.errors import StoreError, UsageError
from eventflow.log.reader import RunTail
from eventflow.log.runs import RunFolder
from eventflow.log.sql import VIEWS, connect_writing

if TYPE_CHECKING:
    import duckdb

_ERRNO = re.compile(r'"errno":"(\d+)"')
VIEW_NAMES = tuple(view.name for view in VIEWS)


def write_view(
    folder: RunFolder,
    view: str,
    path: Path,
    carry_out: Callable[["duckdb.DuckDBPyConnection", Callable[[], None]], None],
) -> None:
    """Write all rows of a view of one run to a file, compressed with zstd. It is not whole before this returns.

    One thread does it: two take four times the memory and are no faster.

    Args:
        folder: the run.
        view: one of `VIEW_NAMES`.
        path: the file; what is in it is replaced.
        carry_out: is given the connection and the work to do, so that it can be interrupted.

    Raises:
        StoreError: the log is damaged.
        UsageError: the run is being sealed.
        OSError: the file cannot be written.
    """
    import duckdb

    assert view in VIEW_NAMES
    for _ in RunTail(folder.log).poll():  # SQL takes each line as it is; what is handed on is held against the chain
        pass
    target = str(path.absolute())
    with contextlib.closing(connect_writing(folder, [path], threads=1)) as connection:
        relation = connection.view(view)
        try:
            carry_out(connection, lambda: relation.write_parquet(target, compression="zstd", use_tmp_file=False))
        except duckdb.Error as problem:
            raise _explained(problem, folder, target) from problem


def _explained(problem: "duckdb.Error", folder: RunFolder, target: str) -> Exception:
    """Cases: the file; a segment that was sealed meanwhile; else what was read is no log."""
    reason = " ".join(str(problem).split())
    if target in reason:
        number = _ERRNO.search(reason)
        return OSError(int(number[1]), os.strerror(int(number[1]))) if number else OSError(None, reason)
    if ".ndjson" in reason:
        return UsageError(f"{folder.run} was sealed while it was being read", "export it again")
    return StoreError(f"{folder.run} cannot be read ({reason}): check it with `eventflow verify {folder.run}`")
