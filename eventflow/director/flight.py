"""One request on its way: carries out what `decide` says, and records what came of it.

Invariants:
    everything that happens to the request is an event before anything is decided from it;
    a story that was begun ends with exactly one of completed, failed, cancelled, unless the process is killed;
    a request is completed only after its file is durable.
"""

import errno
from collections.abc import Callable
from hashlib import sha256
from typing import Literal

import trio

from eventflow.director.attempt import Attempt
from eventflow.director.decide import Action, Phase, State, decide
from eventflow.director.errand import Arrived, Errand
from eventflow.director.line import Line
from eventflow.director.means import Means
from eventflow.errors import ChecksumMismatch, DeadlinePassed, HttpStatus, RequestError, ServerAbsent, StoreError
from eventflow.event import Link, Payload
from eventflow.http.dialing import Origin
from eventflow.http.redirects import Trail
from eventflow.http.url import split_url
from eventflow.http_failures import explain
from eventflow.http_metrics import attempt_completed, attempt_failed, attempt_redirected
from eventflow.part import Part
from eventflow.recorder import Span
from eventflow.redaction import redact_url
from eventflow.story import QueuedRequest
from eventflow.vocabulary import (
    AttemptFailed,
    AttemptRedirected,
    FileStored,
    FileVerified,
    PartDropped,
    PartKept,
    RequestCancelled,
    RequestCompleted,
    RequestDelayed,
    RequestFailed,
    RequestStarted,
)


class Flight:
    """One request, from the line of its origin to its end.

    Args:
        means: what all requests share.
        queued: the request, its root span and when it was queued.
        part: what an earlier sitting of the run left of its file.
        admit: puts it into its line again, after some seconds.
        judge: whether a failure is worth another try: the seconds to wait and why, or None. It is given the number of
            the last try that brought bytes.
        ended: called when its story has ended.

    Attributes:
        line: the line of its origin, to be set; another one's after a redirect.
        destination, target: where `url` leads.
    """

    __slots__ = (
        "_actions",
        "_admit",
        "_arrived",
        "_attempt",
        "_authorization",
        "_ended",
        "_failure",
        "_has_misfitted",
        "_judge",
        "_last_attempt",
        "_means",
        "_progressed_at",
        "_queued_ns",
        "_record",
        "_started_ns",
        "_stored_bytes",
        "_tally",
        "_trail",
        "destination",
        "line",
        "request",
        "root",
        "shown",
        "state",
        "target",
        "url",
    )

    def __init__(
        self,
        means: Means,
        queued: QueuedRequest,
        part: PartKept | None,
        *,
        admit: Callable[["Flight", Origin, float], None],
        judge: Callable[["Flight", RequestError, int], tuple[float, str] | None],
        ended: Callable[["Flight"], None],
    ) -> None:
        self._means, self.request, self.root = means, queued.request, queued.root
        self._admit, self._judge, self._ended = admit, judge, ended
        self._tally, self._record = means.tally, queued.root.recorder.record
        self.url = self.request.url
        self.shown = redact_url(self.url)
        self.destination, self.target = split_url(self.url)
        self.line: Line[Flight]
        self.state = State(Phase.QUEUED, part=part)
        self._actions: tuple[Action, ...] = ()
        self._queued_ns, self._started_ns = queued.queued_ns, 0
        self._attempt: Attempt | None = None
        self._authorization: str | None = None
        self._trail: Trail | None = None
        self._last_attempt: Link | None = None
        self._failure: RequestError | None = None
        self._arrived: Arrived | None = None
        self._has_misfitted = False
        self._stored_bytes = self._progressed_at = 0

    def happened(self, span: Span, payload: Payload, *causes: Link) -> Link:
        """Record an event of this request, and decide what is next."""
        link = self._record(span, payload, causes)
        self.state, actions = decide(self.state, payload)
        if actions:
            self._actions = actions
        return link

    async def fly(self) -> None:
        """Go on until there is nothing to do here: it ended, it is being stored, or it waits in a line again.

        Raises:
            StoreError: the log cannot be written.
        """
        if self.state.phase is Phase.QUEUED:
            self._started_ns = self._means.clock()
            waited = (self._started_ns - self._queued_ns) / 1e9
            started = RequestStarted(wait_seconds=waited)
            self.happened(self.root.child(), started)
            self._tally.note(self.request.number, started)
        else:
            self._actions = (Action.ATTEMPT,)
        try:
            while self._actions:
                action, self._actions = self._actions[0], ()
                if action is Action.ATTEMPT:
                    await self._try()
                elif action is Action.STORE:
                    await self._store()
                else:
                    self._carry_out(action)
        except trio.Cancelled:
            self.cancel()
            raise
        except StoreError:
            self._discard()
            raise
        except Exception as problem:  # noqa: BLE001  (a bug fails one request, and is named there)
            self._fail(explain(problem, self.shown))

    def cancel(self) -> None:
        """End the story of a request that was on its way when the run was interrupted."""
        is_handed_over = self.state.phase >= Phase.STORING and self._arrived is None
        if self.state.phase > Phase.QUEUED and not is_handed_over:
            self._discard()
            self._end(RequestCancelled(seconds=self._since_start()))

    def on_stored(self, problem: OSError | None, seconds: float) -> None:
        """The file is durable under its name, or will never be."""
        self._means.stored()
        if problem is not None:
            self._fail(explain(problem, self.shown))
            return
        name = self.request.name
        self.happened(self.root.child(), FileStored(name=name, bytes=self._stored_bytes, seconds=seconds))
        self._actions = ()
        self._end(RequestCompleted(name=name, bytes=self._stored_bytes, seconds=self._since_start()))

    def _carry_out(self, action: Action) -> None:
        if action is Action.VERIFY:
            self._verify()
        elif action is Action.JUDGE:
            self._judge_failure()
        elif action is Action.ADMIT:
            self._admit(self, self.destination.origin, 0.0)

    # ------------------------------------------------------------------------------------------------------ attempts

    async def _try(self) -> None:
        means, line = self._means, self.line
        if line.breaker.opened and line.is_left_alone(means.clock() / 1e9):
            self._fail(ServerAbsent(self.shown, "the server has failed for a minute, so it is left alone"))
            return
        if means.settings.robots:
            await means.reactor.into_task()
            await line.books.ask_robots(line)
            if line.robots is not None and not line.robots.allows(means.settings.user_agent, self.url):
                self._fail(line.robots.refusal(self.shown))
                return
        if self._has_passed():
            self._fail(DeadlinePassed(self.shown, "it was not done within its deadline"))
            return
        deadline = means.settings.request_deadline_s
        errand = Errand(
            self.destination,
            self.target,
            self.shown,
            self.request.name,
            self.state.part,
            self._authorization,
            None if deadline is None else self._started_ns + int(deadline * 1e9),
        )
        attempt = Attempt(means, self.root, self.happened, errand)
        causes = (self._last_attempt,) if self._last_attempt is not None else ()
        begun = means.clock()
        try:
            outcome = await attempt.carry_out(self.state.sent, *causes)
            if not isinstance(outcome, Arrived):
                line.books.answered(line)
                self._follow(attempt, outcome.status, outcome.location, begun)
                return
        except StoreError:
            raise
        except Exception as problem:  # noqa: BLE001  (explained, recorded and judged)
            self._attempt_failed(attempt, explain(problem, self.shown), begun)
            return
        self._arrived = outcome
        self._last_attempt = attempt.span.stream.last
        now = means.clock()
        line.books.succeeded(line, now, begun, outcome.bytes)
        origin, status = attempt.destination.origin, attempt.head.status if attempt.head else 0
        attempt_completed(attempt.span, origin.host, origin.port, (now - begun) / 1e9, status, outcome.bytes)

    def _attempt_failed(self, attempt: Attempt, failure: RequestError, begun_ns: int) -> None:
        means = self._means
        self._failure = failure
        if attempt.brought_bytes:
            self._progressed_at = self.state.tries
        headers = attempt.head.headers if attempt.head else None
        status, origin = attempt.head.status if attempt.head else None, attempt.destination.origin
        kind, seconds = type(failure).__name__, (means.clock() - begun_ns) / 1e9
        attempt_failed(attempt.span, origin.host, origin.port, seconds, status, kind)
        self.line.books.failed(self.line, means.clock(), begun_ns, failure, headers)
        self._last_attempt = self.happened(
            attempt.span,
            AttemptFailed(
                error=kind,
                message=failure.what,
                seconds=seconds,
                status=status,
                retry_after=failure.retry_after if isinstance(failure, HttpStatus) else None,
            ),
        )

    def _follow(self, attempt: Attempt, status: int, location: str, begun_ns: int) -> None:
        """A redirect: the next attempt goes elsewhere, perhaps to another origin, in whose line it waits first."""
        if self._trail is None:
            self._trail = Trail(self.url)
        redirect = self._trail.follow(status, location)
        authorization = self._authorization or attempt.destination.authorization
        self._authorization = authorization if redirect.same_origin else None
        self._go_to(redirect.url)
        seconds = (self._means.clock() - begun_ns) / 1e9
        redirected = AttemptRedirected(status=status, url=self.shown, seconds=seconds)
        self._last_attempt = self.happened(attempt.span, redirected)
        origin = attempt.destination.origin
        attempt_redirected(attempt.span, origin.host, origin.port, seconds, status)

    def _judge_failure(self) -> None:
        assert self._failure is not None
        again = self._judge(self, self._failure, self._progressed_at)
        if again is None:
            self._fail(self._failure)
            return
        seconds, reason = again
        if self._has_passed(seconds):
            self._fail(DeadlinePassed(self.shown, f"its next try would come too late ({self._failure.what})"))
            return
        self.happened(self.root, RequestDelayed(seconds=seconds, reason=reason))
        self._start_over()
        self._actions = ()
        self._admit(self, self.destination.origin, seconds)

    def _start_over(self) -> None:
        """The next try begins where the list says, not where redirects led."""
        if self._trail is not None:
            self._go_to(self.request.url)
            self._trail = self._authorization = None

    def _go_to(self, url: str) -> None:
        self.url, self.shown = url, redact_url(url)
        self.destination, self.target = split_url(url)

    # --------------------------------------------------------------------------------------------- verify and store

    def _verify(self) -> None:
        arrived, request = self._arrived, self.request
        assert arrived is not None
        begun = self._means.clock()
        if arrived.body is not None:
            digest = sha256(arrived.body).hexdigest()
        else:
            assert arrived.part is not None
            digest = arrived.part.sha256()
        checks: list[Literal["size", "sha256"]] = ["size"] if arrived.has_size else []
        if request.sha256 is not None:
            if digest != request.sha256:
                self._mismatch(arrived, digest, request.sha256)
                return
            checks.append("sha256")
        seconds = (self._means.clock() - begun) / 1e9
        self.happened(
            self.root.child(),
            FileVerified(
                bytes=arrived.bytes, sha256=digest, seconds=seconds, checks=tuple(checks), decoded=arrived.decoded
            ),
        )

    def _mismatch(self, arrived: Arrived, digest: str, wanted: str) -> None:
        """If it was put together from parts, they may be to blame, and the whole is fetched once more."""
        failure = ChecksumMismatch(self.shown, f"its SHA-256 is {digest[:12]}…, the list says {wanted[:12]}…")
        self._discard()
        if not arrived.is_resumed or self._has_misfitted:
            self._fail(failure)
            return
        self._has_misfitted = True
        self.happened(self.root, PartDropped(reason="what was put together from it does not have the right SHA-256"))
        self.happened(self.root, RequestDelayed(seconds=0.0, reason="fetched whole, since its parts do not fit"))

    async def _store(self) -> None:
        arrived, means = self._arrived, self._means
        assert arrived is not None
        if arrived.body is not None and means.landing.works:
            await means.room()
        self._arrived, self._stored_bytes = None, arrived.bytes
        if arrived.body is not None and means.landing.works:
            means.landing.land(self.request.name, arrived.body, self.on_stored)
            means.storing += 1
            return
        part = arrived.part or self._write_part(arrived.body or b"")
        future = means.store.submit(part)
        means.storing += 1

        def on_done(_future: object) -> None:
            problem = future.exception()
            known = problem if problem is None or isinstance(problem, OSError) else OSError(errno.EIO, str(problem))
            means.token.run_sync_soon(means.quietly(self.on_stored), known, 0.0 if problem else future.result())

        future.add_done_callback(on_done)

    def _write_part(self, body: bytes) -> Part:
        part = self._means.folder.begin(self.request.name, tag=self._means.run)
        try:
            part.write(body)
        except BaseException:
            part.discard()
            raise
        return part

    def _discard(self) -> None:
        if self._arrived is not None and self._arrived.part is not None:
            self._arrived.part.discard()
        self._arrived = None

    def _fail(self, failure: RequestError) -> None:
        """The end. A part that could be gone on with stays, for a resume."""
        self._discard()
        self._end(RequestFailed(error=type(failure).__name__, message=str(failure), seconds=self._since_start()))

    def _end(self, outcome: RequestCompleted | RequestFailed | RequestCancelled) -> None:
        self.happened(self.root, outcome)
        self._actions = ()
        self._tally.note(self.request.number, outcome)
        self._ended(self)

    def _has_passed(self, seconds: float = 0.0) -> bool:
        """Whether its deadline will have passed then."""
        deadline = self._means.settings.request_deadline_s
        return deadline is not None and self._since_start() + seconds > deadline

    def _since_start(self) -> float:
        return (self._means.clock() - (self._started_ns or self._queued_ns)) / 1e9
