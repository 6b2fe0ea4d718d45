-- Which hosts were slow to connect to?
-- Of the stages that see connections: how many were opened, how many attempts went over a kept one, and how long name,
-- connection and TLS took. Many opened and few kept: the server ends them. `refused` is how many attempts got none, of all
-- stages.
SELECT
    server_address AS host,
    server_port AS port,
    count(*) FILTER (NOT is_kept) AS opened,
    count(*) FILTER (is_kept) AS kept,
    round(median(dns_seconds), 4) AS dns_p50,
    round(median(connect_seconds), 4) AS connect_p50,
    round(median(tls_seconds), 4) AS tls_p50,
    round(max(dns_seconds + connect_seconds + tls_seconds), 4) AS longest_seconds,
    count(*) FILTER (
        error IN ('NameNotResolved', 'ConnectRefused', 'ConnectFailed', 'CertificateRejected')
    ) AS refused
FROM attempts
GROUP BY server_address, server_port
HAVING count(connection) > 0 OR refused > 0
ORDER BY median(dns_seconds + connect_seconds + tls_seconds) DESC NULLS LAST, host, port
LIMIT 20
