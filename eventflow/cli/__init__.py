"""The command line, `eventflow`."""
