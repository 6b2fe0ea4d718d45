"""The cookbook: questions that people ask of their runs, each with the SQL that answers it.

A recipe is a file in `recipes/`: its first line is the question, the comment below it says what the rows are and what
to change for another run, host or file. `eventflow sql --cookbook` lists them and docs/cookbook.md shows them.

Invariants:
    every file in `recipes/` is a recipe here, and every recipe is one statement that `eventflow.log.sql.query` accepts;
    recipes look at `requests`, `attempts`, `samples` and `runs`. Those that need `events` look at single stories or
    at a type that is rare, or only count: then they are quick also where there are ten million.
"""

from importlib.resources import files

import msgspec

_NAMES = (
    "slowest-hosts",
    "slowest-requests",
    "first-byte",
    "where-time-goes",
    "critical-path",
    "error-causes",
    "retries-per-host",
    "why-retried",
    "slow-connections",
    "limit-moves",
    "in-flight",
    "throughput",
    "memory-peak",
    "still-running",
    "who-caused-this-file",
    "events-lost",
    "compare-two-runs",
    "cost-per-stage",
)


class Recipe(msgspec.Struct, frozen=True):
    """A question, its name on the command line, and the statement that answers it, with its comment."""

    name: str
    question: str
    statement: str


def _read(name: str) -> Recipe:
    text = files("eventflow.log").joinpath("recipes", f"{name}.sql").read_text(encoding="utf-8")
    question, _, statement = text.partition("\n")
    return Recipe(name, question.removeprefix("-- "), statement.strip())


RECIPES = tuple(map(_read, _NAMES))
"""All recipes, those about speed first."""
