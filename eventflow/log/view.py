"""What a view of `eventflow sql` is: its name, its columns, and what they hold."""

import msgspec

TIME = "TIMESTAMP WITH TIME ZONE"
TEXTS = "MAP(VARCHAR, VARCHAR)"


class Column(msgspec.Struct, frozen=True):
    """A column of a view: its name, its DuckDB type and what it holds. It is NULL only where that says so."""

    name: str
    type: str
    description: str


class View(msgspec.Struct, frozen=True):
    """A view: its name, what a row is, and its columns in order."""

    name: str
    description: str
    columns: tuple[Column, ...]
