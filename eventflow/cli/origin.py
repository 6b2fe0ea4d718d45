"""`eventflow origin`: a server to try settings on before they meet somebody else's."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from eventflow.errors import UsageError, name_of
from eventflow.origin.settings import OriginSettings, parse_faults
from eventflow.quantities import parse_duration, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from eventflow.origin.server import Site


def origin(
    files: Annotated[int, typer.Option(help="How many files.")] = 100,
    size: Annotated[str, typer.Option(help="Their median size.")] = "64KiB",
    size_spread: Annotated[
        float, typer.Option(min=0, max=5, help="Sigma of the log-normal sizes; 0: all the same.")
    ] = 0.0,
    latency: Annotated[str, typer.Option(help="Median time to a response.")] = "0ms",
    latency_spread: Annotated[float, typer.Option(min=0, max=5, help="Sigma of the log-normal latencies.")] = 0.0,
    bandwidth: Annotated[str | None, typer.Option(help="Bytes a second for each connection, such as 1MiB.")] = None,
    faults: Annotated[
        str, typer.Option(help="Share of failures, 2%, or by name: 500=1%,stall=1%. See docs/origin.md for the names.")
    ] = "0%",
    stall: Annotated[str, typer.Option(help="How long a stalled response stays open.")] = "10s",
    seed: Annotated[int, typer.Option(help="Contents and faults follow from it.")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 0,
    manifest: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the list of URLs there, for `run --input`.")
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
        bandwidth=parse_size(bandwidth) if bandwidth else None,
        faults=parse_faults(faults),
        stall_s=parse_duration(stall),
        seed=seed,
    )
    settings.check()
    try:
        asyncio.run(_serve(settings, host, port, manifest))
    except KeyboardInterrupt:
        return
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise UsageError(
            f"{name_of(host)} port {port} cannot be listened on ({reason})", "choose another with --port, or 0"
        ) from problem


async def _serve(settings: OriginSettings, host: str, port: int, manifest: Path | None) -> None:
    from eventflow.origin.server import Site, serve

    site = Site(settings)
    server = await serve(site, host, port)
    if manifest is not None:
        _write_manifest(site, manifest)
    sys.stdout.write(
        f"http://{site.host}:{site.port}/ serves {settings.files} files; list: http://{site.host}:{site.port}/manifest.tsv\n"
    )
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


def _write_manifest(site: "Site", path: Path) -> None:
    try:
        with path.open("wb") as file:
            file.writelines(site.manifest())
    except OSError as problem:
        raise UsageError(
            f"{name_of(str(path))} cannot be written ({problem.strerror})", "name another file with --manifest"
        ) from problem
