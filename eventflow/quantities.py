"""Amounts as people write and read them: `64KiB`, `20ms`, `2%`. Pure.

Sizes are in bytes, durations in seconds, shares between 0 and 1. `KB` is 1 000 bytes, `KiB` 1 024.
"""

import math
import re

from eventflow.errors import UsageError, name_of

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-zµ%]*)\s*")
_SIZES = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("", 1024), ("b", 1000), ("ib", 1024))
}
_DURATIONS = {"": 1.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "m": 60.0, "min": 60.0, "h": 3600.0}


def parse_size(text: str) -> int:
    """Bytes. UsageError if it is not a size.

    >>> parse_size("64KiB"), parse_size("1.5 MB"), parse_size("10")
    (65536, 1500000, 10)
    """
    return int(_parse(text, _SIZES, "a size", "64KiB, 10MB or 1000") + 0.5)


def parse_rate(text: str) -> int:
    """Bytes a second, with or without `/s`. UsageError if it is not a rate, or none at all.

    >>> parse_rate("1MiB/s"), parse_rate("500kB")
    (1048576, 500000)
    """
    rate = int(_parse(text.strip().removesuffix("/s"), _SIZES, "a rate", "1MiB/s or 500kB/s") + 0.5)
    if rate < 1:
        raise UsageError(f"{name_of(text)} is no bandwidth at all", "give at least 1 byte a second")
    return rate


def parse_duration(text: str) -> float:
    """Seconds. UsageError if it is not a duration.

    >>> parse_duration("20ms"), parse_duration("1.5s"), parse_duration("2min")
    (0.02, 1.5, 120.0)
    """
    return _parse(text, _DURATIONS, "a duration", "20ms, 1.5s or 2min")


def parse_share(text: str) -> float:
    """A share between 0 and 1. UsageError if it is not one.

    >>> parse_share("2%"), parse_share("0.02")
    (0.02, 0.02)
    """
    share = _parse(text, {"": 1.0, "%": 0.01}, "a share", "2% or 0.02")
    if share > 1:
        raise UsageError(f"{name_of(text)} is more than all", "give a share of at most 100%")
    return share


def format_size(size: float) -> str:
    """A size for people.

    >>> format_size(0), format_size(65536), format_size(1.5 * 2**30)
    ('0 B', '64.0 KiB', '1.5 GiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:,.1f} TiB"


def format_duration(seconds: float) -> str:
    """A duration for people.

    >>> format_duration(0.0215), format_duration(5.25), format_duration(754), format_duration(7500)
    ('22 ms', '5.25 s', '12 min 34 s', '2 h 05 min')
    """
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 100:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def format_energy(joules: float) -> str:
    """An energy for people.

    >>> format_energy(0.0321), format_energy(16.599)
    ('0.0321 J', '16.6 J')
    """
    return f"{joules:,.3g} J"


def format_count(count: int) -> str:
    """A count for people.

    >>> format_count(1234567)
    '1 234 567'
    """
    return f"{count:,}".replace(",", " ")


def _parse(text: str, units: dict[str, float] | dict[str, int], what: str, examples: str) -> float:
    found = _AMOUNT.fullmatch(text)
    if found is None or found[2].lower() not in units:
        raise UsageError(f"{name_of(text)} is not {what}", f"write {examples}")
    amount = float(found[1]) * units[found[2].lower()]
    if math.isinf(amount):
        raise UsageError(f"{name_of(text)} is too much", f"write {examples}")
    return amount
