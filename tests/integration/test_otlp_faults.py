"""T-OTLP: whatever the collector or the exporting process does, at the end every span is there, and once.

The real Jaeger shows it, behind the real collector; for what that one does not do, a faulty one stands before.
"""

import os
import random
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import certifi
import psutil
import pytest

from eventflow.origin.launch import Origin, start_origin
from eventflow.origin.settings import OriginSettings
from tests.conftest import require_part
from tests.support import faulty_collector as faulty
from tests.support.collector import Collector
from tests.support.exporting import Exporter, assert_all_are_there_once
from tests.support.faulty_collector import Fault, FaultyCollector
from tests.support.jaeger import Jaeger
from tests.support.running import wait_for
from tests.transporting import certificate

pytestmark = pytest.mark.part("otelcol", "jaeger")
SMALL_BATCHES = {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20", "OTEL_BSP_SCHEDULE_DELAY": "100"}
ONLY_TRACES = {"OTEL_METRICS_EXPORTER": "none"}
GARBAGE_UNTAKEN = Fault(body=b"<html>not what you expect</html>", taken=False)

FAULTS = {
    "slow": [faulty.SLOW] * 12,
    "429 and 503 with Retry-After": [faulty.BUSY, faulty.UNAVAILABLE] * 2,
    "400": [faulty.BAD_REQUEST] * 4,
    "413": [faulty.TOO_LARGE] * 2,
    "partial success": [faulty.PARTIAL, Fault(rejected=7), faulty.PARTIAL],
    "garbage": [faulty.GARBAGE] * 3,
    "garbage that was not taken": [GARBAGE_UNTAKEN] * 3,
    "connections that close": [faulty.CLOSED_BEFORE, faulty.CLOSED_UNTAKEN, faulty.CLOSED_TAKEN, faulty.CUT],
    "everything": [
        *random.Random(7).choices(
            [
                *(faulty.BUSY, faulty.UNAVAILABLE, faulty.BAD_REQUEST, faulty.PARTIAL, faulty.GARBAGE, GARBAGE_UNTAKEN),
                *(faulty.CLOSED_BEFORE, faulty.CLOSED_UNTAKEN, faulty.CLOSED_TAKEN, faulty.CUT),
            ],
            k=25,
        )
    ],
}


@pytest.fixture
def own_collector(jaeger: Jaeger, tmp_path: Path) -> Iterator[Collector]:
    """One that is not started yet."""
    collector = Collector(require_part("otelcol"), tmp_path / "collector", jaeger=jaeger.otlp)
    yield collector
    collector.kill()


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    """Fifty files, each in 50 ms."""
    with start_origin(OriginSettings(files=50, size=500, latency_s=0.05)) as running:
        yield running


@pytest.fixture(scope="module")
def long_origin() -> Iterator[Origin]:
    """So many that a run with one worker takes ten seconds."""
    with start_origin(OriginSettings(files=200, size=500, latency_s=0.05)) as running:
        yield running


@pytest.mark.parametrize("name", FAULTS)
def test_a_collector_that_fails_loses_nothing(
    name: str, origin: Origin, collector: Collector, jaeger: Jaeger, tmp_path: Path
) -> None:
    """Each of its requests is answered with the next fault. The run ends as without, and every span is taken.

    A span that was sent again has the bytes that it had before.
    """
    with FaultyCollector(FAULTS[name], forward=collector.http) as server:
        exporter = Exporter(tmp_path, server.http, name, **SMALL_BATCHES)
        ended = exporter.run("run", "loop", "--workers", "8", "--input", exporter.write_list(origin), "--otlp")
        if server.faults or ended.errors:  # patience ended before the faults did
            assert exporter.run("export", "latest", "--to", "otlp", "--follow").status == 0
    assert (ended.status, ended.result["completed"]) == (0, 50)
    assert not server.faults
    assert set(server.received.taken) == {span.key for span in exporter.spans()}
    assert {len(contents) for contents in server.received.contents.values()} == {1}
    assert_all_are_there_once(exporter, jaeger)


def test_one_span_that_is_refused_for_good_holds_up_no_other(origin: Origin, tmp_path: Path) -> None:
    """A collector that never takes one span: it is said, with exit status 1, and all others are there."""
    exporter = Exporter(tmp_path, "http://127.0.0.1:9", "refused", **SMALL_BATCHES, **ONLY_TRACES)
    assert exporter.run("run", "loop", "--input", exporter.write_list(origin), "--no-otlp").status == 0
    told = {span.key for span in exporter.spans()}
    unwanted = sorted(told)[7]
    with FaultyCollector(refuses=unwanted) as server:
        exporter.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = server.http
        ended = exporter.run("export", "latest", "--to", "otlp")
    assert set(server.received.taken) == told - {unwanted}
    assert (ended.status, ended.result["refused"], ended.result["left"]) == (1, 1, 0)


def test_absent_from_the_start(origin: Origin, own_collector: Collector, jaeger: Jaeger, tmp_path: Path) -> None:
    """No collector: the run is what it is without, says so in a line with what to do, and that sends everything."""
    exporter = Exporter(tmp_path, own_collector.http, "absent")
    ended = exporter.run("run", "director", "--input", exporter.write_list(origin), "--otlp")
    assert (ended.status, ended.result["completed"]) == (0, 50)
    again = f"eventflow export {exporter.newest.run} --to otlp --follow"
    assert again in ended.errors
    with own_collector:
        sent = exporter.run(*again.split()[1:])
        assert (sent.status, sent.result["left"]) == (0, 0)
        assert_all_are_there_once(exporter, jaeger)


def test_killed_and_started_five_times_during_a_run(
    long_origin: Origin, own_collector: Collector, jaeger: Jaeger, tmp_path: Path
) -> None:
    """The collector is killed with -9 while spans are under way and comes back; the run notices nothing."""
    exporter = Exporter(tmp_path, own_collector.http, "five kills", **SMALL_BATCHES)
    run = exporter.start("run", "loop", "--workers", "1", "--input", exporter.write_list(long_origin), "--otlp")
    kills = 0
    while kills < 5:
        own_collector.start()
        time.sleep(0.3)
        assert run.poll() is None, "the run was over before the last kill"
        own_collector.kill()
        time.sleep(0.2)
        kills += 1
    with own_collector:
        ended = exporter.end(run)
        assert (ended.status, ended.result["completed"], ended.errors) == (0, 200, "")
        assert_all_are_there_once(exporter, jaeger)


def test_full_disk_at_its_side(origin: Origin, jaeger: Jaeger, tmp_path: Path) -> None:
    """The collector's disk is full during the run, so it refuses; when there is room, everything is sent."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
    collector = Collector(require_part("otelcol"), folder, jaeger=jaeger.otlp)
    try:
        with collector:
            found = os.statvfs(folder)
            (folder / "of others").write_bytes(b"\0" * found.f_bavail * found.f_frsize)
            exporter = Exporter(tmp_path, collector.http, "full disk")
            ended = exporter.run("run", "loop", "--input", exporter.write_list(origin), "--otlp")
            assert (ended.status, ended.result["completed"]) == (0, 50)
            assert "not everything was sent" in ended.errors
            assert "no space left on device" in collector.tail()
            (folder / "of others").unlink()
            subprocess.run(["mount", "-o", "remount,size=64m", str(folder)], check=True)
            assert exporter.run("export", "latest", "--to", "otlp", "--follow").status == 0
            assert_all_are_there_once(exporter, jaeger)
    finally:
        collector.kill()
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_the_exporter_is_killed_ten_times(
    long_origin: Origin, collector: Collector, jaeger: Jaeger, tmp_path: Path
) -> None:
    """With -9, while the run goes on; each time the next one goes on where it was. Nothing is lost or shown twice."""
    exporter = Exporter(tmp_path, collector.http, "ten kills", **SMALL_BATCHES)
    run = exporter.start("run", "loop", "--workers", "1", "--input", exporter.write_list(long_origin), "--no-otlp")
    wait_for(lambda: exporter.store.exists() and any(exporter.store.glob("2*/run.json")), what="no run")
    moments, arrived = random.Random(3), 0
    for _ in range(10):
        following = exporter.start("export", "latest", "--to", "otlp", "--follow")
        until = time.monotonic() + 2
        while len(jaeger.spans_kept(exporter.service)) == arrived and time.monotonic() < until:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 0.2))
        following.kill()
        following.communicate()
        arrived = len(jaeger.spans_kept(exporter.service))
    assert arrived > 0
    assert exporter.run("export", "latest", "--to", "otlp", "--follow").status == 0
    assert exporter.end(run).status == 0
    assert_all_are_there_once(exporter, jaeger)


def test_the_exporter_beside_a_run_is_killed(
    long_origin: Origin, collector: Collector, jaeger: Jaeger, tmp_path: Path
) -> None:
    """The run goes on to its end as if nothing had been, says what to do, and that sends everything."""
    exporter = Exporter(tmp_path, collector.http, "beside", **SMALL_BATCHES)
    run = exporter.start("run", "loop", "--workers", "8", "--input", exporter.write_list(long_origin), "--otlp")

    def beside() -> list[psutil.Process]:
        of_us = str(exporter.store)
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if {"--beside", of_us} <= set(process.info["cmdline"] or ())
        ]

    wait_for(lambda: bool(jaeger.spans_kept(exporter.service)), what="nothing was sent")
    for process in beside():
        process.kill()
    ended = exporter.end(run)
    assert (ended.status, ended.result["completed"]) == (0, 200)
    again = f"eventflow export {exporter.newest.run} --to otlp --follow"
    assert again in ended.errors
    assert exporter.run(*again.split()[1:]).status == 0
    assert_all_are_there_once(exporter, jaeger)


@pytest.mark.part("openssl")
def test_the_certificate_that_is_named_is_the_one_that_counts(origin: Origin, tmp_path: Path) -> None:
    """OTEL_EXPORTER_OTLP_CERTIFICATE goes before REQUESTS_CA_BUNDLE, which many machines set; without, it is said."""
    context, _ = certificate(tmp_path)
    with FaultyCollector(tls=context) as server:
        exporter = Exporter(tmp_path, server.http, "tls", REQUESTS_CA_BUNDLE=certifi.where())
        untrusted = exporter.run("run", "serial", origin.url + "/files/000000.bin", "--otlp")
        assert (untrusted.status, untrusted.result["completed"]) == (0, 1)
        assert "set OTEL_EXPORTER_OTLP_CERTIFICATE to the file of its CA" in untrusted.errors
        exporter.environment["OTEL_EXPORTER_OTLP_CERTIFICATE"] = str(tmp_path / "it.pem")
        assert exporter.run("export", "latest", "--to", "otlp").status == 0
    assert set(server.received.taken) == {span.key for span in exporter.spans()}


def test_http_and_grpc_on_each_others_port(origin: Origin, tmp_path: Path) -> None:
    """The line says that it is the other protocol."""
    with FaultyCollector() as server:
        exporter = Exporter(tmp_path, server.grpc, "ports", **ONLY_TRACES)
        assert exporter.run("run", "serial", origin.url + "/files/000000.bin", "--no-otlp").status == 0
        for endpoint, protocol in ((server.grpc, "http/protobuf"), (server.http, "grpc")):
            exporter.environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
            ended = exporter.run("export", "latest", "--to", "otlp")
            assert ended.status == 3
            assert "speaks another protocol: HTTP is usually on port 4318, gRPC on 4317" in ended.result["problem"]
