-- What went wrong, how often, and what does it look like?
-- Failed requests of all runs by kind of failure, with one of their messages.
SELECT
    stage,
    error,
    count(*) AS requests,
    round(100 * count(*) / sum(count(*)) OVER (PARTITION BY stage), 1) AS percent_of_failures,
    min(message) AS example
FROM requests
WHERE state = 'failed'
GROUP BY stage, error
ORDER BY stage, requests DESC, error
