"""Download and process many things; every step is an immutable event in one log."""
