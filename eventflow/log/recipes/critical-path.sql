-- What did a request wait for, step by step?
-- From its end back along the links, always to the cause that came last. It is the slowest completed request of the newest
-- run; for another one write `SELECT '<run>' AS run, 'request-<number>' AS stream` in `chosen`.
WITH RECURSIVE chosen AS (
    SELECT run, stream
    FROM requests SEMI JOIN (SELECT max(run) AS run FROM requests) USING (run)
    WHERE state = 'completed'
    ORDER BY seconds DESC, number
    LIMIT 1
),
story AS MATERIALIZED (
    SELECT id, type, version, time_ns, list_transform(links, lambda link: link.id) AS causes
    FROM events SEMI JOIN chosen USING (run, stream)
),
causes AS MATERIALIZED (
    SELECT effect.id, max_by(cause.id, cause.version) AS cause_id
    FROM (SELECT id, unnest(causes) AS cause_id FROM story) AS effect JOIN story AS cause ON cause.id = effect.cause_id
    GROUP BY effect.id
),
path AS (
    SELECT id, 0 AS back FROM story WHERE version = (SELECT max(version) FROM story)
    UNION ALL
    SELECT causes.cause_id, back + 1 FROM path JOIN causes USING (id)
)
SELECT
    type,
    (time_ns - first_value(time_ns) OVER steps) / 1e9 AS at_seconds,
    (time_ns - lag(time_ns) OVER steps) / 1e9 AS waited_seconds,
    lag(type) OVER steps AS waited_since
FROM path JOIN story USING (id)
WINDOW steps AS (ORDER BY back DESC)
ORDER BY back DESC
