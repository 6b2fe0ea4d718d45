"""Making connections: names to addresses, a race over them, TLS. Each step timed.

Invariants:
    one lookup of a name at a time; its answer is used for `DNS_SECONDS`, its failure by those who waited for it;
    of the sockets of a race exactly one is left, and none when the race is lost or cancelled;
    a certificate that does not check ends the attempt; there is no switch to accept it.
"""

import errno
import os
import socket
import ssl
from collections import OrderedDict
from ipaddress import ip_address
from typing import Any

import msgspec
import trio
from trio.lowlevel import wait_writable

from eventflow.errors import (
    CertificateRejected,
    ConnectFailed,
    ConnectRefused,
    NameNotResolved,
    RequestError,
    TimedOut,
)
from eventflow.http.wire import PlainWire, Readiness, TlsWire, Wire
from eventflow.sources import Sources, SystemSources

DNS_SECONDS = 60.0
_DNS_NAMES_MAX = 4096
_LOOKUPS_MAX = 16
_HEAD_START_SECONDS = 0.25  # RFC 8305 §5
_REFUSED_KINDS = (errno.ECONNREFUSED,)

Address = tuple[socket.AddressFamily, tuple[Any, ...]]


class Origin(msgspec.Struct, frozen=True):
    """Who answers: scheme, host and port (RFC 9110 §4.3.2)."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


class Dialled(msgspec.Struct, frozen=True):
    """A connection that was made, and how long each step took, in seconds."""

    wire: Wire
    address: str
    port: int
    dns_seconds: float
    connect_seconds: float
    tls_seconds: float
    tls_version: str | None


class _Lookup:
    """A lookup that goes on; whoever needs the same name waits for it."""

    __slots__ = ("ended", "has_failed")

    def __init__(self) -> None:
        self.ended, self.has_failed = trio.Event(), False


class Dialer:
    """Makes connections for one trio run.

    Args:
        connect_s: how long name, connection and TLS may take together, in seconds.
        tls: whom to trust; None: the authorities that httpx trusts (SSL_CERT_FILE and SSL_CERT_DIR are heeded).
        sources: the clock.
        readiness: who waits for plain connections once they are made; None: trio.
    """

    def __init__(
        self,
        *,
        connect_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
        sources: Sources | None = None,
        readiness: Readiness | None = None,
    ) -> None:
        self._connect_s, self._tls, self._readiness = connect_s, tls, readiness
        self._clock = (sources or SystemSources()).monotonic_ns
        self._names: OrderedDict[tuple[str, int], tuple[int, list[Address]]] = OrderedDict()
        self._looking: dict[tuple[str, int], _Lookup] = {}
        self._lookups = trio.CapacityLimiter(_LOOKUPS_MAX)

    async def dial(self, origin: Origin, url: str, session: ssl.SSLSession | None = None) -> Dialled:
        """Connect to an origin; errors name the redacted `url`.

        Raises:
            NameNotResolved, ConnectRefused, ConnectFailed, CertificateRejected, TimedOut: no connection could be made.
        """
        try:
            with trio.fail_after(self._connect_s):
                return await self._dial(origin, url, session)
        except trio.TooSlowError:
            raise TimedOut(url, f"no connection within {self._connect_s:g} s") from None

    async def _dial(self, origin: Origin, url: str, session: ssl.SSLSession | None) -> Dialled:
        tls = self._context(url) if origin.scheme == "https" else None
        begun = self._clock()
        addresses = await self._addresses(origin.host, origin.port, url)
        resolved = self._clock()
        connected = await _race(addresses, url)
        peer = _peer(connected, url)
        made = self._clock()
        wire: Wire = PlainWire(connected, self._readiness)
        version = None
        if tls is not None:
            wire, version = await _secure(connected, tls, origin.host, url, session)
        ended = self._clock()
        return Dialled(
            wire,
            str(peer[0]),
            int(peer[1]),
            (resolved - begun) / 1e9,
            (made - resolved) / 1e9,
            (ended - made) / 1e9 if version else 0.0,
            version,
        )

    def _context(self, url: str) -> ssl.SSLContext:
        if self._tls is None:
            try:
                self._tls = trusting_context()
            except OSError as problem:
                what = f"the authorities' certificates cannot be read ({problem.strerror or 'not PEM'})"
                raise ConnectFailed(url, f"{what}, see SSL_CERT_FILE and SSL_CERT_DIR") from None
        return self._tls

    async def _addresses(self, host: str, port: int, url: str) -> list[Address]:
        key = (host, port)
        while (known := self._names.get(key)) is None or known[0] < self._clock():
            lookup = self._looking.get(key)
            if lookup is None:
                await self._look_up(host, port, url)
                continue
            await lookup.ended.wait()
            if lookup.has_failed:
                raise _no_name(url)
        return known[1]

    async def _look_up(self, host: str, port: int, url: str) -> None:
        key = (host, port)
        lookup = self._looking[key] = _Lookup()
        found: list[Address] = []
        try:
            if (literal := _literal(host, port)) is not None:
                found = [literal]
            else:
                async with self._lookups:
                    found = await _resolve(host, port)
        except (OSError, UnicodeError):  # the second: a label that is empty or too long
            lookup.has_failed = True
            raise _no_name(url) from None
        finally:
            self._looking.pop(key).ended.set()
        self._names.pop(key, None)
        while len(self._names) >= _DNS_NAMES_MAX:
            self._names.popitem(last=False)
        self._names[key] = (self._clock() + int(DNS_SECONDS * 1e9), found)


async def _secure(
    connected: socket.socket, tls: ssl.SSLContext, host: str, url: str, session: ssl.SSLSession | None
) -> tuple[Wire, str]:
    try:
        # For each connection anew: who else uses this context may speak HTTP/2, and would have it offered here as well.
        tls.set_alpn_protocols(["http/1.1"])
        stream = trio.SSLStream(
            trio.SocketStream(trio.socket.from_stdlib_socket(connected)),
            tls,
            server_hostname=host,
            # An end that TLS did not announce may be a stranger's doing, and ends no body (RFC 9112 §9.8).
            https_compatible=False,
        )
        if session is not None:
            stream.session = session
        await stream.do_handshake()
    except BaseException as problem:
        connected.close()
        if isinstance(problem, (trio.BrokenResourceError, OSError, ValueError)):
            raise _tls_failure(problem, url) from None
        raise
    return TlsWire(stream), str(stream.version())


def trusting_context() -> ssl.SSLContext:
    """TLS as httpx does it: certificates and host names are checked.

    Raises:
        OSError: the authorities that the environment names cannot be read.
    """
    import httpx

    return httpx.create_ssl_context()


def _no_name(url: str) -> RequestError:
    return NameNotResolved(url, "the name of the host has no address")


def _peer(connected: socket.socket, url: str) -> tuple[Any, ...]:
    """The other side. A connection that is reset as soon as it is made has none any more."""
    try:
        found: tuple[Any, ...] = connected.getpeername()
    except OSError:
        connected.close()
        raise ConnectFailed(url, "the connection broke as soon as it was made") from None
    return found


async def _resolve(host: str, port: int) -> list[Address]:
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return _alternating([(family, address) for family, _, _, _, address in found])


def _literal(host: str, port: int) -> Address | None:
    """The address that the host is already; a name server need not be asked."""
    try:
        version = ip_address(host).version
    except ValueError:
        return None
    return (socket.AF_INET, (host, port)) if version == 4 else (socket.AF_INET6, (host, port, 0, 0))


def _alternating(addresses: list[Address]) -> list[Address]:
    """The addresses with families in turn, the preferred one first (RFC 8305 §4)."""
    first = [address for address in addresses if address[0] == addresses[0][0]]
    second = [address for address in addresses if address[0] != addresses[0][0]]
    mixed: list[Address] = []
    for place in range(max(len(first), len(second))):
        mixed += first[place : place + 1] + second[place : place + 1]
    return mixed


async def _race(addresses: list[Address], url: str) -> socket.socket:
    """The first of the addresses that takes the connection; each has a head start on the next."""
    if len(addresses) == 1:
        try:
            return await _connect(addresses[0])
        except OSError as problem:
            raise _no_connection([problem], url) from None
    winner: list[socket.socket] = []
    problems: list[OSError] = []

    async def run(address: Address, failed: trio.Event) -> None:
        try:
            connected = await _connect(address)
        except OSError as problem:
            problems.append(problem)
            failed.set()
            return
        if winner:
            connected.close()
            return
        winner.append(connected)
        nursery.cancel_scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            for address in addresses:
                failed = trio.Event()
                nursery.start_soon(run, address, failed)
                with trio.move_on_after(_HEAD_START_SECONDS):
                    await failed.wait()
    except BaseException:
        for connected in winner:
            connected.close()
        raise
    if winner:
        return winner[0]
    raise _no_connection(problems, url)


async def _connect(address: Address) -> socket.socket:
    family, where = address
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        status = made.connect_ex(where)
        if status == errno.EINPROGRESS:
            await wait_writable(made)
            status = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, errno.errorcode.get(status, "unknown error"))
    except BaseException:
        made.close()
        raise
    return made


def _no_connection(problems: list[OSError], url: str) -> RequestError:
    if problems and all(problem.errno in _REFUSED_KINDS for problem in problems):
        return ConnectRefused(url, "connection refused")
    reason = os.strerror(problems[-1].errno or 0).lower() if problems else "no address"
    return ConnectFailed(url, f"no connection ({reason})")


def _tls_failure(problem: BaseException, url: str) -> RequestError:
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return CertificateRejected(url, f"the certificate is not to be trusted ({cause.verify_message})")
    if isinstance(cause, ssl.SSLError):
        return ConnectFailed(url, f"TLS failed ({cause.reason or cause})")
    if isinstance(problem, ValueError):
        return ConnectFailed(url, "TLS cannot ask for a host of this name")
    return ConnectFailed(url, "the connection broke in the middle of the TLS handshake")
