"""Several threads that carry out the same body, until there is nothing left or the run is asked to stop.

Invariants:
    an error in one thread is never lost: it stops the others and is raised here;
    an interrupt waits `GRACE_SECONDS` for the threads, then leaves those that still block behind, their requests ended
    as cancelled.
"""

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from eventflow.work import Work

GRACE_SECONDS = 1.0


def run_in_threads(work: Work, body: Callable[[], None], on_cancel: Callable[[], None] = lambda: None) -> None:
    """Run `body` in `work.settings.workers` threads and wait for all of them; `on_cancel` may wake those that block.

    Raises:
        Interrupted: the run was asked to stop.
        Exception: what a body raised, the first of them.
    """
    pool = ThreadPoolExecutor(work.settings.workers, thread_name_prefix="eventflow-worker")
    futures = [pool.submit(body) for _ in range(work.settings.workers)]
    try:
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except BaseException:
        work.cancel()
        on_cancel()
        pool.shutdown(wait=False, cancel_futures=True)
        wait(futures, timeout=GRACE_SECONDS)
        raise
    pool.shutdown()
