-- Which hosts had to be asked again, and did it help?
-- A retry is any attempt of a request after its first one, those after a resume included; redirects are none.
WITH tried AS (
    SELECT
        run, number, server_address AS host, count(*) AS attempts, bool_or(state = 'completed') AS succeeded
    FROM attempts
    WHERE state <> 'redirected'
    GROUP BY ALL
)
SELECT
    host,
    count(*) AS requests,
    sum(attempts - 1)::BIGINT AS retries,
    max(attempts) AS most_attempts,
    count(*) FILTER (attempts > 1 AND succeeded) AS rescued,
    count(*) FILTER (NOT succeeded) AS never_succeeded
FROM tried
GROUP BY host
ORDER BY retries DESC, host
LIMIT 20
