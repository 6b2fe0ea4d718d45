"""The input of a run: where the list comes from, and how a resume gets the same list again.

A file is read again from where it is; a list that came from the command line or a pipe is copied into the run's folder,
without its secrets, as it is read.

Invariants:
    request n of a resume is request n of the run, or the resume is refused;
    no copy holds a credential.
"""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from eventflow.errors import InvalidRequest, UsageError, name_of
from eventflow.redaction import has_secrets
from eventflow.request import BadLine, Request, open_input, read_requests
from eventflow.work import Settings

_COPY = "input.ndjson"


def from_urls(urls: Iterable[str]) -> Iterator[Request | BadLine]:
    """The requests of URLs given one by one."""
    return read_requests(url.encode(errors="surrogateescape") + b"\n" for url in urls)


def from_file(path: str) -> Iterator[Request | BadLine]:
    """The requests of a file, `-` for standard input, read lazily.

    The file is opened now, so that a wrong path is known at once.
    """
    return read_requests(open_input(path))


def fingerprint(path: Path) -> tuple[int, int]:
    """Size and modification time (ns) of an input file: whether it is still what it was."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def copied(items: Iterable[Request | BadLine], run: Path) -> Iterator[Request | BadLine]:
    """The same items; each is in the run's copy of its input before it is given."""
    with open(run / _COPY, "w", encoding="utf-8", opener=_private) as copy:
        for item in items:
            copy.write(json.dumps(_copy_of(item)) + "\n")
            copy.flush()
            yield item


def again(settings: Settings, run: Path, replacement: str | None) -> Iterator[Request | BadLine]:
    """The input of a run that is resumed, from its beginning. `replacement` is a list given anew by the user.

    Raises:
        UsageError: the input is gone or is not what it was.
    """
    if replacement is not None:
        return from_file(replacement)
    if settings.source is None:
        return _from_copy(run)
    path = Path(settings.source)
    try:
        unchanged = fingerprint(path) == (settings.source_size, settings.source_mtime_ns)
    except OSError as problem:
        reason = f"the input {name_of(settings.source)} cannot be read ({problem.strerror})"
        raise UsageError(reason, "put it back, or name its copy with --input") from problem
    if not unchanged:
        raise UsageError(
            f"the input {name_of(settings.source)} has changed since the run began",
            "start a new run, or name an unchanged copy with --input",
        )
    return from_file(settings.source)


def _from_copy(run: Path) -> Iterator[Request | BadLine]:
    path = run / _COPY
    if not path.is_file():
        raise UsageError("the run kept no copy of its input", "give the list with --input")
    for item in from_file(str(path)):
        if isinstance(item, Request) and "REDACTED" in item.url:
            problem = InvalidRequest(
                item.redacted_url, "its credentials were not kept; give the list again with --input"
            )
            yield BadLine(item.number, item.redacted_url, problem)
        else:
            yield item


def _copy_of(item: Request | BadLine) -> dict[str, str | None]:
    if isinstance(item, BadLine):
        return {"bad": item.preview}
    url = item.redacted_url if has_secrets(item.url) else item.url
    return {"url": url, "name": item.name, "sha256": item.sha256}


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
