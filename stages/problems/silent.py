"""Servers that stop speaking, each at another point of an HTTP exchange."""

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
SAID = {
    "the request, and no answer": b"",
    "half of the headers": _HEAD,
    "half of the body": _HEAD + b"\r\n" + bytes(50_000),
}
UNREACHED = "no connection"
_LOOK_SECONDS = 0.05


@contextmanager
def silent_servers() -> Iterator[dict[str, int]]:
    """Four servers on this machine while the context lasts: what each lets happen, and its port."""
    with contextlib.ExitStack() as stack:
        listening = {what: stack.enter_context(socket.create_server(("127.0.0.1", 0))) for what in SAID}
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):  # as many as wait to be accepted; the next gets no answer to its SYN
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        stopping = threading.Event()
        thread = threading.Thread(target=_serve, args=(listening, stopping), daemon=True, name="silent-servers")
        thread.start()
        stack.callback(thread.join)
        stack.callback(stopping.set)
        yield {what: server.getsockname()[1] for what, server in ((UNREACHED, full), *listening.items())}


def _serve(listening: dict[str, socket.socket], stopping: threading.Event) -> None:
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as accepted:
        for what, server in listening.items():
            selector.register(server, selectors.EVENT_READ, SAID[what])
        while not stopping.is_set():
            for key, _ in selector.select(_LOOK_SECONDS):
                assert isinstance(key.fileobj, socket.socket)
                connection, _ = key.fileobj.accept()
                accepted.enter_context(connection).sendall(key.data)
