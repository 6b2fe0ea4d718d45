"""Where statements end, in text that is typed or piped."""

from collections.abc import Iterator

import hypothesis
import pytest
from hypothesis import strategies

from eventflow.cli.statements import all_in, is_finished, is_inside_literal, split, tokens
from eventflow.errors import UsageError

SQL_LETTERS = "ab'\"$;-/*\n é\u00a0\u3000\ufeff😀_1.\\`@e{}[]\udcff"


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("", [], ""),
        (";;; ;", [], ""),
        ("FROM runs", [], "FROM runs"),
        ("FROM runs; FROM events ;", ["FROM runs", "FROM events"], ""),
        ("SELECT 'it''s; é'; -- a; b", ["SELECT 'it''s; é'"], " -- a; b"),
        ('SELECT $$;$$, ";" /* ; */; FROM', ['SELECT $$;$$, ";" /* ; */'], " FROM"),
        ("-- only; this\n;", [], ""),
        ("SELECT ';", [], "SELECT ';"),
        ("PIVOT runs ON stage; SELECT FROM;", ["PIVOT runs ON stage", "SELECT FROM"], ""),
    ],
)
def test_a_semicolon_ends_a_statement_unless_it_is_in_a_string_or_a_comment(
    text: str, statements: list[str], rest: str
) -> None:
    """DuckDB's tokens decide; a statement that is wrong is one all the same, and comments alone are none."""
    assert split(text) == (statements, rest)


@hypothesis.given(strategies.one_of(strategies.text(), strategies.text(alphabet=SQL_LETTERS)))
def test_any_text_has_tokens_without_gaps(text: str) -> None:
    """Half a string, half a character, blanks of other scripts: nothing raises, and no letter is lost."""
    found = tokens(text)
    assert "".join(token.text for token in found) == (text[found[0].start :] if found else "")
    assert text.endswith(split(text)[1])
    assert is_finished(text) in (True, False)


def test_statements_come_as_soon_as_they_are_whole() -> None:
    """So a program can read an answer before it asks on; the last statement needs no semicolon."""
    read: list[str] = []

    def lines() -> Iterator[str]:
        for line in ("SELECT 1; SELECT\n", " 2;\n", "-- no more;\n", "FROM runs\n"):
            read.append(line)
            yield line

    found = all_in(lines())
    assert [next(found), len(read)] == ["SELECT 1", 1]
    assert [next(found), len(read)] == ["SELECT\n 2", 2]
    assert list(found) == ["-- no more;\nFROM runs"]


@pytest.mark.parametrize("text", ["SELECT '\udcff'; SELECT 1", "SELECT '\udcff'"])
def test_what_is_not_utf8_is_said_so(text: str) -> None:
    """Such bytes arrive as half characters, which DuckDB would meet with an error of another kind."""
    with pytest.raises(UsageError, match="not UTF-8"):
        list(all_in([text]))


def test_an_unfinished_statement_is_left_to_duckdb_to_complain_about() -> None:
    """It is not dropped."""
    assert list(all_in(["SELECT 1;\n", "SELECT 'a;\n", "b"])) == ["SELECT 1", "SELECT 'a;\nb"]


@pytest.mark.parametrize(
    ("text", "inside"),
    [("SELECT ", False), ("SELECT 'a", True), ("SELECT 'a'", False), ("-- a", True), ("-- a\n", False), ("/* a", True)],
)
def test_the_inside_of_a_string_or_comment_is_known(text: str, inside: bool) -> None:
    """Nothing is completed there."""
    assert is_inside_literal(text) == inside
