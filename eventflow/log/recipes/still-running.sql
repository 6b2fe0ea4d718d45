-- What is in flight now, or was when the run was cut off?
-- Requests that a worker took and that have not ended, of each unfinished run, and for how long when a request of it last
-- moved on. Those of a run that was killed stay here until it is resumed.
WITH unfinished AS (
    SELECT run, max(greatest(queued_at, started_at, ended_at)) AS until
    FROM requests SEMI JOIN (SELECT run FROM runs WHERE state = 'unfinished') USING (run)
    GROUP BY run
)
SELECT
    run,
    number,
    url,
    started_at,
    epoch(until - started_at) AS running_seconds,
    attempts
FROM requests JOIN unfinished USING (run)
WHERE state = 'started'
ORDER BY run, started_at, number
