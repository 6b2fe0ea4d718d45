"""What several charts need of an unsealed run, computed once, and the requests by the run's own time.

A view over a run that is not sealed reads and parses the log anew in each query. A report asks two dozen of them, so
what they ask for is computed at the first and kept in the connection, which is in memory and for this report alone.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

KEPT_VIEWS = ("made.requests", "made.attempts", "made.sittings", "log.readings", "log.accounts")
"""What the views of runs that are not sealed are made of. The views of sealed ones are in files already."""


def keep(connection: "duckdb.DuckDBPyConnection") -> None:
    """Compute once what a report asks for again and again. Later queries of this connection find the same as before."""
    connection.execute("CREATE SCHEMA kept")
    for view in KEPT_VIEWS:
        name = f"kept.{view.replace('.', '_')}"
        connection.execute(f"CREATE TABLE {name} AS FROM {view}; CREATE OR REPLACE VIEW {view} AS FROM {name}")
    connection.execute("CREATE TABLE kept.runs AS FROM made.runs; CREATE OR REPLACE VIEW made.runs AS FROM kept.runs")


def timed_requests(connection: "duckdb.DuckDBPyConnection") -> None:
    """Make the table `timed`: the requests, with seconds since the run's start instead of times.

    Pauses before a resume are left out. Columns: run, number, state, queued, started, ended (NULL while unfinished),
    over (the end, or that of the sitting in which it was cut off), started_at.
    """
    connection.execute("""
        CREATE TEMP TABLE IF NOT EXISTS timed AS
        WITH told AS (
            SELECT
                run, number, state, queued_at, started_at, ended_at,
                epoch_ns(coalesce(ended_at, started_at, queued_at)) AS told_ns
            FROM requests
        )
        SELECT
            run, number, told.state, started_at,
            greatest(0, worked_seconds + (epoch_ns(queued_at) - start_ns) / 1e9) AS queued,
            greatest(0, worked_seconds + (epoch_ns(started_at) - start_ns) / 1e9) AS started,
            greatest(0, worked_seconds + (epoch_ns(ended_at) - start_ns) / 1e9) AS ended,
            coalesce(ended, worked_seconds + sittings.seconds) AS over
        FROM told JOIN log.sittings AS sittings USING (run)
        WHERE told_ns BETWEEN since_ns - 999 AND until_ns - 1000
    """)
