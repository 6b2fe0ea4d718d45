-- How many requests were in flight, second by second?
-- The number at the end of each second of the newest run in which a request began or ended. For another run write its name
-- instead of the SELECT.
WITH changes AS (
    SELECT started_at AS moment, 1 AS change FROM requests
    WHERE run = (SELECT max(run) FROM requests) AND started_at IS NOT NULL
    UNION ALL
    SELECT ended_at, -1 FROM requests
    WHERE run = (SELECT max(run) FROM requests) AND started_at IS NOT NULL AND ended_at IS NOT NULL
)
SELECT
    date_trunc('second', moment) AS second,
    count(*) FILTER (change = 1) AS begun,
    count(*) FILTER (change = -1) AS ended,
    (sum(sum(change)) OVER (ORDER BY date_trunc('second', moment)))::BIGINT AS in_flight
FROM changes
GROUP BY date_trunc('second', moment)
ORDER BY second
