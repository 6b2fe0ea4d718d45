"""Writes the parts of the documents that are made from the program.

They are the views in docs/sql.md, the instruments in docs/metrics.md, the attributes and variables in docs/tracing.md,
and docs/cookbook.md.

    python docs/make_pages.py

A test compares, so run this after a change to eventflow/log/views.py, eventflow/log/recipes/,
instrumentation/measures/instruments.py, instrumentation/traces/attributes.py or instrumentation/otlp/settings.py.
"""

from pathlib import Path

from eventflow.log.cookbook import RECIPES
from eventflow.log.views import VIEWS, View
from instrumentation.measures.instruments import markdown
from instrumentation.otlp.settings import variable_table
from instrumentation.traces.attributes import attribute_table

DOCS = Path(__file__).parent
BEGIN, END = "<!-- made by docs/make_pages.py -->\n\n", "<!-- until here -->\n"
COOKBOOK = """# Cookbook

Questions that people ask of their runs, each with the SQL that answers it. `eventflow sql --cookbook`
lists them. Take one as a beginning: its comment says what to change for another run, host or file. What the views hold
is in [sql.md](sql.md).

In each, *the newest run* is the one that was made last. Copy a query, change it, and give it to `eventflow sql`, or to
`eventflow.query` in Python.

"""


def view_section(view: View) -> str:
    rows = [f"| `{column.name}` | {column.type} | {column.description} |\n" for column in view.columns]
    head = "| column | type | what it holds |\n|---|---|---|\n"
    return f"### `{view.name}`\n\n{view.description}\n\n{head}{''.join(rows)}\n"


def sql_page(before: str) -> str:
    """docs/sql.md with its views as they are, and all the rest as it was."""
    return replaced(before, "".join(map(view_section, VIEWS)))


def replaced(before: str, *made: str) -> str:
    """A page with what is made in it as it is, one piece after the other, and all the rest as it was."""
    page, rest = "", before
    for piece in made:
        head, _, rest = rest.partition(BEGIN)
        page += head + BEGIN + piece + END
        rest = rest.partition(END)[2]
    return page + rest


def cookbook_page() -> str:
    sections = [f"## `{recipe.name}`\n\n{recipe.question}\n\n```sql\n{recipe.statement}\n```\n" for recipe in RECIPES]
    return COOKBOOK + "\n".join(sections)


def pages() -> dict[Path, str]:
    """What each document should be."""
    sql, metrics, tracing = DOCS / "sql.md", DOCS / "metrics.md", DOCS / "tracing.md"
    return {
        sql: sql_page(sql.read_text(encoding="utf-8")),
        metrics: replaced(metrics.read_text(encoding="utf-8"), markdown() + "\n"),
        tracing: replaced(tracing.read_text(encoding="utf-8"), attribute_table() + "\n\n", variable_table() + "\n\n"),
        DOCS / "cookbook.md": cookbook_page(),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
