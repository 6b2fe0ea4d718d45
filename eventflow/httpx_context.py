"""The context of the current span in the headers of a request that httpx sends.

httpx calls this for each request of a redirect's chain, whose headers it copies from the one before.
"""

import os

import httpx

from eventflow.propagation import Origins, Propagation
from eventflow.recorder import CURRENT


class ContextHeaders:
    """What `httpx.Client` takes as an event hook for requests.

    Args:
        origins: who is told; a request to another origin, also after a redirect, carries nothing.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = Origins(origins)
        self._propagation = Propagation(os.environ)

    def add(self, request: httpx.Request) -> None:
        """Set the headers for where the request goes now."""
        span, url = CURRENT.get(None), request.url
        if span is None:
            return
        headers = self._propagation.headers(span.stream.trace_id, span.span_id)
        if self._origins.allows(url.scheme, url.raw_host.decode("ascii"), url.port):
            request.headers.update(headers)
            return
        for name in headers:
            request.headers.pop(name, None)

    async def add_async(self, request: httpx.Request) -> None:
        """The same for `httpx.AsyncClient`."""
        self.add(request)
