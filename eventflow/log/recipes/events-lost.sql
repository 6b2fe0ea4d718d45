-- Is every event there?
-- For each run: places that are missing in the writers' logs and in the stories, and events that a recorder gave up. All are 0;
-- while a run of several processes goes on, a story can be ahead in the log of one of them.
WITH writers AS (
    SELECT run, count(*) AS writers, sum(events)::BIGINT AS events, sum(missing)::BIGINT AS missing
    FROM (SELECT run, count(*) AS events, max(seq) + 1 - count(*) AS missing FROM events GROUP BY run, writer)
    GROUP BY run
),
stories AS (
    SELECT run, count(*) AS stories, sum(missing)::BIGINT AS missing
    FROM (SELECT run, max(version) + 1 - count(*) AS missing FROM events GROUP BY run, stream)
    GROUP BY run
),
dropped AS (
    SELECT run, sum((data->>'count')::BIGINT)::BIGINT AS events FROM events WHERE type = 'recorder.dropped' GROUP BY run
)
SELECT
    run,
    writers,
    writers.events AS events,
    stories,
    writers.missing AS missing_in_writers,
    stories.missing AS missing_in_stories,
    coalesce(dropped.events, 0) AS dropped
FROM writers JOIN stories USING (run) LEFT JOIN dropped USING (run)
ORDER BY run
