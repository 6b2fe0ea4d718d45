"""Parts: what is left of a large body when its attempt ends early, and going on from it.

Invariants:
    a part is kept only if the server named exactly that entity (a strong validator), and what counts of it is in the
    log, with its digest;
    nothing is added to a part whose bytes are not what the log says.
"""

from collections.abc import Callable
from pathlib import PurePosixPath

import msgspec
import trio

from eventflow.director.bodies import ArrivingBody
from eventflow.director.means import Means
from eventflow.errors import RequestError
from eventflow.event import Payload
from eventflow.http.message import Head
from eventflow.http.ranges import Partial, range_headers
from eventflow.part import Part
from eventflow.recorder import Span
from eventflow.vocabulary import PartDropped, PartKept


class PartOutdated(RequestError):
    """The server has no more of the entity that a part was begun with, so the file is fetched from its beginning."""

    fix = "nothing: it is fetched again at once"


class Keeping:
    """The part of one attempt.

    Args:
        means: what all requests share.
        name: the final name of the file.
        shown: the redacted URL.
        span: the attempt's.
        happened: records an event of the request.

    Attributes:
        partial: what is there already and is asked to be continued; None: the whole is asked for.
        part: its file.
        has_kept: whether the attempt left more than it found.
    """

    __slots__ = ("_kept", "_means", "_name", "_record", "_shown", "_span", "has_kept", "part", "partial")

    def __init__(self, means: Means, name: str, shown: str, span: Span, happened: Callable[..., object]) -> None:
        self._means, self._name, self._shown = means, name, shown
        self._span, self._record = span, happened
        self._kept: PartKept | None = None
        self.partial: Partial | None = None
        self.part: Part | None = None
        self.has_kept = False

    async def take_up(self, kept: PartKept) -> None:
        """Go on from what is kept, if it still is what it was: its bytes are read and their digest compared."""
        self._kept = kept
        partial = Partial(kept.bytes, kept.etag, kept.last_modified, kept.date, kept.length, kept.content_encoding)
        is_encoded = self._means.settings.decode and kept.content_encoding is not None
        if kept.url != self._shown or is_encoded or not range_headers(partial):
            self.drop("it is of another URL, or the server gave no strong validator")
            return
        part = None
        try:
            part = self._means.folder.reopen(self._name, kept.name)
            if await trio.to_thread.run_sync(part.matches, kept.bytes, kept.sha256, limiter=self._means.threads):
                self.partial, self.part = partial, part
                return
        except OSError:
            pass
        except BaseException:
            if part is not None:
                part.keep()
            raise
        if part is not None:
            part.discard()
        self.drop("its bytes are not there any more, or not what they were")

    def drop(self, reason: str) -> None:
        """Remove the part: the attempt, or the next one, begins at the beginning."""
        if self.part is not None:
            self.part.discard()
        elif self._kept is not None and PurePosixPath(self._kept.name).parent == PurePosixPath(self._name).parent:
            self._means.discard_part(self._name, self._kept.name)
        self.partial = self.part = None
        self._happened(PartDropped(reason=reason))

    async def checkpoint(self, body: ArrivingBody, head: Head) -> None:
        """Say in the log how much of a body that is still arriving could be gone on from."""
        if body.large is not None and (kept := self._describe(body, head)) is not None:
            checkpoint = await body.large.settle()
            self._happened(msgspec.structs.replace(kept, bytes=checkpoint.bytes, sha256=checkpoint.sha256))

    async def after_failure(self, body: ArrivingBody | None, head: Head | None, failure: RequestError | None) -> None:
        """Keep what can be gone on from, remove the rest. Not to be cancelled."""
        if body is not None and body.large is not None and head is not None:
            self.part = None
            await self._keep(body, head, failure)
        elif self.part is not None:
            if isinstance(failure, PartOutdated):
                self.drop(failure.what)
            else:
                self.part.keep()
                self.part = None

    async def _keep(self, body: ArrivingBody, head: Head, failure: RequestError | None) -> None:
        large = body.large
        kept = self._describe(body, head) if not isinstance(failure, PartOutdated) else None
        assert large is not None
        try:
            checkpoint = await large.settle()
        except OSError:
            kept, checkpoint = None, large.checkpoint
        if kept is None or not checkpoint.bytes:
            large.part.discard()
            if self.partial is not None:
                self._happened(PartDropped(reason="it could not be gone on with"))
            return
        try:
            self._happened(msgspec.structs.replace(kept, bytes=checkpoint.bytes, sha256=checkpoint.sha256))
        finally:  # the log may have failed
            large.part.keep()
        self.has_kept = checkpoint.bytes > (self._kept.bytes if self._kept is not None else 0)

    def _happened(self, event: Payload) -> None:
        self._record(self._span, event)

    def _describe(self, body: ArrivingBody, head: Head) -> PartKept | None:
        """The event that lets a later attempt go on from this body, None if the server does not name the entity."""
        if body.large is None or body.is_decoded:
            return None
        headers, before = head.headers, self._kept if self.partial is not None else None
        length = head.length
        if length is not None and self.partial is not None:
            length += self.partial.have
        kept = PartKept(
            name=body.large.part.temporary,
            bytes=0,
            sha256="",
            url=self._shown,
            etag=headers.get("etag") or (before.etag if before else None),
            last_modified=headers.get("last-modified") or (before.last_modified if before else None),
            date=headers.get("date"),
            content_encoding=headers.get("content-encoding"),
            length=length if length is not None else before.length if before else None,
        )
        named = Partial(1, kept.etag, kept.last_modified, kept.date, None, kept.content_encoding)
        return kept if range_headers(named) else None
