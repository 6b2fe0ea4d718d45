"""How far the numbers of a report can be trusted: repeats, how memory and energy were had, and what measuring cost."""

from collections import Counter
from collections.abc import Sequence

from analysis.amounts import memory_text, number_text
from analysis.contents import Contents
from analysis.labels import Row, rows
from analysis.markup import Html, element, join

_STATEMENT = """
    WITH counted AS (SELECT run, count(*) AS readings FROM samples GROUP BY run)
    SELECT
        run, stage, state, memory_kind, energy_kind, coalesce(samples, readings) AS samples, sampling_seconds,
        sampling_share, memory_error_bytes, cpu_seconds, energy_server_joules, energy_desktop_joules,
        energy_measured_joules
    FROM runs JOIN counted USING (run) LEFT JOIN usage USING (run)
    ORDER BY run
"""
KINDS = {
    "pss": "PSS of all processes together (each shared page counted once)",
    "rss": "RSS of all processes together (shared pages counted in each: too high)",
}


def honesty(found: Contents, begun: Sequence[Row]) -> Html:
    """A section on how the numbers were had."""
    used = rows(found.material.connection, _STATEMENT)
    measured = [row for row in used if row["samples"]]
    facts = [
        ("Repeats", _repeats(found, begun)),
        ("Memory", _memory(measured)),
        ("Energy", _energy(measured)),
        ("Cost of measuring", _cost(measured)),
        ("Not measured", _unmeasured(begun, measured)),
        ("Not shown", _left_out(found)),
    ]
    pairs = [join(element("dt", name), element("dd", text)) for name, text in facts if text]
    return element(
        "section", element("h2", "How far to trust these numbers"), element("dl", *pairs), class_="card honesty"
    )


def _repeats(found: Contents, begun: Sequence[Row]) -> str:
    """How often the same was done: by stage, number of requests, settings and servers."""
    whole = [row for row in begun if row["state"] == "completed"]
    times = Counter((row["stage"], row["requests"], found.ways[row["run"]]) for row in whole)
    if not times:
        return "no run came to its end"
    least, most = min(times.values()), max(times.values())
    if most == 1:
        return "each was run once: differences of a few per cent may be chance"
    return f"each was run {least} times" if least == most else f"each was run {least} to {most} times"


def _memory(measured: Sequence[Row]) -> str:
    if not measured:
        return "not measured"
    kinds = sorted({KINDS.get(row["memory_kind"], "unknown") for row in measured})
    samples = [row["samples"] for row in measured]
    errors = [row["memory_error_bytes"] for row in measured if row["memory_error_bytes"] is not None]
    said = f"{' or '.join(kinds)}, sampled {min(samples):,} to {max(samples):,} times in a run"
    if errors and max(errors):
        said += (
            f"; peaks in between are counted as the kernel noted them, and may be {memory_text(max(errors))} too high"
        )
    elif errors:
        said += "; peaks in between are counted as the kernel noted them"
    return said


def _energy(measured: Sequence[Row]) -> str:
    """Measured or modelled, and the model's two settings side by side."""
    known = [row for row in measured if row["energy_kind"]]
    if not known:
        return "neither measured nor modelled"
    kinds = Counter(row["energy_kind"] for row in known)
    said = " or ".join(sorted(kinds))
    if "modelled" in kinds:
        said += " from CPU seconds and time, since the machine has no meter that can be read (RAPL)"
    totals = {
        name: sum(row[f"energy_{name}_joules"] or 0 for row in known) for name in ("server", "desktop", "measured")
    }
    parts = [f"{name} {number_text(total)} J" for name, total in totals.items() if total]
    return f"{said}. All runs together: {', '.join(parts)}" if parts else said


def _cost(measured: Sequence[Row]) -> str:
    """The processor time that measuring took, of the run's time and of the processor time of the run."""
    known = [row for row in measured if row["sampling_share"] is not None]
    if not known:
        return ""
    shares = [f"{choose(row['sampling_share'] for row in known):.2%}" for choose in (min, max)]
    cpu = sum(row["cpu_seconds"] or 0 for row in known)
    of_cpu = f", {sum(row['sampling_seconds'] for row in known) / cpu:.2%} of the processor time used" if cpu else ""
    return f"{' to '.join(dict.fromkeys(shares))} of a run's time{of_cpu}"


def _unmeasured(begun: Sequence[Row], measured: Sequence[Row]) -> str:
    names = {row["run"] for row in measured}
    without = [f"{row['stage']} ({row['run']})" for row in begun if row["run"] not in names]
    if not without:
        return ""
    more = f" and {len(without) - 4} more" if len(without) > 4 else ""
    return f"memory, CPU and energy of {', '.join(without[:4])}{more}"


def _left_out(found: Contents) -> str:
    return "; ".join(f"{run}: {why}" for run, why in found.material.left_out[:8])
