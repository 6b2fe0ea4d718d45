"""Stage 3, processes: a pool of worker processes, each with its own interpreter, client and log.

It uses every core. Its problems: each worker costs a whole interpreter in memory and start-up time, whatever crosses
between them must be pickled, and one that is killed for its memory takes the pool with it.
"""

from functools import cache

import httpx

from eventflow.engines.processes import run_in_processes
from eventflow.engines.worker import workplace
from eventflow.work import Delivery, Work
from stages.download import download


def run(work: Work) -> None:
    """Carry out every request of `work` in `work.settings.workers` processes."""
    run_in_processes(work, carry_out)


def carry_out(delivery: Delivery) -> None:
    """In a worker process: one request."""
    place = workplace()
    download(_client(), place, place.unpack(delivery))


@cache
def _client() -> httpx.Client:
    """This worker's client, kept for its connections."""
    return httpx.Client(**workplace().settings.client_options())
