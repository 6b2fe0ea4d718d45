-- How many bytes a second arrived, and how many requests were completed?
-- By the second in which a file was finished, of the newest run. For another run write its name instead of the SELECT.
SELECT
    date_trunc('second', ended_at) AS second,
    count(*) AS completed,
    sum(bytes)::BIGINT AS bytes_per_second
FROM requests
WHERE run = (SELECT max(run) FROM requests) AND state = 'completed'
GROUP BY date_trunc('second', ended_at)
ORDER BY second
