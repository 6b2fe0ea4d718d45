"""Charts and reports, made from the log."""
