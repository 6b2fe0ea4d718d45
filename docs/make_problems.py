"""Writes docs/problems.md: runs every problem of the ladder, and shows what it printed.

    python docs/make_problems.py

On a machine that has nothing else to do, since the figures are those of this run. A test compares names, titles and
programs, so run this after a change to stages/problems/.
"""

import subprocess
import sys
from pathlib import Path

from stages.problems.registry import PROBLEMS

PAGE = Path(__file__).with_name("problems.md")
HEAD = """# The ladder's problems, seen

Each way to run the work has a problem that the next one is there for ([tutorial.md](tutorial.md)). You need not believe
it: each is a small scenario that really runs, with processes, threads and sockets, and takes a few seconds.

```console
$ eventflow demo problem
$ eventflow demo problem lost-status
$ eventflow demo problem lost-status --json
```

The first lists them, `all` in place of a name runs all, `--json` prints the figures. What people write first is run as
it is shown, in a process of its own; `eventflow run` in these texts is the real stage, on a server that is started for
it. It needs no network and no rights. Whatever a scenario makes (processes, files, a cgroup) is gone when it ends, also
after Ctrl-C.

The texts below are what it printed on a virtual machine with two cores, Python 3.11 and Linux 6.18, as root, who may
make memory cgroups. Where none can be made, `oom-kill` sends SIGKILL itself and says so.
"""


def shown(name: str) -> str:
    """What `eventflow demo problem NAME` prints."""
    command = [sys.executable, "-m", "eventflow", "demo", "problem", name]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    parts, stage = [HEAD], ""
    for problem in PROBLEMS.values():
        if problem.stage != stage:
            stage = problem.stage
            parts.append(f"\n## {stage.capitalize()}\n")
        parts.append(f"\n### `{problem.name}`\n\n```text\n{shown(problem.name)}```\n")
    PAGE.write_text("".join(parts), encoding="utf-8")
