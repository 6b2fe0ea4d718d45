"""`eventflow top`: a run as it goes on, on the whole screen, as one frame, or as JSON."""

from typing import Annotated

import typer

from eventflow.cli.options import JsonOption, StoreOption
from eventflow.errors import UsageError, name_of
from eventflow.log.runs import find_run, store_path
from eventflow.quantities import parse_duration

_INTERVAL_SECONDS_MIN = 0.05


def top(
    name: Annotated[
        str, typer.Argument(metavar="[RUN]", help="A run's name, the beginning or end of one, or `latest`.")
    ] = "latest",
    once: Annotated[bool, typer.Option("--once", help="One frame to standard output, and that is all.")] = False,
    interval: Annotated[str, typer.Option(metavar="TIME", help="How often to look.")] = "0.5s",
    store: StoreOption = None,
    json: JsonOption = False,
    beside: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Watch a run on the whole screen: where its requests are, hosts and their limits, errors, memory.

    It reads the log, so it works from another terminal too, and for a run that has ended. `q` leaves, `o` changes the
    order of the requests. In a pipe it prints one frame; --json prints a line each time, until the run ends.

    Example: eventflow top latest

    Example: eventflow top latest --json --interval 5s
    """
    from eventflow.cli.top_screen import Left
    from eventflow.cli.top_watch import Follower, is_screen, print_frame, print_json, watch

    seconds = parse_duration(interval)
    if seconds < _INTERVAL_SECONDS_MIN:
        raise UsageError(f"--interval {name_of(interval)} is too short", "give 50ms or more")
    folder = find_run(store_path(store), name)
    follower = Follower(folder)
    try:
        if json:
            print_json(follower, seconds, once=once)
        elif once or not is_screen():
            print_frame(follower)
        else:
            watch(follower, seconds, beside)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Left as left:
        if left.status or follower.damage is None:
            raise typer.Exit(left.status) from None
    if follower.damage is not None:
        raise follower.damage
