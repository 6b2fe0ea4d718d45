"""Stage 7, lineage: the director, where every event also says which events caused it.

The chain goes through everything: from the file back over its tries, the waits between them, redirects, the connection
that was used and whoever used it before, to the line of the input and the process that read it.
"""

from stages.director import run

__all__ = ["run"]
