-- The views of `eventflow sql`, one statement after the other. Their columns are described in views.py and docs/sql.md.
--
-- Before this runs, sql.py has made, in the schema `log`:
--   log.committed (line)     every committed line: of the segments that do not grow any more, read from the files in each
--                            query; of those that grow or are torn, as they were when the connection was made
--   log.sealed, log.settled  the events of the sealed segments: of runs that can still go on, and of those that are settled
--   log.stages (run, stage, labels)  what each run.json says
--
-- There are three layers. `log.events` has every event with typed columns, wherever it is kept. The schema `made` has what is
-- computed from it, and looks at nothing but log.events and log.stages. What people see are the views at the end.
--
-- A line is parsed by one json_transform for the envelope, and the payload of those that a view needs by another that names
-- its fields. The type is at a fixed place (see format.py), so lines of other types are not parsed. A line that is not an
-- event is damage, and the query fails.
--
-- `type` is the first column of every relation of events, because DuckDB reads the first one of a UNION ALL to count its rows.

CREATE VIEW log.parsed AS
SELECT
    type,
    event.id AS id,
    event.time AS time,
    event.run AS run,
    event.stream AS stream,
    event.version AS version,
    event.writer AS writer,
    event.seq AS seq,
    event.trace_id AS trace_id,
    event.span_id AS span_id,
    event.parent_span_id AS parent_span_id,
    coalesce(event.links, []) AS links,
    event.data AS data
FROM (
    SELECT
        substr(line, 54, strpos(substr(line, 54, 200), '"') - 1) AS type,
        json_transform(line, '{
            "id": "VARCHAR", "time": "BIGINT", "run": "VARCHAR", "stream": "VARCHAR", "version": "BIGINT",
            "writer": "VARCHAR", "seq": "BIGINT", "trace_id": "VARCHAR", "span_id": "VARCHAR", "parent_span_id": "VARCHAR",
            "links": [{"id": "VARCHAR", "trace_id": "VARCHAR", "span_id": "VARCHAR"}], "data": "JSON"
        }') AS event
    FROM (
        SELECT CASE
            WHEN starts_with(line, '{"commit":') THEN NULL
            WHEN starts_with(line, '{"id":"') AND substr(line, 44, 10) = '","type":"' THEN line
            ELSE error('a committed line of the log is not an event')
        END AS line
        FROM log.committed
    )
    WHERE line IS NOT NULL
);

-- A run that is sealed wholly has most views in files of its own (settled.py): what follows is computed from the events of
-- the other runs, except for spans and links.
CREATE VIEW log.open_events AS FROM log.parsed UNION ALL FROM log.sealed;
CREATE VIEW log.events AS FROM log.open_events UNION ALL FROM log.settled;

-- How long each step to a connection took, of the payload of connection.opened.
CREATE MACRO log.connecting(data) AS json_transform(data, '{
    "connection": "VARCHAR", "dns_seconds": "DOUBLE", "connect_seconds": "DOUBLE", "tls_seconds": "DOUBLE"
}');

-- What each story of a request has come to. The last try counts: a request that a resume queued again is queued. A story
-- that another process goes on with may be longer in that process's log than in the one where it began, as far as each is
-- committed: until its first event is there, which caused the others, it is not shown. Whatever else is told in it, such as
-- that it is delayed, changes nothing of its state.
CREATE VIEW made.requests AS
WITH told AS (
    SELECT run, stream, version, trace_id, type, time, json_transform(data, '{
        "url": "VARCHAR", "name": "VARCHAR", "wait_seconds": "DOUBLE", "seconds": "DOUBLE",
        "bytes": "BIGINT", "error": "VARCHAR", "message": "VARCHAR"
    }') AS data,
    CASE type WHEN 'connection.opened' THEN log.connecting(data) END AS connecting
    FROM log.open_events
    WHERE type IN (
        'request.queued', 'request.started', 'request.delayed', 'request.completed', 'request.failed', 'request.cancelled',
        'attempt.started', 'attempt.redirected', 'connection.opened'
    )
),
stories AS (
    SELECT
        run,
        stream,
        any_value(trace_id) AS trace_id,
        arg_max({'version': version, 'time': time, 'data': data}, version) FILTER (type = 'request.queued') AS queued,
        arg_max({'version': version, 'time': time, 'data': data}, version) FILTER (type = 'request.started') AS started,
        arg_max({'type': type, 'time': time, 'data': data}, version) FILTER (
            starts_with(type, 'request.') AND type <> 'request.delayed'
        ) AS last,
        count(*) FILTER (type = 'attempt.started') AS attempts,
        count(*) FILTER (type = 'attempt.redirected') AS redirects,
        coalesce(sum(data.seconds) FILTER (type = 'request.delayed'), 0) AS delayed_seconds,
        sum(connecting.dns_seconds + connecting.connect_seconds + connecting.tls_seconds) AS connect_seconds
    FROM told
    GROUP BY run, stream
),
standings AS (
    SELECT
        * REPLACE (CASE WHEN started.version > queued.version THEN started END AS started),
        CASE WHEN last.type NOT IN ('request.queued', 'request.started') THEN last END AS ended
    FROM stories
    WHERE queued IS NOT NULL
)
SELECT
    run,
    stage,
    try_cast(substr(stream, 9) AS BIGINT) AS number,
    stream,
    queued.data.url AS url,
    queued.data.name AS name,
    split_part(last.type, '.', 2) AS state,
    make_timestamptz(queued.time // 1000) AS queued_at,
    make_timestamptz(started.time // 1000) AS started_at,
    make_timestamptz(ended.time // 1000) AS ended_at,
    started.data.wait_seconds AS wait_seconds,
    ended.data.seconds AS seconds,
    ended.data.bytes AS bytes,
    ended.data.error AS error,
    ended.data.message AS message,
    attempts,
    redirects,
    delayed_seconds,
    connect_seconds,
    trace_id
FROM standings
JOIN log.stages USING (run);

-- The events of one attempt have one span; the body's and the new connection's are children of it. A kept connection that
-- turns out dead is replaced by a new one in the same attempt: then the request was sent twice, and the new one counts.
CREATE VIEW made.attempts AS
WITH told AS (
    SELECT run, stream, type, time, trace_id, span_id, parent_span_id, json_transform(data, '{
        "resend_count": "INTEGER", "server_address": "VARCHAR", "server_port": "INTEGER", "status": "INTEGER",
        "seconds": "DOUBLE", "bytes": "BIGINT", "error": "VARCHAR", "message": "VARCHAR", "connection": "VARCHAR",
        "range_start": "BIGINT", "url": "VARCHAR"
    }') AS data,
    CASE type WHEN 'connection.opened' THEN log.connecting(data) END AS connecting
    FROM log.open_events
    WHERE type IN (
        'attempt.started', 'connection.taken', 'connection.opened', 'attempt.sent', 'attempt.response', 'attempt.body',
        'attempt.completed', 'attempt.redirected', 'attempt.failed'
    )
),
tries AS (
    SELECT
        run,
        stream,
        any_value({'time': time, 'data': data}) FILTER (type = 'attempt.started') AS started,
        any_value(data.connection) FILTER (type = 'connection.taken') AS taken,
        any_value(connecting) AS opened,
        max(data.seconds) FILTER (type = 'attempt.sent') AS sent_seconds,
        max(data.range_start) FILTER (type = 'attempt.sent') AS range_start,
        any_value(data) FILTER (type = 'attempt.response') AS response,
        any_value(data) FILTER (type = 'attempt.body') AS body,
        any_value({'type': type, 'time': time, 'data': data}) FILTER (
            type IN ('attempt.completed', 'attempt.redirected', 'attempt.failed')
        ) AS ended,
        any_value(trace_id) AS trace_id,
        CASE WHEN type IN ('attempt.body', 'connection.opened') THEN parent_span_id ELSE span_id END AS attempt_span_id
    FROM told
    GROUP BY run, stream, attempt_span_id
)
SELECT
    run,
    try_cast(substr(stream, 9) AS BIGINT) AS number,
    stream,
    coalesce(started.data.resend_count, 0) AS resend_count,
    started.data.server_address AS server_address,
    started.data.server_port AS server_port,
    make_timestamptz(started.time // 1000) AS started_at,
    coalesce(opened.connection, taken) AS connection,
    CASE WHEN opened IS NOT NULL THEN false WHEN taken IS NOT NULL THEN true END AS is_kept,
    opened.dns_seconds AS dns_seconds,
    opened.connect_seconds AS connect_seconds,
    opened.tls_seconds AS tls_seconds,
    sent_seconds,
    range_start,
    coalesce(response.status, ended.data.status) AS status,
    response.seconds AS response_seconds,
    body.seconds AS body_seconds,
    body.bytes AS bytes,
    ended.data.seconds AS seconds,
    ended.data.error AS error,
    ended.data.message AS message,
    CASE ended.type WHEN 'attempt.redirected' THEN ended.data.url END AS redirected_to,
    coalesce(split_part(ended.type, '.', 2), 'unfinished') AS state,
    make_timestamptz(ended.time // 1000) AS ended_at,
    trace_id,
    attempt_span_id AS span_id
FROM tries
WHERE started IS NOT NULL;

-- What each origin was asked for and how it did. A try again is an attempt behind one that failed, whoever was asked then.
CREATE VIEW made.origins AS
WITH tried AS (
    SELECT
        *, lag(state) OVER (PARTITION BY run, stream ORDER BY started_at, resend_count) IS NOT DISTINCT FROM 'failed' AS is_retry
    FROM made.attempts
),
counted AS (
    SELECT
        run, server_address, server_port,
        count(DISTINCT stream) AS requests,
        count(*) AS attempts,
        count(*) FILTER (state = 'completed') AS completed,
        count(*) FILTER (state = 'redirected') AS redirected,
        count(*) FILTER (state = 'failed') AS failed,
        count(*) FILTER (is_retry) AS retries,
        coalesce(sum(bytes), 0)::BIGINT AS bytes,
        median(response_seconds) AS response_seconds,
        count(*) FILTER (NOT is_kept) AS connections
    FROM tried
    GROUP BY run, server_address, server_port
),
told AS (
    SELECT
        run, type, time,
        regexp_extract(
            data.origin, '^(https?)://(.*?)(?::([0-9]+))?$', ['scheme', 'host', 'port']
        ) AS origin,
        data.limit AS most
    FROM (
        SELECT run, type, time, json_transform(data, '{"origin": "VARCHAR", "limit": "BIGINT"}') AS data
        FROM log.open_events
        WHERE type IN ('limit.changed', 'breaker.opened')
    )
),
limited AS (
    SELECT
        run,
        trim(origin.host, '[]') AS server_address,
        coalesce(try_cast(origin.port AS INTEGER), CASE origin.scheme WHEN 'https' THEN 443 ELSE 80 END) AS server_port,
        min(most) AS limit_min,
        max(most) AS limit_max,
        arg_max(most, time) AS limit_last,
        count(*) FILTER (type = 'breaker.opened') AS breaker_openings
    FROM told
    GROUP BY ALL
)
SELECT
    run, server_address, server_port, requests, attempts, completed, redirected, failed, retries, bytes, response_seconds,
    connections, limit_min, limit_max, limit_last, coalesce(breaker_openings, 0) AS breaker_openings
FROM counted
LEFT JOIN limited USING (run, server_address, server_port);

-- What each operation has come to: the last try counts, as with requests. Its stream is `operation-<name>-<number>`.
CREATE VIEW made.operations AS
WITH told AS (
    SELECT run, stream, version, trace_id, type, time, json_transform(data, '{
        "operation": "VARCHAR", "engine": "VARCHAR", "wait_seconds": "DOUBLE", "seconds": "DOUBLE",
        "error": "VARCHAR", "message": "VARCHAR"
    }') AS data
    FROM log.open_events
    WHERE type IN (
        'operation.queued', 'operation.started', 'operation.completed', 'operation.failed', 'operation.cancelled'
    )
),
stories AS (
    SELECT
        run,
        stream,
        any_value(trace_id) AS trace_id,
        any_value(data.operation) AS operation,
        arg_max({'version': version, 'time': time}, version) FILTER (type = 'operation.queued') AS queued,
        arg_max({'version': version, 'time': time, 'data': data}, version) FILTER (type = 'operation.started') AS started,
        arg_max(data.engine, version) AS engine,
        arg_max({'type': type, 'time': time, 'data': data}, version) AS last
    FROM told
    GROUP BY run, stream
),
standings AS (
    SELECT
        * REPLACE (CASE WHEN queued IS NULL OR started.version > queued.version THEN started END AS started),
        CASE WHEN last.type NOT IN ('operation.queued', 'operation.started') THEN last END AS ended
    FROM stories
)
SELECT
    run,
    stream,
    coalesce(nullif(regexp_extract(stream, '^operation-(.*)-[0-9]+$', 1), ''), operation) AS operation,
    try_cast(regexp_extract(stream, '^operation-.*-([0-9]+)$', 1) AS BIGINT) AS number,
    split_part(last.type, '.', 2) AS state,
    make_timestamptz(queued.time // 1000) AS queued_at,
    make_timestamptz(started.time // 1000) AS started_at,
    make_timestamptz(ended.time // 1000) AS ended_at,
    started.data.wait_seconds AS wait_seconds,
    ended.data.seconds AS seconds,
    engine,
    ended.data.error AS error,
    ended.data.message AS message,
    trace_id
FROM standings;

-- A span is told in one of two ways. Either an event opens it (its type ends in `queued` or `started`) and one closes it
-- (`completed`, `redirected`, `failed`, `cancelled`, `interrupted`), as often as there are sittings. Or it is told when it is
-- over, by an event that says how long it took (`file.stored`). What processes do is told in the spans of others and closes
-- none but their own: a run is not over with a process that exits. The types named below are those whose first word is not
-- the name of their span; all others, those to come included, follow from these rules.
--
-- A worker's start is told in its own span, and its end by who waited for it, in the stage's: the exit of a number belongs to
-- whoever had that number last, since a container gives the same few numbers again in every sitting.
--
-- `rank` puts the event that ends a span last, if there is one: what closes it, or else a process's exit, or else whatever
-- came last. One number and plain columns, since DuckDB finds the last of a struct several times slower.
CREATE VIEW made.spans AS
WITH told AS (
    SELECT
        run, stream, trace_id, span_id, parent_span_id, version, type, time,
        CASE
            WHEN split_part(type, '.', 2) IN ('completed', 'redirected', 'failed', 'cancelled', 'interrupted') THEN 'closes'
            WHEN type = 'process.exited' THEN 'exits'
            WHEN split_part(type, '.', 2) IN ('queued', 'started') AND type NOT IN ('request.started', 'process.started')
            THEN 'opens'
        END AS part,
        version + CASE part WHEN 'closes' THEN 4e18::BIGINT WHEN 'exits' THEN 2e18::BIGINT ELSE 0 END AS rank,
        json_transform(data, '{
            "seconds": "DOUBLE", "wait_seconds": "DOUBLE", "error": "VARCHAR", "role": "VARCHAR", "exit_code": "INTEGER"
        }') AS said,
        CASE type WHEN 'connection.opened' THEN log.connecting(data) END AS connecting,
        CASE type
            WHEN 'connection.opened' THEN connecting['dns_seconds'] + connecting['connect_seconds'] + connecting['tls_seconds']
            WHEN 'breaker.opened' THEN NULL  -- for how long it will be left alone
            ELSE coalesce(said['seconds'], said['wait_seconds'])
        END AS seconds
    FROM log.events
    WHERE type <> 'metric.measured'  -- which is about many spans, and none of them
),
processes AS (
    SELECT run, span_id, type, time, json_transform(data, '{
        "pid": "BIGINT", "role": "VARCHAR", "exit_code": "INTEGER", "seconds": "DOUBLE"
    }') AS data
    FROM log.events
    WHERE type IN ('process.started', 'process.exited')
),
left_workers AS (
    SELECT
        begun.run, begun.span_id,
        arg_min({'time': gone.time, 'seconds': gone.data.seconds, 'code': gone.data.exit_code}, gone.time) AS gone
    FROM (FROM processes WHERE type = 'process.exited') AS gone
    ASOF JOIN (FROM processes WHERE type = 'process.started') AS begun
        ON gone.run = begun.run AND gone.data.pid = begun.data.pid AND gone.time >= begun.time
    WHERE begun.data.role = 'worker'
    GROUP BY begun.run, begun.span_id
),
pieces AS (
    SELECT
        run, stream, trace_id, span_id,
        any_value(parent_span_id) AS parent_span_id,
        count(*) AS events,
        arg_min(type, version) AS first_type,
        arg_min(time, version) AS first_time,
        arg_min_null(said.role, version) AS role,
        max(version) FILTER (part = 'opens') AS opened,
        max(version) FILTER (part = 'closes') AS closed,
        arg_max(type, rank) AS last_type,
        arg_max(time, rank) AS last_time,
        arg_max_null(seconds, rank) AS last_seconds,
        arg_max_null(said.error, rank) AS last_error,
        arg_max_null(said.exit_code, rank) AS last_exit_code
    FROM told
    GROUP BY run, stream, trace_id, span_id
),
standings AS (
    SELECT
        * EXCLUDE (gone) REPLACE (
            coalesce(gone.time, last_time) AS last_time,
            coalesce(gone.seconds, last_seconds) AS last_seconds,
            coalesce(gone.code, last_exit_code) AS last_exit_code
        ),
        CASE
            WHEN closed IS NOT NULL THEN coalesce(opened < closed, true)
            ELSE opened IS NULL AND (
                first_type <> 'process.started' OR last_type = 'process.exited' OR gone IS NOT NULL
            )
        END AS is_over
    FROM pieces
    LEFT JOIN left_workers USING (run, span_id)
)
SELECT
    run,
    stream,
    CASE WHEN starts_with(stream, 'request-') THEN try_cast(substr(stream, 9) AS BIGINT) END AS number,
    trace_id,
    span_id,
    parent_span_id,
    CASE first_type
        WHEN 'request.started' THEN 'queue'
        WHEN 'connection.opened' THEN 'connect'
        WHEN 'attempt.body' THEN 'body'
        WHEN 'file.verified' THEN 'verify'
        WHEN 'file.stored' THEN 'store'
        ELSE CASE
            WHEN role = 'program' THEN 'program'
            WHEN split_part(first_type, '.', 1) IN ('limit', 'breaker', 'robots') THEN 'origin'
            ELSE split_part(first_type, '.', 1)
        END
    END AS name,
    make_timestamptz(CASE
        WHEN is_over AND (opened IS NULL AND first_type <> 'process.started')
        THEN last_time - coalesce((last_seconds * 1e9)::BIGINT, last_time - first_time)
        ELSE first_time
    END // 1000) AS started_at,
    CASE WHEN is_over THEN make_timestamptz(last_time // 1000) END AS ended_at,
    CASE WHEN is_over THEN last_seconds END AS seconds,
    CASE
        WHEN NOT is_over THEN 'unfinished'
        WHEN closed IS NOT NULL THEN split_part(last_type, '.', 2)
        WHEN last_exit_code <> 0 THEN 'failed'
        ELSE 'completed'
    END AS state,
    CASE WHEN is_over THEN last_error END AS error,
    events
FROM standings;

CREATE VIEW made.links AS
SELECT
    run,
    id AS effect_id,
    type AS effect_type,
    stream AS effect_stream,
    version AS effect_version,
    link.id AS cause_id,
    link.trace_id AS cause_trace_id,
    link.span_id AS cause_span_id
FROM (SELECT run, id, type, stream, version, unnest(links) AS link FROM log.events);

-- A sitting is one process's share of a run, from run.started to the next one: a resumed run has several. `since_ns` and
-- `until_ns` bound its events; `worked_seconds` is how long the sittings before it took, so that the pauses between
-- sittings are in no figure and no chart.
CREATE VIEW made.sittings AS
WITH told AS MATERIALIZED (
    SELECT run, version, type, time, json_transform(data, '{"workers": "BIGINT", "seconds": "DOUBLE"}') AS data
    FROM log.open_events
    WHERE type IN ('run.started', 'run.completed', 'run.interrupted', 'run.failed')
),
started AS (
    SELECT
        run, version, time AS start_ns, data.workers AS workers,
        CASE WHEN version = min(version) OVER (PARTITION BY run) THEN 0 ELSE time END AS since_ns,
        coalesce(lead(version) OVER story, 9223372036854775807) AS next_version,
        coalesce(lead(time) OVER story, 9223372036854775807) AS until_ns
    FROM told
    WHERE type = 'run.started'
    WINDOW story AS (PARTITION BY run ORDER BY version)
),
counted AS (
    SELECT run, version, count(*) AS events, max(moment.time) AS last_ns
    FROM (SELECT run, time FROM log.open_events) AS moment
    JOIN started USING (run)
    WHERE moment.time >= since_ns AND moment.time < until_ns
    GROUP BY run, version
)
SELECT
    started.run, started.version, workers, start_ns, since_ns, until_ns, events,
    ended.time AS end_ns,
    coalesce(split_part(ended.type, '.', 2), 'unfinished') AS state,
    coalesce(ended.data.seconds, (last_ns - start_ns) / 1e9) AS seconds,
    coalesce(sum((last_ns - start_ns) / 1e9) OVER before, 0) AS worked_seconds
FROM started
JOIN counted USING (run, version)
LEFT JOIN told AS ended
    ON ended.run = started.run AND ended.type <> 'run.started'
    AND ended.version > started.version AND ended.version < next_version
WINDOW before AS (
    PARTITION BY started.run ORDER BY started.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
);

CREATE VIEW log.readings AS
SELECT *, greatest(data.memory_bytes, data.peak_bytes) AS highest_bytes
FROM (
    SELECT run, writer, time, json_transform(data, '{
        "memory_bytes": "BIGINT", "memory_kind": "VARCHAR", "peak_bytes": "BIGINT", "error_bytes": "BIGINT",
        "cpu_seconds": "DOUBLE", "processes": [{
            "pid": "BIGINT", "memory_bytes": "BIGINT", "peak_bytes": "BIGINT", "cpu_seconds": "DOUBLE",
            "threads": "BIGINT", "descriptors": "BIGINT"
        }]
    }') AS data
    FROM log.open_events
    WHERE type = 'process.sampled'
);

CREATE VIEW made.samples AS
SELECT
    run,
    make_timestamptz(time // 1000) AS time,
    worked_seconds + (time - start_ns) / 1e9 AS elapsed_seconds,
    data.memory_bytes AS memory_bytes,
    data.memory_kind AS memory_kind,
    highest_bytes AS peak_bytes,
    coalesce(data.error_bytes, 0) AS error_bytes,
    data.cpu_seconds AS cpu_seconds,
    len(data.processes) AS processes,
    list_sum(list_transform(data.processes, lambda process: process.threads))::BIGINT AS threads,
    coalesce(list_sum(list_transform(data.processes, lambda process: process.descriptors)), 0)::BIGINT AS descriptors
FROM log.readings
JOIN made.sittings USING (run)
WHERE time >= since_ns AND time < until_ns;

-- The processes of each sample. A container gives the same few numbers again, so a process is who began last with its number.
CREATE VIEW made.processes AS
WITH begun AS (
    SELECT run, time, json_transform(data, '{"pid": "BIGINT", "role": "VARCHAR"}') AS data
    FROM log.open_events
    WHERE type = 'process.started'
),
told AS (SELECT run, time, data.pid AS pid, data.role AS role FROM begun),
read AS (SELECT run, time, unnest(data.processes) AS process FROM log.readings)
SELECT
    read.run,
    make_timestamptz(read.time // 1000) AS time,
    worked_seconds + (read.time - start_ns) / 1e9 AS elapsed_seconds,
    process.pid AS pid,
    CASE WHEN told.time >= since_ns THEN told.role ELSE 'other' END AS role,
    process.memory_bytes AS memory_bytes,
    nullif(process.peak_bytes, 0) AS peak_bytes,
    process.cpu_seconds AS cpu_seconds,
    process.threads AS threads,
    nullif(process.descriptors, 0) AS descriptors
FROM read
JOIN made.sittings ON sittings.run = read.run AND read.time >= since_ns AND read.time < until_ns
ASOF LEFT JOIN told ON told.run = read.run AND told.pid = process.pid AND read.time >= told.time;

-- What a run used, by the kernel's accounts: each sitting says it again and again, and last when it ends.
CREATE VIEW log.accounts AS
WITH told AS (
    SELECT run, writer, arg_max(data, seq) AS data
    FROM log.open_events
    WHERE type = 'process.measured'
    GROUP BY run, writer
),
read AS (
    SELECT run, json_transform(data, '{
        "seconds": "DOUBLE", "user_seconds": "DOUBLE", "system_seconds": "DOUBLE", "voluntary_switches": "BIGINT",
        "involuntary_switches": "BIGINT", "major_faults": "BIGINT", "disk_read_bytes": "BIGINT",
        "disk_written_bytes": "BIGINT", "network_received_bytes": "BIGINT", "network_sent_bytes": "BIGINT",
        "samples": "BIGINT", "sampling_seconds": "DOUBLE", "energy_class": "VARCHAR", "energy_idle_share": "DOUBLE",
        "energy_server_joules": "DOUBLE", "energy_desktop_joules": "DOUBLE", "energy_measured_joules": "DOUBLE"
    }') AS data
    FROM told
),
modelled AS (
    SELECT
        *, CASE data.energy_class WHEN 'desktop' THEN data.energy_desktop_joules ELSE data.energy_server_joules END AS joules
    FROM read
)
SELECT
    run,
    sum(data.seconds) AS seconds,
    sum(data.user_seconds) AS user_seconds,
    sum(data.system_seconds) AS system_seconds,
    sum(data.voluntary_switches)::BIGINT AS voluntary_switches,
    sum(data.involuntary_switches)::BIGINT AS involuntary_switches,
    sum(data.major_faults)::BIGINT AS major_faults,
    sum(data.disk_read_bytes)::BIGINT AS disk_read_bytes,
    sum(data.disk_written_bytes)::BIGINT AS disk_written_bytes,
    sum(data.network_received_bytes)::BIGINT AS network_received_bytes,
    sum(data.network_sent_bytes)::BIGINT AS network_sent_bytes,
    sum(data.samples)::BIGINT AS samples,
    sum(data.sampling_seconds) AS sampling_seconds,
    any_value(data.energy_class) AS energy_class,
    sum(data.energy_idle_share * joules) / nullif(sum(joules), 0) AS energy_idle_share,
    sum(data.energy_server_joules) AS energy_server_joules,
    sum(data.energy_desktop_joules) AS energy_desktop_joules,
    CASE WHEN bool_and(data.energy_measured_joules IS NOT NULL) THEN sum(data.energy_measured_joules) END
        AS energy_measured_joules
FROM modelled
GROUP BY run;

CREATE VIEW made.usage AS
WITH most AS (
    SELECT
        run, max(processes) AS processes_max, max(threads) AS threads_max, nullif(max(descriptors), 0) AS descriptors_max,
        arg_max(error_bytes, peak_bytes) AS memory_error_bytes
    FROM made.samples
    GROUP BY run
)
SELECT
    run, user_seconds, system_seconds, voluntary_switches, involuntary_switches, major_faults, disk_read_bytes,
    disk_written_bytes, network_received_bytes, network_sent_bytes, descriptors_max, threads_max, processes_max, samples,
    sampling_seconds, sampling_seconds / nullif(seconds, 0) AS sampling_share, memory_error_bytes, energy_class,
    energy_idle_share, energy_server_joules, energy_desktop_joules, energy_measured_joules
FROM most
FULL JOIN log.accounts USING (run);

-- How long the steps of requests took, of those that were made. Where nothing tells when a request was sent, its first byte
-- counts from the start of the attempt.
CREATE VIEW made.latencies AS
WITH processing AS (
    SELECT run, stream, sum(json_transform(data, '{"seconds": "DOUBLE"}').seconds) AS seconds
    FROM log.open_events
    WHERE type IN ('file.verified', 'file.stored') OR (type = 'process.exited' AND starts_with(stream, 'request-'))
    GROUP BY run, stream
),
steps AS (
    SELECT run, unnest([{'place': 1, 'phase': 'queue', 'seconds': wait_seconds}, {'place': 6, 'phase': 'request', 'seconds': seconds}]) AS step
    FROM made.requests
    UNION ALL
    SELECT run, unnest([
        {'place': 2, 'phase': 'connect', 'seconds': dns_seconds + connect_seconds + tls_seconds},
        {'place': 3, 'phase': 'first byte', 'seconds': response_seconds - coalesce(sent_seconds, 0)},
        {'place': 4, 'phase': 'body', 'seconds': body_seconds}
    ])
    FROM made.attempts
    UNION ALL
    SELECT run, {'place': 5, 'phase': 'process', 'seconds': seconds} FROM processing
),
measured AS (
    SELECT
        run, step.place AS place, step.phase AS phase, count(*) AS requests,
        quantile_cont(step.seconds, [0.5, 0.9, 0.95, 0.99]) AS part, max(step.seconds) AS most
    FROM steps
    WHERE step.seconds IS NOT NULL
    GROUP BY ALL
)
SELECT
    run, phase, requests, part[1] AS p50_seconds, part[2] AS p90_seconds, part[3] AS p95_seconds, part[4] AS p99_seconds,
    most AS max_seconds
FROM measured
ORDER BY run, place;

CREATE VIEW made.metrics AS
WITH told AS (
    SELECT run, writer, time, json_transform(data, '{
        "name": "VARCHAR", "kind": "VARCHAR", "unit": "VARCHAR", "attributes": "MAP(VARCHAR, VARCHAR)", "count": "BIGINT",
        "sum": "DOUBLE", "min": "DOUBLE", "max": "DOUBLE", "last": "DOUBLE", "seconds": "DOUBLE",
        "boundaries": ["DOUBLE"], "buckets": ["BIGINT"], "max_trace_id": "VARCHAR", "max_span_id": "VARCHAR"
    }') AS data
    FROM log.open_events
    WHERE type = 'metric.measured'
)
SELECT
    told.run,
    make_timestamptz(told.time // 1000) AS time,
    worked_seconds + (told.time - start_ns) / 1e9 AS elapsed_seconds,
    data.name AS name,
    data.kind AS kind,
    coalesce(data.unit, '') AS unit,
    coalesce(data.attributes, MAP {}) AS attributes,
    coalesce(data.count, 1) AS count,
    data.sum AS sum,
    data.min AS min,
    data.max AS max,
    data.last AS last,
    coalesce(data.seconds, 0) AS seconds,
    coalesce(data.boundaries, []) AS boundaries,
    coalesce(data.buckets, []) AS buckets,
    writer,
    data.max_trace_id AS max_trace_id,
    data.max_span_id AS max_span_id
FROM told
LEFT JOIN made.sittings ON sittings.run = told.run AND told.time >= since_ns AND told.time < until_ns;

CREATE VIEW made.runs AS
WITH sittings AS MATERIALIZED (FROM made.sittings),
sat AS (
    SELECT
        run,
        arg_max(workers, version) AS workers,
        arg_max(state, version) AS state,
        min(start_ns) AS start_ns,
        arg_max_null(end_ns, version) AS end_ns,
        sum(seconds) AS seconds,
        sum(events)::BIGINT AS events
    FROM sittings
    GROUP BY run
),
requested AS (
    SELECT
        run,
        count(*) AS requests,
        count(*) FILTER (state = 'completed') AS completed,
        count(*) FILTER (state = 'failed') AS failed,
        count(*) FILTER (state = 'cancelled') AS cancelled,
        sum(bytes)::BIGINT AS bytes,
        min(epoch_ns(ended_at)) FILTER (state = 'completed') AS first_ns
    FROM made.requests
    GROUP BY run
),
first AS (  -- by the run's own time, without the pauses before a resume
    SELECT run, greatest(0, worked_seconds + (first_ns - sittings.start_ns) / 1e9) AS first_result_seconds
    FROM requested
    JOIN sittings USING (run)
    WHERE first_ns BETWEEN since_ns - 999 AND until_ns - 1000
),
measured AS (
    SELECT run, max({'bytes': bytes, 'kind': kind}) AS peak, sum(cpu_seconds) AS cpu_seconds
    FROM (
        SELECT
            run,
            max(highest_bytes) AS bytes,
            arg_max(data.memory_kind, highest_bytes) AS kind,
            max(data.cpu_seconds) AS cpu_seconds
        FROM log.readings
        GROUP BY run, writer
    )
    GROUP BY run
)
SELECT
    run,
    stage,
    workers,
    state,
    make_timestamptz(start_ns // 1000) AS started_at,
    make_timestamptz(end_ns // 1000) AS ended_at,
    sat.seconds AS seconds,
    coalesce(requests, 0) AS requests,
    coalesce(completed, 0) AS completed,
    coalesce(failed, 0) AS failed,
    coalesce(cancelled, 0) AS cancelled,
    coalesce(bytes, 0) AS bytes,
    CASE WHEN sat.seconds > 0 THEN coalesce(completed, 0) / sat.seconds END AS requests_per_second,
    peak.bytes AS peak_memory_bytes,
    peak.kind AS memory_kind,
    cpu_seconds,
    events,
    labels,
    first_result_seconds,
    CASE WHEN sat.seconds > 0 THEN coalesce(bytes, 0) / sat.seconds END AS bytes_per_second,
    coalesce(
        energy_measured_joules, CASE energy_class WHEN 'desktop' THEN energy_desktop_joules ELSE energy_server_joules END
    ) AS energy_joules,
    CASE
        WHEN energy_measured_joules IS NOT NULL THEN 'measured'
        WHEN energy_server_joules IS NOT NULL THEN 'modelled'
    END AS energy_kind
FROM sat
JOIN log.stages USING (run)
LEFT JOIN requested USING (run)
LEFT JOIN first USING (run)
LEFT JOIN measured USING (run)
LEFT JOIN log.accounts USING (run);

-- For the charts, not for people: the pauses in a run's time.
CREATE VIEW log.sittings AS FROM made.sittings;

CREATE VIEW runs AS FROM made.runs ORDER BY run;
CREATE VIEW requests AS FROM made.requests;
CREATE VIEW attempts AS FROM made.attempts;
CREATE VIEW origins AS FROM made.origins;
CREATE VIEW operations AS FROM made.operations;
CREATE VIEW spans AS FROM made.spans;
CREATE VIEW links AS FROM made.links;
CREATE VIEW samples AS FROM made.samples;
CREATE VIEW processes AS FROM made.processes;
CREATE VIEW usage AS FROM made.usage ORDER BY run;
CREATE VIEW latencies AS FROM made.latencies;
CREATE VIEW metrics AS FROM made.metrics;
CREATE VIEW events AS
SELECT
    id, type, make_timestamptz(time // 1000) AS time, time AS time_ns, run, stream, version, writer, seq, trace_id, span_id,
    parent_span_id, links, data
FROM log.events;
