"""Amounts as people read them: a number with as many digits as it deserves, and its unit."""

MIB = 1 << 20
GIB = 1 << 30


def number_text(value: float) -> str:
    """Three significant digits below a thousand, all of the whole number above.

    >>> [number_text(value) for value in (0, 0.012345, 3.14159, 417.8, 12345.6)]
    ['0', '0.0123', '3.14', '418', '12,346']
    """
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def count_text(count: int, noun: str) -> str:
    """A count and its noun.

    >>> count_text(1, "request"), count_text(1200, "request")
    ('1 request', '1,200 requests')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def seconds_text(seconds: float) -> str:
    """A duration; from two minutes on in minutes and seconds.

    >>> seconds_text(0.452), seconds_text(61.2), seconds_text(4000)
    ('0.452 s', '61.2 s', '66 min 40 s')
    """
    if seconds < 120:
        return f"{number_text(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:,} min {rest} s"


def memory_text(size: float) -> str:
    """A size in MiB, from 8 GiB on in GiB.

    >>> memory_text(48_933_666), memory_text(40 * GIB)
    ('46.7 MiB', '40 GiB')
    """
    return f"{number_text(size / MIB)} MiB" if size < 8 * GIB else f"{number_text(size / GIB)} GiB"
