"""Watching a run from its log: `view` folds it, `tail` reads it, `snapshot` is what is seen at one moment."""
