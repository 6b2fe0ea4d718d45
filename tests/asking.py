"""Asking a store in SQL, for tests."""

from pathlib import Path
from typing import Any

from eventflow.log.sql import connect, query


def ask(store: Path, statement: str, runs: list[str] | None = None) -> list[tuple[Any, ...]]:
    """The rows of a query over a store."""
    return list(query(connect(store, runs), statement).rows())


def one(store: Path, statement: str) -> Any:
    """The only value of a query's only row."""
    ((value,),) = ask(store, statement)
    return value
