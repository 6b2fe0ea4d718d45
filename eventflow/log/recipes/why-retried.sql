-- What was tried again, and why?
-- Failed attempts with another one behind them, by host and cause, over all runs: how often, how long until the next one
-- began, and how many of the requests were completed in the end.
WITH tries AS (
    SELECT
        run,
        number,
        server_address AS host,
        state AS outcome,
        error AS cause,
        status,
        message AS said,
        epoch(lead(started_at) OVER story - ended_at) AS waited_seconds
    FROM attempts
    WINDOW story AS (PARTITION BY run, number ORDER BY started_at, resend_count)
)
SELECT
    host,
    cause,
    status,
    count(*) AS retries,
    median(waited_seconds) AS waited_p50,
    count(DISTINCT (run, number)) AS requests,
    count(DISTINCT (run, number)) FILTER (state = 'completed') AS completed,
    min(said) AS example
FROM tries JOIN requests USING (run, number)
WHERE outcome = 'failed' AND waited_seconds IS NOT NULL
GROUP BY host, cause, status
ORDER BY retries DESC, host, cause, status
