"""HTTP: one exchange, well done. A transport for trio with the rules of downloading that are pure functions."""

from eventflow.http.transport import Transport

__all__ = ["Transport"]
