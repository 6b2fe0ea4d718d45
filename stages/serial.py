"""Stage 1, serial: one request after the other, in a loop. What everybody writes first.

Its problem: while one request waits for the network, nothing else happens, so the time is the sum of all waits.
"""

import httpx

from eventflow.work import Work
from stages.download import download


def run(work: Work) -> None:
    """Carry out every request of `work` in this thread."""
    with httpx.Client(**work.settings.client_options()) as client:
        for queued in work.requests():
            download(client, work, queued)
