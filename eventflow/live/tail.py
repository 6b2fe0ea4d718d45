"""The lines of a run as they become durable, those of all its writers about in the order of time.

For whoever watches a run: a run that was resumed, or that has several processes, is then told as it went. Lines are
given undecoded, since most of them say nothing that is looked at.

Invariants:
    each committed line is given exactly once, in its writer's order;
    between writers, no line is later by more than its batch (some milliseconds, 1 MiB at most) than the next one given.
"""

import os
from collections.abc import Iterator
from heapq import merge
from operator import itemgetter
from pathlib import Path

import msgspec

from eventflow.errors import LogDamaged
from eventflow.log.layout import writer_folders
from eventflow.log.reader import WriterTail, wanted_lines

_MERGED_MAX = 64


class _Time(msgspec.Struct, gc=False):
    time: int


_time_decoder = msgspec.json.Decoder(_Time)


class LineTail:
    """The committed event lines of a run.

    Args:
        log: `<store>/<run>/log`.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._tails: dict[Path, WriterTail] = {}
        self._damage: LogDamaged | None = None

    def poll(self) -> Iterator[list[bytes]]:
        """The lines that were committed since the last call, in lists of one batch. Take them to their end.

        Raises:
            LogDamaged: the log is not what was written; what stands before, and what other writers wrote, was given.
        """
        self._damage = None
        news = [self._batches(tail) for tail in self._writers() if tail.may_have_news()]
        if len(news) <= _MERGED_MAX:
            news = [merge(*news, key=itemgetter(0))] if len(news) > 1 else news
        for batches in news:  # of too many writers, one after the other: each has a file open
            for _, lines in batches:
                yield lines
        if self._damage is not None:
            raise self._damage

    def _batches(self, tail: WriterTail) -> Iterator[tuple[int, list[bytes]]]:
        before = tail.seq
        try:
            for batch in tail.poll():
                lines = wanted_lines(batch, before)
                before = batch.place.seq
                if lines:
                    yield _time_of(lines[0]), lines
        except LogDamaged as found:
            self._damage = self._damage or found

    def _writers(self) -> list[WriterTail]:
        if self._log.is_dir() and sum(1 for _ in os.scandir(self._log)) == len(self._tails):
            return list(self._tails.values())
        for folder in writer_folders(self._log):
            if folder not in self._tails:
                self._tails[folder] = WriterTail(folder)
        return list(self._tails.values())


def _time_of(line: bytes) -> int:
    """When it happened; 0 if the line is no event, which whoever decodes it will say."""
    try:
        return _time_decoder.decode(line).time
    except ValueError:
        return 0
