"""Stage 2, threads: a pool of threads, each of which takes the next request when it is free.

Its problems: each thread costs memory, all of them share one interpreter lock, and a thread that blocks cannot be
stopped from outside.
"""

import httpx

from eventflow.engines.threads import run_in_threads
from eventflow.work import Work
from stages.download import download


def run(work: Work) -> None:
    """Carry out every request of `work` in `work.settings.workers` threads that share one client."""
    limits = httpx.Limits(max_connections=work.settings.workers, max_keepalive_connections=work.settings.workers)
    with httpx.Client(limits=limits, **work.settings.client_options()) as client:

        def carry_out_requests() -> None:
            for queued in work.requests():
                download(client, work, queued)

        run_in_threads(work, carry_out_requests)
