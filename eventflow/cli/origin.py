"""`eventflow origin`: a server to try settings on before they meet somebody else's."""

import contextlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from eventflow.errors import UsageError, name_of
from eventflow.origin.settings import OriginSettings, parse_faults
from eventflow.quantities import parse_duration, parse_rate, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from eventflow.origin.site import Site


def origin(
    files: Annotated[int, typer.Option(help="How many files.")] = 100,
    size: Annotated[str, typer.Option(help="Their median size.")] = "64KiB",
    size_spread: Annotated[
        float, typer.Option(min=0, max=5, help="Sigma of the log-normal sizes; 0: all the same.")
    ] = 0.0,
    latency: Annotated[str, typer.Option(help="Median time to a response.")] = "0ms",
    latency_spread: Annotated[float, typer.Option(min=0, max=5, help="Sigma of the log-normal latencies.")] = 0.0,
    bandwidth: Annotated[str | None, typer.Option(help="Bytes a second for each connection, such as 1MiB/s.")] = None,
    total_bandwidth: Annotated[
        str | None, typer.Option(help="Bytes a second for all connections together, such as 10MiB/s.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(min=1, help="How many requests are handled at once; the others wait in line.")
    ] = None,
    cpu: Annotated[str, typer.Option(help="CPU time for each request, one after the other.")] = "0ms",
    slow_after: Annotated[str | None, typer.Option(help="After this time, latencies are ten times as long.")] = None,
    faults: Annotated[
        str, typer.Option(help="Share of failures, 2%, or by name: 500=1%,stall=1%. See docs/origin.md for the names.")
    ] = "0%",
    stall: Annotated[str, typer.Option(help="How long a stalled response stays open.")] = "10s",
    seed: Annotated[int, typer.Option(help="Contents and faults follow from it.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 0,
    manifest: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the list there, for `run --input`; -: standard output."),
    ] = None,
) -> None:
    """Serve files that follow from a seed, with latency, bandwidth and faults to order, until Ctrl-C.

    Example: eventflow origin --files 1000 --latency 50ms --faults 5% --manifest urls.tsv
    """
    settings = OriginSettings(
        files=files,
        size=parse_size(size),
        size_spread=size_spread,
        latency_s=parse_duration(latency),
        latency_spread=latency_spread,
        bandwidth=parse_rate(bandwidth) if bandwidth is not None else None,
        total_bandwidth=parse_rate(total_bandwidth) if total_bandwidth is not None else None,
        concurrency=concurrency,
        cpu_s=parse_duration(cpu),
        slow_after_s=parse_duration(slow_after) if slow_after is not None else None,
        faults=parse_faults(faults),
        stall_s=parse_duration(stall),
        seed=seed,
    )
    settings.check()
    if not host:  # to the operating system, an empty name is every address of the machine
        raise UsageError("--host is empty", "give an address, or 0.0.0.0 if you mean all of them")
    import asyncio  # which takes a while to load, and no other command needs

    try:
        asyncio.run(_serve(settings, host, port, manifest))
    except KeyboardInterrupt:
        return


async def _serve(settings: OriginSettings, host: str, port: int, manifest: Path | None) -> None:
    import asyncio

    from eventflow.origin.server import allow_many_connections, serve
    from eventflow.origin.site import Site

    site = Site(settings, host)
    allow_many_connections()
    try:
        _server = await serve(site, port)
    except (OSError, UnicodeError) as problem:  # UnicodeError: a name that no host can have, such as a..b
        number = getattr(problem, "errno", None) or 0  # negative where a name has no address: those explain themselves
        reason = os.strerror(number) if number > 0 else getattr(problem, "strerror", None) or str(problem)
        raise UsageError(
            f"{name_of(host)} port {port} cannot be listened on ({reason})", "choose another with --host or --port"
        ) from problem
    said = sys.stdout
    if manifest == Path("-"):
        _print_manifest(site)
        said = sys.stderr
    elif manifest is not None:
        _write_manifest(site, manifest)
    url = site.base_url(site.port)
    said.write(f"{url}/ serves {settings.files} files; list: {url}/manifest.tsv\n")
    said.flush()
    await asyncio.Event().wait()  # Server.serve_forever would wait for kept connections at Ctrl-C


def _print_manifest(site: "Site") -> None:
    """Write the list to standard output and close it, so that `run --input -` behind a pipe sees the list's end."""
    with contextlib.suppress(BrokenPipeError):  # the reader has seen enough; the files are still served
        sys.stdout.buffer.writelines(entry.tsv() for entry in site.entries())
        sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _write_manifest(site: "Site", path: Path) -> None:
    """Write the list so that whoever sees the file sees all of it: scripts wait for it while the server starts."""
    whole_at_once = path.is_file() or not path.exists()  # and not a pipe or device, which cannot be replaced
    part = path.with_name(f".{path.name}.part") if whole_at_once else path
    try:
        with part.open("wb") as file:
            file.writelines(entry.tsv() for entry in site.entries())
        if whole_at_once:
            part.replace(path)
    except OSError as problem:
        if whole_at_once:
            with contextlib.suppress(OSError):
                part.unlink()
        raise UsageError(
            f"{name_of(str(path))} cannot be written ({problem.strerror})", "name another file with --manifest"
        ) from problem
