"""SQL as text that is being typed or piped: which pieces are statements, and is the last one finished?

DuckDB's own tokenizer decides what is a string, a comment or a semicolon, so that a `;` inside a text ends nothing. A
statement need not be right for that: what is wrong with it is said when it is asked, after those before it were
answered.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

import duckdb

from eventflow.errors import UsageError


class Token(NamedTuple):
    """A word, number, string, comment or operator: its text with the blanks behind it, and where that begins."""

    start: int
    kind: str
    text: str


def tokens(text: str) -> list[Token]:
    """The tokens of a text, which need not be whole: an open string or comment reaches to the end.

    >>> [(token.kind, token.text) for token in tokens("SELECT 'é;'; --")]
    [('keyword', 'SELECT '), ('string_const', "'é;'"), ('operator', '; '), ('comment', '--')]
    """
    raw = text.encode(errors="replace")  # what is no character came from a terminal or a pipe, and is one `?`
    found = [(start, kind.name) for start, kind in duckdb.tokenize(raw.decode())]
    ends = [*(start for start, _ in found), len(raw)]
    lengths = [len(raw[start:end].decode()) for start, end in pairwise(ends)]
    first = len(raw[: ends[0]].decode())
    starts = accumulate(lengths, initial=first)
    return [
        Token(start, kind, text[start : start + length])
        for start, (_, kind), length in zip(starts, found, lengths, strict=False)
    ]


def split(text: str) -> tuple[list[str], str]:
    """The statements that a `;` ends, without it, and the text after the last `;`. Comments alone are no statement.

    >>> split("FROM runs; SELECT ';' -- ; this too; FROM ev")
    (['FROM runs'], " SELECT ';' -- ; this too; FROM ev")
    """
    pieces, begin, says_something = [], 0, False
    for token in tokens(text):
        if _is_semicolon(token):
            if says_something:
                pieces.append(text[begin : token.start].strip())
            begin, says_something = token.start + 1, False
        elif token.kind != "comment":
            says_something = True
    return pieces, text[begin:]


def all_in(lines: Iterable[str]) -> Iterator[str]:
    """The statements of a text that comes line by line, each as soon as it is whole; the last needs no `;`.

    Raises:
        UsageError: the text is not UTF-8.
    """
    rest = ""
    try:
        for line in lines:
            rest += line
            if ";" in line:
                found, rest = split(rest)
                yield from map(_checked, found)
        rest = _checked(rest)
    except UnicodeError as problem:
        raise UsageError("the statements are not UTF-8", "save them as UTF-8 and try again") from problem
    if _says_something(rest):
        yield rest.strip()


def is_finished(text: str) -> bool:
    """Whether it ends with a `;` that ends a statement; comments may follow.

    >>> is_finished("FROM runs"), is_finished("FROM runs; -- all"), is_finished("SELECT ';")
    (False, True, False)
    """
    return any(map(_is_semicolon, tokens(text))) and not _says_something(split(text)[1])


def is_inside_literal(text: str) -> bool:
    """Whether what is typed next would be part of a string or a comment."""
    last = tokens(f"{text} x")[-1]
    return last.start <= len(text)


def _checked(text: str) -> str:
    """The text. Bytes that are no UTF-8 may have come into it as half characters, which raise a UnicodeError here."""
    text.encode()
    return text


def _says_something(text: str) -> bool:
    return any(token.kind != "comment" for token in tokens(text))


def _is_semicolon(token: Token) -> bool:
    return token.kind == "operator" and token.text.startswith(";")
