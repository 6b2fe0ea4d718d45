-- What do the requests of a run spend their time on?
-- Seconds of all requests together: waiting for a worker, for an answer, for the bytes, and everything else.
WITH attempted AS (
    SELECT run, sum(response_seconds) AS response, sum(body_seconds) AS body FROM attempts GROUP BY run
),
requested AS (
    SELECT run, stage, sum(wait_seconds) AS queue, sum(seconds) AS worked FROM requests GROUP BY run, stage
)
SELECT
    run,
    stage,
    coalesce(queue, 0) AS queue_seconds,
    coalesce(response, 0) AS response_seconds,
    coalesce(body, 0) AS body_seconds,
    greatest(0, coalesce(worked, 0) - coalesce(response, 0) - coalesce(body, 0)) AS other_seconds
FROM requested LEFT JOIN attempted USING (run)
ORDER BY run
