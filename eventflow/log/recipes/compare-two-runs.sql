-- How do two runs differ?
-- The newest run beside the one before it. For others write `WHERE run IN ('…', '…')` instead of ORDER BY and LIMIT.
WITH chosen AS (
    SELECT * FROM runs ORDER BY run DESC LIMIT 2
),
durations AS (
    SELECT run, median(seconds) AS p50, quantile_cont(seconds, 0.99) AS p99
    FROM requests SEMI JOIN chosen USING (run)
    WHERE state = 'completed'
    GROUP BY run
),
measures AS (
    SELECT run, unnest([
        {'place': 1, 'measure': 'requests completed', 'value': completed::DOUBLE},
        {'place': 2, 'measure': 'requests failed', 'value': failed::DOUBLE},
        {'place': 3, 'measure': 'seconds', 'value': seconds},
        {'place': 4, 'measure': 'requests per second', 'value': requests_per_second},
        {'place': 5, 'measure': 'median seconds of a request', 'value': p50},
        {'place': 6, 'measure': '99th percentile of the same', 'value': p99},
        {'place': 7, 'measure': 'bytes', 'value': bytes::DOUBLE},
        {'place': 8, 'measure': 'peak memory in bytes', 'value': peak_memory_bytes::DOUBLE},
        {'place': 9, 'measure': 'CPU seconds', 'value': cpu_seconds}
    ], recursive := true)
    FROM chosen LEFT JOIN durations USING (run)
)
SELECT
    measure,
    min_by(value, run) AS earlier,
    max_by(value, run) AS later,
    max_by(value, run) / nullif(min_by(value, run), 0) AS ratio
FROM measures
GROUP BY place, measure
ORDER BY place
