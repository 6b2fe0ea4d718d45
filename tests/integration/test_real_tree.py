"""Real files from a real server: nginx serves documents, packages and awkward names; `sha256sum` has the last word."""

import contextlib
import json
import logging
import os
import random
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

from stages.registry import STAGES
from tests.conftest import require_part

FILES_MAX = int(os.environ.get("EVENTFLOW_TREE_FILES", "600"))  # for each stage; the whole tree is tens of thousands
AWKWARD = (
    "with space.txt",
    "100%.txt",
    "a%20b.txt",
    "#hash",
    "question?.txt",
    "ünï-日本.txt",
    'it\'s "quoted".txt',
    ".hidden",
    "empty",
    "plus+and&.txt",
    "semi;colon",
    "deep/er/still/a.txt",
    "tilde~1.txt",
    "Case.txt",
    "case.txt",
    "[brackets].txt",
    "-dash",
    "a=b,c@d",
)

CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off; default_type application/octet-stream; sendfile on;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen 127.0.0.1:{port};
    location /documents/ {{ alias {documents}/; }}
    location /packages/ {{ alias {packages}/; }}
    location /awkward/ {{ alias {awkward}/; }}
  }}
}}
"""


class Tree(NamedTuple):
    """A served tree: the list for `eventflow run`, how many files and bytes, and the list for `sha256sum -c`."""

    urls: Path
    sums: Path
    files: int
    bytes: int


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """nginx over documents, packages and awkward names."""
    folder = tmp_path_factory.mktemp("nginx")
    roots = {
        "documents": Path("/usr/share/doc"),
        "packages": Path(sysconfig.get_paths()["purelib"]),
        "awkward": folder / "awkward",
    }
    for number, name in enumerate(AWKWARD):
        path = roots["awkward"] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if name == "empty" else os.urandom(100 * number + 1))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "nginx.conf").write_text(CONFIGURATION.format(folder=folder, port=port, **roots))
    folder.chmod(0o755)
    with subprocess.Popen(
        [str(require_part("nginx")), "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL
    ) as server:
        try:
            _wait_listening(port)
            yield _list(folder, roots, f"http://127.0.0.1:{port}")
        finally:
            server.terminate()


def _wait_listening(port: int) -> None:
    for _ in range(500):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise AssertionError("nginx did not start")


def _list(folder: Path, roots: dict[str, Path], url: str) -> Tree:
    chosen: list[tuple[str, Path]] = []
    for label, root in roots.items():
        found = sorted(path for path in root.rglob("*") if path.is_file() and os.access(path, os.R_OK))
        found = [path for path in found if "__pycache__" not in path.parts and path.stat().st_size < 4 << 20]
        if label != "awkward" and len(found) > FILES_MAX // 2:
            found = random.Random(1).sample(found, FILES_MAX // 2)
        chosen += [(f"{label}/{path.relative_to(root)}", path) for path in found]
    sums = (
        subprocess.run(["sha256sum", "--zero", *(str(path) for _, path in chosen)], capture_output=True, check=True)
        .stdout.decode()
        .split("\0")
    )
    digests = [line.split("  ", 1)[0] for line in sums if line]
    (folder / "urls.tsv").write_text(
        "".join(f"{url}/{quote(name)}\t{name}\t{digest}\n" for (name, _), digest in zip(chosen, digests, strict=True))
    )
    (folder / "sums").write_text(
        "".join(f"{digest}  {name}\n" for (name, _), digest in zip(chosen, digests, strict=True))
    )
    return Tree(folder / "urls.tsv", folder / "sums", len(chosen), sum(path.stat().st_size for _, path in chosen))


@pytest.mark.part("nginx")
@pytest.mark.parametrize("stage", list(STAGES))
def test_every_stage_fetches_the_tree_and_sha256sum_agrees(stage: str, tree: Tree, tmp_path: Path) -> None:
    """Every file under its own name, spaces, signs and other alphabets included, also the empty one."""
    command = [sys.executable, "-m", "eventflow", "run", stage, "--input", str(tree.urls), "--out", "files", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    summary: dict[str, Any] = json.loads(done.stdout)
    assert (summary["completed"], summary["requests"], summary["bytes"]) == (tree.files, tree.files, tree.bytes)
    logging.getLogger(__name__).info("%s: %d files, %s", stage, tree.files, done.stdout)
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", str(tree.sums)], cwd=tmp_path / "files", capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, b"")
