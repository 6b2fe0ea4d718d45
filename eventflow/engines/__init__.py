"""Engines: where the body of the work runs when that is not this thread."""
