"""The log: segments, commits, reading and checking."""
