"""One try of one request on the wire, told to the log state by state.

Between the flight, which decides, and the HTTP client, which knows nothing of events.

Invariants:
    every attempt that was started ends as completed, redirected or failed, unless it is cancelled or the process dies;
    what is left of a large body is kept only if the server gave a name to exactly that entity (a strong validator);
    no header that could hold a secret is ever recorded.
"""

from collections.abc import Callable

import trio

from eventflow.director.bodies import ArrivingBody
from eventflow.director.errand import REDIRECTS, Arrived, EnoughError, Errand, Redirected
from eventflow.director.keeping import Keeping, PartOutdated
from eventflow.director.lanes import LargeBody
from eventflow.director.means import Means
from eventflow.errors import (
    BadResponse,
    BodyTooLarge,
    ConnectionLost,
    DeadlinePassed,
    RequestError,
    TimedOut,
    TooSlow,
)
from eventflow.event import Link, Payload
from eventflow.http.decoding import decoder
from eventflow.http.disposition import suggested_name
from eventflow.http.exchange import Unanswered, exchange
from eventflow.http.message import Head
from eventflow.http.pool import Connection
from eventflow.http.ranges import AlreadyWhole, Append, AskAgain, Refuse, judge
from eventflow.http.wire import Wire
from eventflow.http_failures import status_failure
from eventflow.origin_events import ConnectionOpened, ConnectionTaken
from eventflow.part import Part
from eventflow.recorder import Span
from eventflow.vocabulary import (
    AttemptAnswering,
    AttemptBody,
    AttemptCompleted,
    AttemptProgressed,
    AttemptResponse,
    AttemptSent,
    AttemptStarted,
)

_DISCARDED_BYTES_MAX = 64 << 10
_PROGRESS_NS = 1_000_000_000


class Attempt:
    """One try. Its methods that begin with `on_` are called by the exchange and by the body.

    Args:
        means: what all requests share.
        root: the request's root span.
        happened: records an event of this request and decides.
        errand: what to do.
    """

    __slots__ = (
        "_begun_ns",
        "_body",
        "_clock",
        "_connection",
        "_dialling",
        "_discarded",
        "_errand",
        "_happened",
        "_is_whole",
        "_keeping",
        "_means",
        "_progress_ns",
        "_rate_bytes",
        "_rate_ns",
        "_redirect",
        "_response_ns",
        "_rest",
        "_shown",
        "active_ns",
        "destination",
        "failure",
        "head",
        "span",
        "verdict",
    )

    def __init__(self, means: Means, root: Span, happened: Callable[..., Link], errand: Errand) -> None:
        self._means, self._happened, self._errand = means, happened, errand
        self._shown, self._clock = errand.shown, means.clock
        self.span = root.child()
        self.destination = errand.destination
        self._keeping = Keeping(means, errand.name, errand.shown, self.span, happened)
        self._body: ArrivingBody | None = None
        self._connection: Connection | None = None
        self._dialling: trio.CancelScope | None = None
        self.verdict: RequestError | None = None
        self.failure: RequestError | None = None
        self.head: Head | None = None
        self._redirect: Redirected | None = None
        self._discarded: int | None = None
        self._rest: int | None = None  # bytes that a part lacks
        self._is_whole = False
        self._progress_ns = self._response_ns = 0
        self._rate_ns = self._rate_bytes = 0
        self._begun_ns = self.active_ns = self._clock()

    async def carry_out(self, number: int, *causes: Link) -> Arrived | Redirected:
        """Do it. `number` counts the request's attempts from 0.

        Raises:
            RequestError: it failed; `retry_after` and the like are in it.
            OSError: the disk would not take the body.
        """
        origin = self.destination.origin
        started = AttemptStarted(server_address=origin.host, server_port=origin.port, resend_count=number)
        self._happened(self.span, started, *causes)
        self._means.attempts.add(self)
        try:
            if self._errand.kept is not None:
                await self.into_task()
                await self._keeping.take_up(self._errand.kept)
            await self._exchange()
            return await self._judge_end()
        except BaseException as problem:
            body, self._body = self._body, None
            await self._keeping.after_failure(body, self.head, self.failure)
            if self.verdict is not None and isinstance(problem, RequestError):
                raise self.verdict from None
            raise
        finally:
            self._means.attempts.discard(self)

    @property
    def brought_bytes(self) -> bool:
        """Whether the attempt, although it failed, brought the file forward: something of it is kept."""
        return self._keeping.has_kept

    def check(self, now_ns: int) -> None:
        """Stop the attempt if it has taken too long; called now and then."""
        settings, deadline_ns = self._means.settings, self._errand.deadline_ns
        if deadline_ns is not None and now_ns > deadline_ns:
            self.stop(DeadlinePassed(self._shown, "it was not done within its deadline"))
        elif self._connection is not None and now_ns - self.active_ns > settings.timeout_s * 1e9:
            what = "nothing arrived" if self.head else "no response"
            self.stop(TimedOut(self._shown, f"{what} within {settings.timeout_s:g} s"))
        elif self._body is not None and settings.min_rate and now_ns - self._rate_ns > settings.timeout_s * 1e9:
            rate = (self._body.received - self._rate_bytes) / ((now_ns - self._rate_ns) / 1e9)
            self._rate_ns, self._rate_bytes = now_ns, self._body.received
            if rate < settings.min_rate:
                self.stop(TooSlow(self._shown, f"{rate:.0f} bytes/s arrived, fewer than {settings.min_rate}"))

    def stop(self, verdict: RequestError) -> None:
        """End it with an error, wherever it waits."""
        self.verdict = self.verdict or verdict
        if self._dialling is not None:
            self._dialling.cancel()
        if self._connection is not None:
            self._connection.close()

    # ------------------------------------------------------------------------------------------- the exchange tells

    def on_sent(self) -> None:
        """The request is on its way."""
        self.active_ns = self._clock()
        partial = self._keeping.partial
        start = partial.have if partial is not None else None
        self._happened(self.span, AttemptSent(seconds=self._since(self._begun_ns), range_start=start))

    def on_answering(self) -> None:
        """The response has begun and its headers have not ended."""
        self._happened(self.span, AttemptAnswering(seconds=self._since(self._begun_ns)))

    def on_bytes(self) -> None:
        """The server is alive. The headers as a whole must come within the timeout, so there it does not count."""
        if self.head is not None:
            self.active_ns = self._clock()

    def on_head(self, head: Head) -> None:
        """The head of the response: what becomes of the body."""
        self.head = head
        headers = head.headers
        self._response_ns = self.active_ns = self._rate_ns = self._progress_ns = self._clock()
        disposition = headers.get("content-disposition")
        self._happened(
            self.span,
            AttemptResponse(
                status=head.status,
                seconds=(self._response_ns - self._begun_ns) / 1e9,
                http_version=head.version,
                content_length=head.length,
                content_type=headers.get("content-type"),
                content_encoding=headers.get("content-encoding"),
                etag=headers.get("etag"),
                last_modified=headers.get("last-modified"),
                suggested_name=suggested_name(disposition) if disposition else None,
            ),
        )
        if head.status == 200 and self._keeping.partial is None:
            self._begin_body(head, None)
        else:
            self._consider(head)

    def on_body(self, piece: bytes) -> None:
        """A piece of the body, or of one that nobody wants."""
        if self._discarded is None:
            assert self._body is not None
            self._body.add(piece)
            return
        self._discarded += len(piece)
        if self._discarded > _DISCARDED_BYTES_MAX:
            raise EnoughError

    async def drain(self) -> None:
        """Make room for more of the body."""
        if self._body is not None:
            await self._body.drain()
            self.active_ns = self._clock()  # a slow disk is not the server's fault

    async def receive_rest(self, wire: Wire, size: int) -> None:
        """Take a large body straight from the wire."""
        if self._body is None:
            raise EnoughError
        await self._body.receive_rest(wire, size)

    # ------------------------------------------------------------------------------------------------ the body asks

    async def into_task(self) -> None:
        """Go on where everything can be waited for."""
        await self._means.reactor.into_task()

    def open_part(self) -> Part:
        """A temporary file for a large body."""
        return self._means.folder.begin(self._errand.name, tag=self._means.run)

    async def on_progress(self, body: ArrivingBody) -> None:
        """At most once a second, say how far it is, and what of it would survive."""
        now = self._clock()
        self.active_ns = now
        if now - self._progress_ns < _PROGRESS_NS:
            return
        self._progress_ns = now
        self._happened(self.span, AttemptProgressed(bytes=body.received, seconds=self._since(self._response_ns)))
        assert self.head is not None
        await self._keeping.checkpoint(body, self.head)

    # ----------------------------------------------------------------------------------------------------- its parts

    async def _exchange(self) -> None:
        """Over a kept connection if there is one, and over a new one if that turned out to be dead."""
        request = self._errand.request(self._means.headers(self.destination.origin, self.span), self._keeping.partial)
        connection = self._take_kept()
        while True:
            is_new = connection is None
            if connection is None or connection.dialled.tls_version is not None:
                await self.into_task()
            if connection is None:
                connection = await self._dial()
            self._connection = connection
            self.active_ns = self._clock()
            keeps = False
            try:
                keeps = await exchange(connection, request, self, self._shown)
            except EnoughError:
                pass
            except Unanswered as problem:
                if is_new or self.verdict is not None:
                    raise ConnectionLost(problem.url, problem.what) from None
                continue
            finally:
                self._leave(connection, keeps=keeps)
                connection = None
            return

    def _take_kept(self) -> Connection | None:
        connection = self._means.pool.take(self.destination.origin)
        if connection is not None:
            idle = self._since(connection.idle_since_ns)
            taken = ConnectionTaken(connection=connection.name, requests=connection.requests, idle_seconds=idle)
            causes = (connection.last,) if isinstance(connection.last, Link) else ()
            self._tell_of(connection, self.span, taken, *causes)
        return connection

    def _tell_of(self, connection: Connection, span: Span, payload: Payload, *causes: Link) -> None:
        """Record how it was come by. Nobody has it yet who would close it if the log has failed."""
        try:
            self._happened(span, payload, *causes)
        except BaseException:
            connection.close()
            raise

    def _leave(self, connection: Connection, *, keeps: bool) -> None:
        self._connection = None
        if keeps:
            connection.last = self.span.stream.last
            self._means.pool.give(connection)
        else:
            connection.close()

    async def _dial(self) -> Connection:
        origin, means = self.destination.origin, self._means
        with trio.CancelScope() as self._dialling:
            dialled = await means.dialer.dial(origin, self._shown, means.pool.session(origin))
        stopped, self._dialling = self._dialling.cancelled_caught, None
        if stopped:
            raise self.verdict or TimedOut(self._shown, "no connection in time")
        connection = Connection(origin, dialled, means.connection_name())
        self._tell_of(
            connection,
            self.span.child(),
            ConnectionOpened(
                connection=connection.name,
                address=dialled.address,
                port=dialled.port,
                dns_seconds=dialled.dns_seconds,
                connect_seconds=dialled.connect_seconds,
                tls_seconds=dialled.tls_seconds,
                tls_version=dialled.tls_version,
            ),
        )
        return connection

    def _consider(self, head: Head) -> None:
        """A response that is not simply the whole body."""
        status, headers = head.status, head.headers
        location = headers.get("location")
        if status in REDIRECTS and location:
            self._redirect, self._discarded = Redirected(status, location), 0
            return
        failure = status_failure(self._shown, status, headers.get("retry-after"))
        if failure is not None and not (status == 416 and self._keeping.partial is not None):
            self.failure, self._discarded = failure, 0
            return
        judgement = judge(self._keeping.partial, status, headers)
        if isinstance(judgement, Append):
            self._rest = judgement.length
            self._begin_body(head, self._keeping.part)
            return
        if isinstance(judgement, AlreadyWhole):
            self._is_whole, self._discarded = True, 0
        elif isinstance(judgement, Refuse):
            self.failure, self._discarded = BadResponse(self._shown, judgement.reason), 0
        elif isinstance(judgement, AskAgain):
            self.failure, self._discarded = PartOutdated(self._shown, judgement.reason), 0
        else:
            self._keeping.drop("the server sends all of it")
            self._begin_body(head, None)

    def _begin_body(self, head: Head, part: Part | None) -> None:
        means = self._means
        bytes_max = means.settings.max_size
        if bytes_max is not None and head.length is not None and head.length > bytes_max:
            raise BodyTooLarge(self._shown, f"the body has {head.length} bytes, the limit is {bytes_max}")
        coding = head.headers.get("content-encoding")
        decodes = means.settings.decode and coding is not None and part is None
        self._body = ArrivingBody(
            self,
            means.lanes,
            self._shown,
            bytes_max,
            LargeBody(part, means.lanes, means.token) if part is not None else None,
            decoder(coding or "", means.decoding_limits, self._shown) if decodes else None,
        )

    async def _judge_end(self) -> Arrived | Redirected:
        """The exchange has ended as HTTP says it should; what was it worth?"""
        if self._redirect is not None:
            return self._redirect
        if self.failure is not None:
            raise self.failure
        if self._is_whole:
            return self._arrived(None, self._keeping.part)
        assert self._body is not None
        whole = await self._body.finish()
        if self._rest is not None and self._body.received != self._rest:
            # Only chunks can do that: a Content-Length is compared with the range before.
            what = f"206 brought {self._body.received} bytes, and its range has {self._rest}"
            self.failure = PartOutdated(self._shown, what)
            raise self.failure
        return self._arrived(whole, self._body.large.part if self._body.large is not None else None)

    def _arrived(self, whole: bytes | None, part: Part | None) -> Arrived:
        body, head = self._body, self.head
        assert head is not None
        received = body.received if body is not None else 0
        self._happened(self.span.child(), AttemptBody(bytes=received, seconds=self._since(self._response_ns)))
        self._happened(self.span, AttemptCompleted(seconds=self._since(self._begun_ns)))
        size = len(whole) if whole is not None else part.bytes if part is not None else 0
        decoded = head.headers.get("content-encoding") if body is not None and body.is_decoded else None
        is_resumed = self._keeping.part is not None
        self._body = self._keeping.part = None
        return Arrived(whole, part, size, head.length is not None, is_resumed, decoded)

    def _since(self, begun_ns: int) -> float:
        return (self._clock() - begun_ns) / 1e9
