"""T1: a log is killed again and again, at any instant, and nothing that was acknowledged is ever missing.

    python tests/faults/torture.py --kills 1000 --seed 1

Processes append to the log of a run, through the recorder or with expected versions, into segments small and large,
while others follow it by a subscription, or seal it. They are killed with SIGKILL at instants that follow from the
seed, as far as the machine lets them, many of them while they are just being opened or recover what the one before
left behind. What was acknowledged is in a ledger outside of them. Then everything is asserted that must hold of a log
(see `tests.scripted_log`), and the log is gone on with.

What this proves is that a crash of a process loses nothing; the kernel's memory survives it. See the tests of power
cuts for the rest, and T25: on a mounted LazyFS, a file system that keeps what was not synced to itself, it is told
after each kill to forget that. Its configuration names the pipe for that, and perhaps one by which it says when it is
done:

    python tests/faults/torture.py --folder /mnt/lazyfs --forget /tmp/faults.fifo --forgotten /tmp/faults_done.fifo
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from eventflow.log.following import Subscription
from eventflow.log.layout import segment_name
from eventflow.log.recovery import examine
from eventflow.log.runs import RunFolder, create_run
from eventflow.log.segment import SEGMENT_BYTES_MAX
from tests.faults import killed
from tests.scripted_log import Ledger, check_all, check_recovery, check_sql, lines_of
from tests.warm_process import Child, WarmProcess

ROUNDS = 20
ROUNDS_SEALING = 6
SQL_EVERY = 10
FORGETTING_SECONDS = 0.5
_SUBSCRIPTION = "projection"


class Forgetful:
    """A mounted LazyFS, which forgets on demand what was not synced.

    Args:
        fifo: the pipe that it reads commands from.
        done: the pipe to which it writes when a command is done; None: it is waited for a moment.
    """

    def __init__(self, fifo: Path, done: Path | None) -> None:
        self._fifo, self._done = fifo, done

    def forget(self) -> None:
        """Everything that no fsync has made durable is gone."""
        with self._fifo.open("w") as commands:
            commands.write("lazyfs::clear-cache\n")
        if self._done is None:
            time.sleep(FORGETTING_SECONDS)
        else:
            with self._done.open() as answers:
                answers.readline()


class Report(msgspec.Struct):
    """What a torture came to. `lost` is counted before anything is asserted, so that it is not said in vain.

    Attributes:
        kills: of writers; `others` of readers and sealers.
        acknowledged: events that were acknowledged to the ledger.
        events: events that the logs held in the end, acknowledged or not.
        lost: events acknowledged and not there.
        torn_bytes: bytes of torn tails that were put there by hand and cut by a recovery.
        seen: events that subscriptions gave.
    """

    seed: int
    kills: int = 0
    others: int = 0
    runs: int = 0
    acknowledged: int = 0
    events: int = 0
    lost: int = 0
    torn_bytes: int = 0
    seen: int = 0
    sealed: int = 0
    seconds: float = 0

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.kills} kills of writers and {self.others} of readers and sealers, in {self.runs} "
            f"runs; {self.acknowledged} events acknowledged, {self.lost} lost; {self.events} in the logs, "
            f"{self.seen} given to subscriptions, {self.sealed} segments sealed; {self.torn_bytes} torn bytes cut; "
            f"{self.seconds:.0f} s"
        )


class Followed:
    """What a subscription gave over all its processes, by writer the last `seq`, and what it certainly saved."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._scripts: dict[str, Ledger] = {}
        self._saved: dict[str, int] = {}
        self._seen: dict[str, int] = {}

    def enter(self, told: list[Any]) -> int:
        """Take what a process told: it goes on where one before it saved, or later, and leaves nothing out.

        Returns the number of events that it was given.
        """
        place, count = dict[str, int](), 0
        for what, value in told:
            if what == "seen":
                for writer, seq, event_id in value:
                    assert seq == place.get(writer, -1) + 1, f"{writer}: {seq} follows {place.get(writer, -1)}"
                    assert event_id == self._scripts.setdefault(writer, Ledger(self.run, writer)).script.id_of(seq)
                    place[writer] = seq
                    self._seen[writer] = max(seq, self._seen.get(writer, -1))
                    count += 1
            else:
                for writer, seq in self._saved.items():
                    assert value.get(writer, -1) >= seq, f"{writer}: the checkpoint went back to {value}"
                for writer, seq in value.items():
                    assert seq <= self._seen.get(writer, -1), f"{writer}: {seq} was saved and never given"
                place = dict(value) if what == "open" else place
                self._saved = value
        return count

    def finish(self, ledgers: list[Ledger]) -> int:
        """Take the rest in this process: then every event was given."""
        told: list[Any] = []
        with Subscription(self.run.path, _SUBSCRIPTION) as subscription:
            told.append(["open", dict(subscription._saved)])
            told += (["seen", [(event.writer, event.seq, event.id)]] for event in subscription.poll())
        count = self.enter(told)
        for ledger in ledgers:
            assert self._seen.get(ledger.writer, -1) == ledger.acknowledged - 1
        return count


class Torment:
    """One run that is killed again and again, and grows."""

    def __init__(
        self, run: RunFolder, warm: WarmProcess, choose: random.Random, report: Report, forgetful: Forgetful | None
    ) -> None:
        self._run, self._warm, self._choose, self._report = run, warm, choose, report
        self._forgetful = forgetful
        self._ledgers: dict[str, Ledger] = {}
        self._followed = Followed(run)
        self._reader: Child | None = None
        self._is_sealing = choose.random() < 0.25 and forgetful is None

    def play(self, kills: int) -> None:
        """Kill that many writers, or as many as one run takes."""
        for number in range(min(kills, ROUNDS_SEALING if self._is_sealing else ROUNDS)):
            self._round()
            if self._choose.randrange(SQL_EVERY) == 0 or number == 0:
                check_sql(self._run, sum(ledger.acknowledged for ledger in self._ledgers.values()))
        if self._reader:
            self._kill_reader(self._reader)
        self._report.seen += self._followed.finish(list(self._ledgers.values()))
        for ledger in self._ledgers.values():
            check_recovery(ledger)
        self._report.events += check_all(self._run, list(self._ledgers.values()))
        self._report.runs += 1

    def _round(self) -> None:
        choose = self._choose
        ledger, work = self._pick_writer()
        self._tear(ledger)
        torn_bytes = self._torn_bytes(ledger)
        if self._reader is None and choose.random() < 0.5 and self._forgetful is None:
            self._reader = self._warm.start(
                killed.subscribe, run=str(self._run.path), name=_SUBSCRIPTION, seed=choose.getrandbits(32)
            )
        sizes = [200_000] if self._is_sealing else [2_000, 20_000, SEGMENT_BYTES_MAX]
        writer = self._warm.start(
            work, run=str(self._run.path), writer=ledger.writer, seed=choose.getrandbits(32),
            segment_bytes_max=choose.choice(sizes),
        )  # fmt: skip
        sealer = self._warm.start(killed.seal, run=str(self._run.path)) if self._is_sealing else None
        writer.listen(choose.random() * choose.choice([0.003, 0.003, 0.03, 0.1]))
        self._kill_writer(writer, ledger, torn_bytes)
        if sealer:
            sealer.listen(choose.random() * 0.3)
            self._report.sealed += len(sealer.killed())
            self._count_other(sealer)
        if self._reader and choose.random() < 0.5:
            self._kill_reader(self._reader)
        check_all(self._run, list(self._ledgers.values()), sql=False)

    def _pick_writer(self) -> tuple[Ledger, Any]:
        """A new writer, or one that was killed before."""
        work = self._choose.choice([killed.append, killed.append, killed.record])
        known = [ledger for name, ledger in self._ledgers.items() if name.startswith(work.__name__)]
        if known and self._choose.random() < 0.8:
            return self._choose.choice(known), work
        name = f"{work.__name__}{len(self._ledgers)}"
        self._ledgers[name] = Ledger(self._run, name, is_recorder=work is killed.record)
        return self._ledgers[name], work

    def _tear(self, ledger: Ledger) -> None:
        """Leave behind what a crash in the middle of a write does, which a kill hardly ever hits."""
        folder = self._run.log / ledger.writer
        if self._choose.random() < 0.4 and folder.is_dir():
            found = examine(folder)
            path = folder / segment_name(found.number)
            if found.size and not found.tail.bytes:
                with path.open("ab") as file:
                    file.write(ledger.torn(self._choose.randint(1, 3_000)))

    def _torn_bytes(self, ledger: Ledger) -> int:
        folder = self._run.log / ledger.writer
        return examine(folder).tail.bytes if folder.is_dir() else 0

    def _kill_writer(self, writer: Child, ledger: Ledger, torn_bytes: int) -> None:
        told = writer.killed()
        assert writer.wait() == -9, told
        if self._forgetful:
            self._forgetful.forget()
        self._report.kills += 1
        known = ledger.acknowledged
        ledger.enter(told)
        self._report.acknowledged += ledger.acknowledged - known
        self._report.lost += max(0, ledger.acknowledged - len(lines_of(self._run.log / ledger.writer)))
        self._report.torn_bytes += torn_bytes if self._torn_bytes(ledger) == 0 else 0

    def _kill_reader(self, reader: Child) -> None:
        self._report.seen += self._followed.enter(reader.killed())
        self._count_other(reader)
        self._reader = None

    def _count_other(self, child: Child) -> None:
        assert child.wait() == -9, child.told
        self._report.others += 1


def torture(
    store: Path, kills: int, seed: int, seconds: float = float("inf"), forgetful: Forgetful | None = None
) -> Report:
    """Kill writers until there were so many kills, in one run after the other.

    Args:
        store: where the runs are made.
        kills: how many.
        seed: from which everything follows that this program chooses.
        seconds: stop after the run in which this time is over.
        forgetful: the file system that the store is on, if it is to forget after each kill. Nobody reads or seals then:
            who reads what is not synced yet would miss it.

    Raises:
        AssertionError: something that must hold does not. The runs are still there to be looked at.
    """
    report, begun = Report(seed), time.monotonic()
    choose = random.Random(seed)
    with WarmProcess("tests.faults.killed") as warm:
        while report.kills < kills and time.monotonic() - begun < seconds:
            run = create_run(store, stage="serial")
            Torment(run, warm, choose, report, forgetful).play(kills - report.kills)
            report.seconds = time.monotonic() - begun
    return report


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1_000, help="how many writers are killed")
    parser.add_argument("--seed", type=int, default=None, help="from which it follows when and what; else a new one")
    parser.add_argument("--folder", type=Path, help="where the runs are made; default: the temporary folder")
    parser.add_argument("--forget", type=Path, metavar="FIFO", help="T25: the pipe of the LazyFS that the folder is on")
    parser.add_argument("--forgotten", type=Path, metavar="FIFO", help="the pipe by which it says that it has done so")
    given = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if given.seed is None else given.seed
    sys.stdout.write(f"seed {seed}\n")
    folder = Path(tempfile.mkdtemp(prefix="eventflow-torture-", dir=given.folder))
    forgetful = Forgetful(given.forget, given.forgotten) if given.forget else None
    report = torture(folder, given.kills, seed, forgetful=forgetful)
    sys.stdout.write(f"{report}\n")
    shutil.rmtree(folder)
    sys.exit(report.lost != 0)


if __name__ == "__main__":
    main()
