"""What Tab offers in SQL."""

import duckdb
import pytest

from eventflow.cli.completion import Words, complete, read_words
from eventflow.log.views import VIEWS

VIEW_NAMES = [view.name for view in VIEWS]
WORDS = Words(["FROM", "LEFT", "SELECT", "WHERE"], [("left", "the first letters"), ("length", "")], ["LEAKPROOF"])


def offered(before: str, after: str = "") -> list[str]:
    """The texts, in order."""
    return [candidate.text for candidate in complete(before, after, WORDS)]


def test_a_statement_begins_with_a_verb() -> None:
    """At its very beginning, and after another one."""
    assert offered("")[:2] == offered("FROM runs; ")[:2] == ["SELECT", "FROM"]
    assert offered("fr") == ["from"]


@pytest.mark.parametrize("before", ["FROM ", "select * from runs JOIN ", "DESCRIBE ", "FROM -- which?\n "])
def test_views_follow_from_and_join(before: str) -> None:
    """And nothing else does; half a name is completed."""
    assert offered(before) == VIEW_NAMES
    assert offered(f"{before}req") == ["requests"]


def test_names_that_with_gives_are_views_too() -> None:
    """A query in several steps is completed like one over views."""
    assert offered("WITH slow AS (FROM runs), far AS MATERIALIZED (FROM slow) FROM ")[-2:] == ["slow", "far"]


def test_columns_are_those_of_the_views_in_the_statement() -> None:
    """Also where FROM comes after the cursor; without a view, of all."""
    assert offered("SELECT peak", " FROM runs") == ["peak_memory_bytes"]
    assert offered("SELECT peak", " FROM attempts") == []
    assert offered("SELECT peak", "; FROM attempts") == ["peak_memory_bytes", "peak_bytes"]
    assert offered("FROM attempts SELECT ")[0] == "run"
    assert "url" not in offered("FROM attempts SELECT ")


def test_a_view_or_its_alias_before_a_dot_names_the_columns() -> None:
    """And what is no view has none."""
    columns = [column.name for view in VIEWS if view.name == "runs" for column in view.columns]
    assert offered("FROM requests r, runs AS a WHERE a.") == columns
    assert offered("SELECT Runs.sta") == ["stage", "state", "started_at"]
    assert offered("SELECT r.sta", " FROM attempts JOIN runs r USING (run)") == ["stage", "state", "started_at"]
    assert offered("SELECT nothing.") == []


def test_words_of_sql_come_after_columns_and_as_they_are_typed() -> None:
    """Small letters stay small; a function brings its bracket; rare words come last."""
    assert offered("FROM runs SELECT le") == ["left", "left(", "length(", "leakproof"]
    assert offered("FROM runs SELECT LE") == ["LEFT", "left(", "length(", "LEAKPROOF"]


@pytest.mark.parametrize("before", ["SELECT 'se", "-- se", "FROM runs WHERE stage = 'a; se", '/* "', 'SELECT "se'])
def test_nothing_is_offered_in_strings_and_comments(before: str) -> None:
    """What is typed there is nobody's name."""
    assert offered(before) == []


def test_a_candidate_replaces_what_was_typed_of_it() -> None:
    """And says what it is."""
    (candidate,) = complete("FROM runs WHERE peak", "", WORDS)
    assert candidate.replaces == len("peak")
    assert candidate.about.startswith("runs: the most memory")


def test_duckdb_knows_its_words() -> None:
    """Its catalogue has the keywords and functions, without operators and inner functions."""
    words = read_words(duckdb.connect())
    assert {"SELECT", "LEFT", "QUALIFY"} <= set(words.keywords)
    assert "PARTITION" in words.rare
    functions = dict(words.functions)
    assert {"quantile_cont", "date_trunc", "row_number"} <= set(functions)
    assert all(name.isidentifier() and not name.startswith("_") for name in functions)
    assert "read_csv" not in functions
