"""What could be typed next at the prompt: commands, views, columns, functions and keywords.

Views and columns come from `eventflow.log.views`, functions and keywords from DuckDB's own catalogue. (DuckDB has a
completer of its own, in an extension that its Python package does not bring along, and nothing is downloaded here.)

Invariants:
    nothing is offered inside a string or a comment;
    what is offered begins with what was typed, in capitals or not.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import duckdb
import msgspec

from eventflow.cli.statements import is_inside_literal, split, tokens
from eventflow.log.views import VIEWS, View

_TYPED = re.compile(r"(?:([A-Za-z_]\w*)\.)?([A-Za-z_]\w*)?$")
_CTE = re.compile(
    r"(?:\bWITH(?:\s+RECURSIVE)?|,)\s+(\w+)\s+AS\s+(?:MATERIALIZED\s+|NOT\s+MATERIALIZED\s+)?\(", re.IGNORECASE
)
_BEFORE_VIEWS = {"FROM", "JOIN", "DESCRIBE", "DESC", "SUMMARIZE", "TABLE"}
_BEGINNINGS = ("SELECT", "FROM", "WITH", "DESCRIBE", "SUMMARIZE", "SHOW", "EXPLAIN")
_NOTHING_ELSE = {"reserved", "type_function"}
_BY_NAME = {view.name: view for view in VIEWS}


class Candidate(NamedTuple):
    """A text for the place of the last `replaces` characters, and a few words about it."""

    text: str
    replaces: int
    about: str = ""


class Words(msgspec.Struct, frozen=True):
    """What DuckDB knows: keywords that are nothing else, functions with what they do, and words for rare clauses."""

    keywords: Sequence[str]
    functions: Sequence[tuple[str, str]]
    rare: Sequence[str]


def read_words(connection: duckdb.DuckDBPyConnection) -> Words:
    """The words of this connection's DuckDB. Operators, inner functions and those that read files are left out."""
    keywords = connection.execute(
        "SELECT upper(keyword_name), keyword_category FROM duckdb_keywords() ORDER BY keyword_name"
    ).fetchall()
    functions = connection.execute(
        """
        SELECT function_name, coalesce(any_value(description), '')
        FROM duckdb_functions()
        WHERE function_type IN ('scalar', 'aggregate', 'macro', 'window') AND schema_name = 'main'
          AND regexp_full_match(function_name, '[a-z]\\w*')
        GROUP BY function_name
        ORDER BY function_name
        """
    ).fetchall()
    names = {name.upper() for name, _ in functions}
    return Words(
        [word for word, category in keywords if category in _NOTHING_ELSE],
        functions,
        [word for word, category in keywords if category not in _NOTHING_ELSE and word not in names],
    )


def complete(before: str, after: str, words: Words) -> Iterator[Candidate]:
    """What can be typed in SQL between the text before the cursor and the text after it, the likeliest first."""
    if is_inside_literal(before):
        return
    statement = split(before)[1]
    found = _TYPED.search(statement)
    assert found  # it matches the empty text too
    qualifier, typed = found[1], found[2] or ""
    whole = statement + re.split(";", after, maxsplit=1)[0]
    last = [token.text.strip().upper() for token in tokens(statement[: found.start()]) if token.kind != "comment"][-1:]
    if qualifier:
        offered = _columns(_named_by(qualifier, whole))
    elif not last:
        offered = _of_beginning(typed, words)
    elif last[0] in _BEFORE_VIEWS:
        offered = _views(whole)
    else:
        offered = _of_middle(typed, whole, words)
    seen: set[str] = set()
    for text, about in offered:
        if text.lower().startswith(typed.lower()) and text not in seen:
            seen.add(text)
            yield Candidate(text, len(typed), about)


def views_in(statement: str) -> list[View]:
    """The views that a statement names, in the order of `VIEWS`."""
    return [view for view in VIEWS if re.search(rf"\b{view.name}\b", statement, re.IGNORECASE)]


def _named_by(qualifier: str, statement: str) -> list[View]:
    """The view of this name, or those that have it as an alias: `runs r`, `runs AS r`."""
    if qualifier.lower() in _BY_NAME:
        return [_BY_NAME[qualifier.lower()]]
    alias = re.escape(qualifier)
    return [view for view in VIEWS if re.search(rf"\b{view.name}\s+(?:AS\s+)?{alias}\b", statement, re.IGNORECASE)]


def _of_beginning(typed: str, words: Words) -> Iterator[tuple[str, str]]:
    yield from ((_like(word, typed), "") for word in _BEGINNINGS)
    if typed:
        yield from ((_like(word, typed), "") for word in words.keywords)


def _of_middle(typed: str, statement: str, words: Words) -> Iterator[tuple[str, str]]:
    """Without a letter typed only columns and views: of the others there are more than a thousand."""
    yield from _columns(views_in(statement) or VIEWS)
    yield from _views(statement)
    if typed:
        yield from ((_like(word, typed), "") for word in words.keywords)
        yield from ((f"{name}(", about) for name, about in words.functions)
        yield from ((_like(word, typed), "") for word in words.rare)


def _columns(views: Sequence[View]) -> Iterator[tuple[str, str]]:
    for view in views:
        for column in view.columns:
            yield column.name, f"{view.name}: {column.description}"


def _views(statement: str) -> Iterator[tuple[str, str]]:
    yield from ((view.name, view.description) for view in VIEWS)
    yield from ((name, "named above by WITH") for name in _CTE.findall(statement))


def _like(word: str, typed: str) -> str:
    """A keyword as the person writes them: small where a small letter was typed, else in capitals."""
    return word.lower() if typed[:1].islower() else word
