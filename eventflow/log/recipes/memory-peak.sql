-- What was running when memory peaked?
-- The requests in flight at the sample with the most memory, of each run, the largest file first.
WITH peaks AS (
    SELECT run, max(memory_bytes) AS memory_bytes, max_by(time, memory_bytes) AS time FROM samples GROUP BY run
)
SELECT
    run,
    peaks.time AS peaked_at,
    memory_bytes,
    number,
    url,
    epoch(peaks.time - started_at) AS running_seconds,
    bytes
FROM requests JOIN peaks USING (run)
WHERE started_at <= peaks.time AND (ended_at IS NULL OR ended_at > peaks.time)
ORDER BY run, bytes DESC NULLS LAST, number
