"""HTTP: one exchange, well done. A transport for trio with the rules of downloading that are pure functions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventflow.http.transport import Transport

__all__ = ["Transport"]


def __getattr__(name: str) -> object:
    """`Transport` needs httpx, which takes a while to load, and nothing else in here does."""
    if name == "Transport":
        from eventflow.http.transport import Transport

        return Transport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
