"""Stage 4, subprocess: threads that download, and an external program for each file.

For work that exists as a program already. Its problems: a process start for each file, errors that are numbers, output
that fills pipes, and processes that outlive the one that started them unless somebody sees to it.
"""

import httpx

from eventflow.engines.program import Programs
from eventflow.engines.threads import run_in_threads
from eventflow.story import QueuedRequest
from eventflow.work import Work, fill_in
from stages.download import fetch


def run(work: Work) -> None:
    """Carry out every request of `work` in threads, and run `work.settings.program` on each file once it is stored."""
    programs = Programs()
    limits = httpx.Limits(max_connections=work.settings.workers, max_keepalive_connections=work.settings.workers)
    with httpx.Client(limits=limits, **work.settings.client_options()) as client:

        def carry_out(queued: QueuedRequest) -> None:
            request = queued.request
            with work.story(queued) as story:
                fetch(client, story)
                path = str(work.folder.path / request.name)
                argv = fill_in(work.settings.program, path=path, name=request.name, url=request.url)
                programs.run(argv, story.root, request.redacted_url)

        def carry_out_requests() -> None:
            for queued in work.requests():
                carry_out(queued)

        try:
            run_in_threads(work, carry_out_requests, on_cancel=programs.stop)
        finally:
            programs.stop()
