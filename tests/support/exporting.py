"""Runs of `eventflow` that export, as a person starts them: in a folder of their own, with variables."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from eventflow.log.runs import RunFolder, find_run
from eventflow.origin.launch import Origin
from instrumentation.traces.read import read_spans
from tests.support.jaeger import Jaeger
from tests.support.trees import TreeSpan, of_finished, render_trees

DEADLINE_SECONDS = 100


class Ended(NamedTuple):
    """What a command left: its exit status, its JSON, its standard error."""

    status: int
    result: dict[str, Any]
    errors: str


class Exporter:
    """A working folder with a store, from which one service's spans go to one endpoint.

    Args:
        folder: made if it is not there.
        endpoint: of OTLP.
        service: the name under which its spans are found in a backend, which many tests share.
        settings: more variables.
    """

    def __init__(self, folder: Path, endpoint: str, service: str, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.store, self.service = folder, folder / "store", service
        own = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": service}
        self.environment = {**os.environ, "EVENTFLOW_STORE": str(self.store), **own, **settings}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """`eventflow ARGUMENTS --json`, going on."""
        return subprocess.Popen(
            [sys.executable, "-m", "eventflow", *arguments, "--json"],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: "subprocess.Popen[str]") -> Ended:
        """What it left, when it has ended by itself."""
        with process:
            try:
                out, errors = process.communicate(timeout=DEADLINE_SECONDS)
            finally:
                process.kill()
        return Ended(process.returncode, json.loads(out) if out.startswith("{") else {}, errors)

    def run(self, *arguments: str) -> Ended:
        """Both."""
        return self.end(self.start(*arguments))

    def write_list(self, origin: Origin, *more: str) -> str:
        """The origin's files, and other URLs, as a list; the path of it."""
        path = self.folder / "urls.txt"
        path.write_text("\n".join([*(entry.url for entry in origin.entries()), *more]))
        return str(path)

    @property
    def newest(self) -> RunFolder:
        """The run that was begun last."""
        return find_run(self.store, "latest")

    def spans(self) -> list[TreeSpan]:
        """What the log of the newest run says."""
        return [of_finished(span) for span in read_spans(self.newest)]


def assert_all_are_there_once(exporter: Exporter, jaeger: Jaeger) -> None:
    """Jaeger shows the spans that the log tells of: no other, each once, in the same trees with the same links."""
    told = exporter.spans()
    shown = jaeger.wait_spans(exporter.service, len(told))
    counted, wanted = Counter(span.key for span in shown), {span.key for span in told}
    missing = render_trees(span for span in told if span.key not in counted)
    foreign = render_trees(span for span in shown if span.key not in wanted)
    twice = _differences([span for span in shown if counted[span.key] > 1])
    assert not missing, f"missing:\n{missing}"
    assert not foreign, f"not in the log:\n{foreign}"
    assert not twice, f"twice:\n{twice}"
    assert render_trees(shown) == render_trees(told)


def _differences(spans: list[TreeSpan]) -> str:
    """In what spans with the same ids differ, of each pair: Jaeger shows one that differs in nothing once."""
    found: list[str] = []
    spans = sorted(spans, key=lambda span: span.key)
    for first, second in pairwise(spans):
        if first.key == second.key:
            pairs = zip(first._fields, first, second, strict=True)
            differing = [f"{name}: {one} and {other}" for name, one, other in pairs if one != other]
            found.append(f"{first.name} {first.key}: {'; '.join(differing) or 'in what is not compared'}")
    return "\n".join(found)
