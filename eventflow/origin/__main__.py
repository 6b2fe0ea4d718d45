"""The origin as a process of its own: `python -m eventflow.origin SETTINGS`, used by `eventflow.origin.launch`.

It says its ports on standard output and ends when its standard input closes, so it never outlives the process that
started it.
"""

import asyncio
import gc
import os
import sys

import msgspec

from eventflow.origin.server import allow_many_connections, serve
from eventflow.origin.settings import OriginSettings
from eventflow.origin.site import Site


async def _main(settings: OriginSettings) -> None:
    site = Site(settings)
    allow_many_connections()
    server = await serve(site, 0)
    loop = asyncio.get_running_loop()
    try:
        sys.stdout.write(f"{site.port} {site.refusing_port}\n")
        sys.stdout.flush()
    except BrokenPipeError:  # whoever started it has ended meanwhile
        os._exit(0)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    server.close()  # and no waiting for clients: a kept connection would hold the process (Python 3.12 and later)


if __name__ == "__main__":
    gc.freeze()
    asyncio.run(_main(msgspec.json.decode(sys.argv[1], type=OriginSettings)))
