"""A variable of OpenTelemetry's that does something here, for the documents."""

from typing import NamedTuple


class Honoured(NamedTuple):
    """A variable, or several that belong together, and what it does here."""

    name: str
    effect: str
