"""The embedded origin: a web server of files that follow from a seed, with latency, limits and faults to order."""
