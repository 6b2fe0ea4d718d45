"""What a scenario showed: figures for tests and programs, sentences for people."""

import msgspec

Fact = bool | int | float | str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen, why it is so, and what is done about it.

    Attributes:
        program: what people write, as it was run; empty where the stage itself is what people write.
        facts: every figure of the sentences and some more, by name. Sizes in bytes, durations in seconds.
        seen: what was seen, a sentence or two each.
        why: the lesson.
        next: what the next stage, or this one, does about it.
        seen_next: that, seen too.
        missing: what this system cannot show, and why; empty where all was shown.
    """

    facts: dict[str, Fact]
    seen: tuple[str, ...]
    why: str
    next: str
    seen_next: tuple[str, ...] = ()
    program: str = ""
    missing: str = ""
