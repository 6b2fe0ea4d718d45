-- How did the adaptive limit move?
-- Each time that the number of requests that may be in flight to an origin changed, in the newest run that has limits, with
-- the latency that was seen then. Each process has a limit of its own. For another run write its name instead of the SELECT.
WITH told AS (
    SELECT
        stream,
        time,
        data->>'origin' AS origin,
        (data->>'limit')::BIGINT AS most,
        (data->>'in_flight')::BIGINT AS in_flight,
        (data->>'latency_seconds')::DOUBLE AS latency_seconds
    FROM events
    WHERE type = 'limit.changed' AND run = (SELECT max(run) FROM events WHERE type = 'limit.changed')
)
SELECT
    origin,
    epoch(time - min(time) OVER ()) AS at_seconds,
    most - coalesce(lag(most) OVER (PARTITION BY stream ORDER BY time), 0) AS change,
    most AS in_flight_max,
    in_flight,
    latency_seconds
FROM told
ORDER BY origin, at_seconds
