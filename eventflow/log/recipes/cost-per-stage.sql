-- What does a completed request cost in each stage?
-- Time, CPU time and memory held, for each completed request of all runs of the stage that sampled them.
SELECT
    stage,
    count(*) AS runs,
    sum(completed)::BIGINT AS completed,
    sum(seconds) / sum(completed) AS seconds_each,
    sum(cpu_seconds) / sum(completed) AS cpu_seconds_each,
    sum(peak_memory_bytes * seconds) / sum(completed) AS byte_seconds_each,
    max(peak_memory_bytes) AS peak_memory_bytes
FROM runs
WHERE completed > 0 AND cpu_seconds IS NOT NULL
GROUP BY stage
ORDER BY seconds_each, stage
