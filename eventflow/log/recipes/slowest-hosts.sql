-- Which hosts are slow to answer?
-- Medians and the slow tail of the time to the first byte, over all runs. Fewer than 10 answers say little: change HAVING.
SELECT
    server_address AS host,
    count(response_seconds) AS answers,
    round(median(response_seconds), 4) AS p50_seconds,
    round(quantile_cont(response_seconds, 0.95), 4) AS p95_seconds,
    round(max(response_seconds), 4) AS longest_seconds,
    count(*) FILTER (state = 'failed') AS failed_attempts
FROM attempts
GROUP BY server_address
HAVING count(response_seconds) >= 10
ORDER BY p95_seconds DESC, host
LIMIT 20
