"""Whoever shows the current span to another library, so that what that one records nests under ours.

Between the recorder, which says when a span becomes the current one, and OpenTelemetry's API, which the kernel does not
know: `instrumentation.context` does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Mirror(Protocol):
    """Shows the current span in the thread or task that it is current in. It raises nothing."""

    def show(self, trace_id: str, span_id: str) -> object:
        """This span is the current one; gives what `hide` needs, None where there is nothing to hide."""
        ...

    def hide(self, shown: object) -> None:
        """What was current before is so again."""
        ...


installed: Mirror | None = None
"""This process's, to be taken along to another one."""


def hide(shown: object) -> None:
    """Take back what the mirror that is installed gave for a span."""
    if installed is not None:
        installed.hide(shown)


@contextmanager
def mirrored_by(mirror: Mirror | None) -> Iterator[None]:
    """Within, the spans that become current in this process are shown by it."""
    global installed  # noqa: PLW0603  (one for the process, read at each entry into a span)
    before, installed = installed, mirror
    try:
        yield
    finally:
        installed = before
