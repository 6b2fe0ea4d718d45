-- How long until the first byte of an answer, for most and for the unlucky ones?
-- Percentiles for each run, from handing the request to the HTTP client to status and headers.
SELECT
    run,
    stage,
    count(*) AS answers,
    quantile_cont(response_seconds, 0.5) AS p50_seconds,
    quantile_cont(response_seconds, 0.9) AS p90_seconds,
    quantile_cont(response_seconds, 0.99) AS p99_seconds,
    quantile_cont(response_seconds, 0.999) AS p999_seconds,
    max(response_seconds) AS longest_seconds
FROM attempts JOIN runs USING (run)
WHERE response_seconds IS NOT NULL
GROUP BY run, stage
ORDER BY run
