"""What the views of `eventflow sql` are, as data: for `--views`, for docs/sql.md and for the test that compares them.

The SQL that makes them is in views.sql.

Invariants:
    the views and columns named here are those of a connection, in the same order and of the same types.
"""

from eventflow.log.measured_views import LATENCIES, METRICS, PROCESSES, SAMPLES, USAGE
from eventflow.log.view import TEXTS, TIME, Column, View

__all__ = ["VIEWS", "Column", "View"]

RUNS = View(
    "runs",
    "One row for each run that has begun. Its numbers are counted from the log, so they are right while it goes on.",
    (
        Column("run", "VARCHAR", "the run's name, which sorts by the time at which it was made"),
        Column("stage", "VARCHAR", "the stage that carried it out"),
        Column("workers", "BIGINT", "how many requests it carried out at once"),
        Column("state", "VARCHAR", "`completed`, `interrupted` or `failed`; `unfinished`: it goes on, or was killed"),
        Column("started_at", TIME, "when it began"),
        Column("ended_at", TIME, "when it ended; NULL while it is unfinished"),
        Column("seconds", "DOUBLE", "how long it took so far; pauses before a resume do not count"),
        Column("requests", "BIGINT", "how many requests were read from the input"),
        Column("completed", "BIGINT", "how many of them are completed"),
        Column("failed", "BIGINT", "how many failed"),
        Column("cancelled", "BIGINT", "how many were cancelled in flight"),
        Column("bytes", "BIGINT", "the size of the completed files together"),
        Column("requests_per_second", "DOUBLE", "`completed / seconds`; NULL where no time has passed"),
        Column(
            "peak_memory_bytes",
            "BIGINT",
            "the most memory of all its processes together in one sample; NULL without samples",
        ),
        Column("memory_kind", "VARCHAR", "what that sample is the sum of: `pss` or `rss`; NULL without samples"),
        Column("cpu_seconds", "DOUBLE", "user and system time of all its processes; NULL without samples"),
        Column("events", "BIGINT", "how many events it has"),
        Column("labels", TEXTS, "what its owner calls it by: `--label KEY=VALUE`; may be empty"),
        Column(
            "first_result_seconds",
            "DOUBLE",
            "from the start to the first request's completion; NULL if none is completed",
        ),
        Column("bytes_per_second", "DOUBLE", "`bytes / seconds`; NULL where no time has passed"),
        Column(
            "energy_joules",
            "DOUBLE",
            "what CPUs and memory took, measured or by the model for this machine; NULL where nothing was measured",
        ),
        Column("energy_kind", "VARCHAR", "`measured` or `modelled`; NULL without energy"),
    ),
)

EVENTS = View(
    "events",
    "One row for each event, as it was written.",
    (
        Column("id", "VARCHAR", "UUIDv7, unique"),
        Column("type", "VARCHAR", "what happened, for example `attempt.started`"),
        Column("time", TIME, "when, by the wall clock, to the microsecond"),
        Column("time_ns", "BIGINT", "the same in nanoseconds since 1970, as it was written"),
        Column("run", "VARCHAR", "the run"),
        Column("stream", "VARCHAR", "the story that it belongs to: `run`, `request-17`"),
        Column("version", "BIGINT", "its place in that story, from 0, without gaps"),
        Column("writer", "VARCHAR", "the process that wrote it"),
        Column("seq", "BIGINT", "its place in that process's log, from 0, without gaps"),
        Column("trace_id", "VARCHAR", "the W3C trace id of the story"),
        Column("span_id", "VARCHAR", "the W3C id of the span that it belongs to"),
        Column("parent_span_id", "VARCHAR", "the span that encloses that one; NULL for a root"),
        Column(
            "links",
            "STRUCT(id VARCHAR, trace_id VARCHAR, span_id VARCHAR)[]",
            "the events that caused it; may be empty",
        ),
        Column("data", "JSON", "what it says; the fields depend on the type"),
    ),
)

REQUESTS = View(
    "requests",
    "One row for each request, as its last try left it: after a resume the last outcome counts.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("stage", "VARCHAR", "the stage"),
        Column("number", "BIGINT", "its place in the input, from 0"),
        Column("stream", "VARCHAR", "the name of its story, `request-<number>`"),
        Column("url", "VARCHAR", "the URL, without secrets"),
        Column("name", "VARCHAR", "the name of its file; empty where the line of the input is not a request"),
        Column("state", "VARCHAR", "`queued`, `started`, `completed`, `failed` or `cancelled`"),
        Column("queued_at", TIME, "when it was read from the input"),
        Column("started_at", TIME, "when a worker took it; NULL before"),
        Column("ended_at", TIME, "when it was completed, failed or cancelled; NULL before"),
        Column("wait_seconds", "DOUBLE", "from queued to started; NULL before"),
        Column("seconds", "DOUBLE", "from started to the end, with all tries and the waits between them; NULL before"),
        Column("bytes", "BIGINT", "the size of the file; NULL unless completed"),
        Column("error", "VARCHAR", "the kind of failure; NULL unless failed"),
        Column("message", "VARCHAR", "the failure in one line; NULL unless failed"),
        Column("attempts", "BIGINT", "how many attempts were started, those before a resume and redirects included"),
        Column("redirects", "BIGINT", "how many of them were redirected"),
        Column("delayed_seconds", "DOUBLE", "how long it was put off before further tries, together, as was decided"),
        Column(
            "connect_seconds",
            "DOUBLE",
            "how long its new connections took together: name, connection and TLS; NULL where none was opened, or none "
            "told",
        ),
        Column("trace_id", "VARCHAR", "the trace id of its story"),
    ),
)

ATTEMPTS = View(
    "attempts",
    "One row for each attempt: one try of a request on the wire, or one step of it between redirects. What only "
    "`director` and `lineage` see is NULL in the other stages: connections and their times, when a request was sent, "
    "ranges, redirects.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("number", "BIGINT", "the request's place in the input"),
        Column("stream", "VARCHAR", "the name of the request's story"),
        Column("resend_count", "INTEGER", "how many attempts there were before this one"),
        Column("server_address", "VARCHAR", "the host"),
        Column("server_port", "INTEGER", "the port"),
        Column("started_at", TIME, "when the request was handed to the HTTP client"),
        Column("connection", "VARCHAR", "the connection that it went over, named within the run; NULL without one"),
        Column("is_kept", "BOOLEAN", "whether that was there already; false where it was opened; NULL without one"),
        Column("dns_seconds", "DOUBLE", "of opening it: looking up the name; NULL unless it was opened"),
        Column("connect_seconds", "DOUBLE", "then connecting; NULL unless it was opened"),
        Column("tls_seconds", "DOUBLE", "then agreeing on TLS, 0 without TLS; NULL unless it was opened"),
        Column("sent_seconds", "DOUBLE", "from the start until the request was sent; NULL if it was not"),
        Column("range_start", "BIGINT", "the first byte that was asked for; NULL where the whole was"),
        Column("status", "INTEGER", "the HTTP status; NULL without a response"),
        Column("response_seconds", "DOUBLE", "from the start to status and headers; NULL without a response"),
        Column("body_seconds", "DOUBLE", "from the response to the last byte; NULL without a whole body"),
        Column("bytes", "BIGINT", "the size of the body, with 206 that of the range; NULL without a whole body"),
        Column("seconds", "DOUBLE", "from the start to the end; NULL while unfinished"),
        Column("error", "VARCHAR", "the kind of failure; NULL unless failed"),
        Column("message", "VARCHAR", "the failure in a few words; NULL unless failed"),
        Column("redirected_to", "VARCHAR", "the URL of the next attempt, without secrets; NULL unless redirected"),
        Column(
            "state",
            "VARCHAR",
            "`completed`, `redirected` or `failed`; `unfinished`: in flight, cancelled or cut off by a crash",
        ),
        Column("ended_at", TIME, "when it was completed, redirected or failed; NULL while unfinished"),
        Column("trace_id", "VARCHAR", "the trace id of the request's story"),
        Column("span_id", "VARCHAR", "the id of its span"),
    ),
)

ORIGINS = View(
    "origins",
    "One row for each host and port that a run asked.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("server_address", "VARCHAR", "the host"),
        Column("server_port", "INTEGER", "the port"),
        Column("requests", "BIGINT", "how many requests asked it for something"),
        Column("attempts", "BIGINT", "how many attempts they made there"),
        Column("completed", "BIGINT", "how many of these were completed"),
        Column("redirected", "BIGINT", "how many were sent on"),
        Column("failed", "BIGINT", "how many failed"),
        Column(
            "retries",
            "BIGINT",
            "how many came right behind a failed one of the same request",
        ),
        Column("bytes", "BIGINT", "the size of all whole bodies from there"),
        Column("response_seconds", "DOUBLE", "the median time from start to response; NULL without any"),
        Column("connections", "BIGINT", "how many connections to it were opened; 0 where the stage does not see them"),
        Column("limit_min", "BIGINT", "the fewest requests that it was given at once; NULL if nothing says it"),
        Column("limit_max", "BIGINT", "the most that it was given at once; NULL if nothing says it"),
        Column("limit_last", "BIGINT", "the limit in the end, or now, of the process that changed it last"),
        Column("breaker_openings", "BIGINT", "how often it was left alone, since it failed again and again"),
    ),
)

OPERATIONS = View(
    "operations",
    "One row for each operation of a dataflow, as its last try left it. The stages of today have none.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("stream", "VARCHAR", "the name of its story, `operation-<name>-<number>`"),
        Column("operation", "VARCHAR", "the name of the node"),
        Column("number", "BIGINT", "which of the node's operations it is; NULL where its story has another name"),
        Column("state", "VARCHAR", "`queued`, `started`, `completed`, `failed` or `cancelled`"),
        Column("queued_at", TIME, "when its inputs were there; NULL where nothing said so"),
        Column("started_at", TIME, "when an engine took it; NULL before"),
        Column("ended_at", TIME, "when it was completed, failed or cancelled; NULL before"),
        Column("wait_seconds", "DOUBLE", "from queued to started; NULL before"),
        Column("seconds", "DOUBLE", "from started to the end; NULL before"),
        Column("engine", "VARCHAR", "where it was carried out; NULL where nothing said so"),
        Column("error", "VARCHAR", "the kind of failure; NULL unless failed"),
        Column("message", "VARCHAR", "the failure in one line; NULL unless failed"),
        Column("trace_id", "VARCHAR", "the trace id of its story"),
    ),
)

SPANS = View(
    "spans",
    "One row for each span of a trace: a request and each of its steps, the run, its stage, its processes.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("stream", "VARCHAR", "the story that it belongs to: `run`, `request-17`"),
        Column("number", "BIGINT", "the request's place in the input; NULL in a story that is not a request's"),
        Column("trace_id", "VARCHAR", "the W3C trace id"),
        Column("span_id", "VARCHAR", "the W3C id of the span"),
        Column("parent_span_id", "VARCHAR", "the span that encloses it; NULL for a root"),
        Column(
            "name",
            "VARCHAR",
            "`request`, `queue`, `attempt`, `connect`, `body`, `verify`, `store`, `program`, `operation`; `run`, "
            "`stage`, `process`, `origin`; of your own events, what is before the dot",
        ),
        Column("started_at", TIME, "when it began"),
        Column("ended_at", TIME, "when it was over; NULL while unfinished"),
        Column(
            "seconds",
            "DOUBLE",
            "how long it took, as its last event says: a request's does not count the wait for a worker, which is the "
            "span `queue`; NULL while unfinished, or where no event says it",
        ),
        Column(
            "state",
            "VARCHAR",
            "`completed`, `redirected`, `failed`, `cancelled` or `interrupted`; `unfinished`: it goes on, or was cut "
            "off by a crash; an `origin` lasts from the first event of it to the last",
        ),
        Column("error", "VARCHAR", "the kind of failure; NULL unless failed"),
        Column("events", "BIGINT", "how many events it has"),
    ),
)

LINKS = View(
    "links",
    "One row for each prev pointer: an event and one that caused it.",
    (
        Column("run", "VARCHAR", "the run"),
        Column("effect_id", "VARCHAR", "the event that was caused"),
        Column("effect_type", "VARCHAR", "what it is, for example `request.queued`"),
        Column("effect_stream", "VARCHAR", "the story that it belongs to"),
        Column("effect_version", "BIGINT", "its place in that story"),
        Column("cause_id", "VARCHAR", "the event that caused it, of the same run"),
        Column("cause_trace_id", "VARCHAR", "the trace of that event"),
        Column("cause_span_id", "VARCHAR", "the span of that event"),
    ),
)

VIEWS = (
    RUNS,
    REQUESTS,
    ATTEMPTS,
    ORIGINS,
    OPERATIONS,
    SPANS,
    LINKS,
    SAMPLES,
    PROCESSES,
    USAGE,
    LATENCIES,
    METRICS,
    EVENTS,
)
