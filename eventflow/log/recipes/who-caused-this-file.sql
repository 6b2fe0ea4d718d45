-- Which events led to a stored file?
-- The lineage of one file: from its `file.stored` back along the links to the start of the run. It is the last file of the
-- newest run; for another one replace the WHERE and ORDER BY of `chosen` by `WHERE name = '…'`.
WITH RECURSIVE chosen AS (
    SELECT run, stream
    FROM requests
    WHERE state = 'completed' AND run = (SELECT max(run) FROM requests)
    ORDER BY ended_at DESC, number DESC
    LIMIT 1
),
near AS MATERIALIZED (
    SELECT id, type, stream, version, time, links
    FROM events SEMI JOIN (FROM chosen UNION ALL SELECT run, 'run' FROM chosen) USING (run, stream)
),
caused AS MATERIALIZED (
    SELECT id, link.id AS cause_id FROM (SELECT id, unnest(links) AS link FROM near)
),
lineage AS (
    SELECT id FROM (SELECT id FROM near WHERE type = 'file.stored' ORDER BY version DESC LIMIT 1)
    UNION
    SELECT cause_id FROM lineage JOIN caused USING (id)
)
SELECT stream, version, type, time
FROM lineage JOIN near USING (id)
ORDER BY time DESC, version DESC
