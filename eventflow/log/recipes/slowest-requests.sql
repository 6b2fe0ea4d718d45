-- Which requests took longest, and on what?
-- The time of the last attempt in its parts; what is left over went into verifying, storing and earlier attempts.
WITH slowest AS (
    SELECT run, number, url, state, wait_seconds, seconds, attempts FROM requests ORDER BY seconds DESC NULLS LAST LIMIT 10
),
last_attempts AS (
    SELECT run, number, max_by({'response': response_seconds, 'body': body_seconds}, started_at) AS took
    FROM attempts SEMI JOIN slowest USING (run, number)
    GROUP BY ALL
)
SELECT
    run,
    number,
    url,
    state,
    attempts,
    wait_seconds AS queue_seconds,
    seconds,
    took.response AS response_seconds,
    took.body AS body_seconds,
    seconds - coalesce(took.response, 0) - coalesce(took.body, 0) AS other_seconds
FROM slowest LEFT JOIN last_attempts USING (run, number)
ORDER BY seconds DESC, run, number
