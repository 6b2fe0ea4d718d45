import resource
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from instrumentation import machine as machine_module
from instrumentation.machine import (
    EXTRAS,
    GIB,
    KEY_PACKAGES,
    Finding,
    Limits,
    Machine,
    cgroup_limits,
    cpu_model,
    diagnose,
    energy_counters,
    file_system_of,
    fsync_seconds,
    judge_cpus,
    judge_disk,
    judge_energy,
    judge_extra,
    judge_memory,
    judge_open_files,
    judge_program,
    judge_pss,
    judge_python,
    judge_space,
    machine,
    nearest_folder,
    parse_cpu_limit,
    parse_memory_limit,
    virtualised,
)

V1_MOUNTS = """\
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0
"""
V2_MOUNTS = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"
HYBRID_MOUNTS = V1_MOUNTS + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"

INTEL_IN_CLOUD = (
    "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R) CPU\nflags\t\t: fpu vme hypervisor avx\n"
)
AMD_ON_DESK = "processor\t: 0\nmodel name\t: AMD Ryzen 7 5800X\nflags\t\t: fpu vme avx\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU part\t: 0xd0c\n"


def example(
    cpus_usable: float = 4,
    memory_limit_bytes: int | None = None,
    memory_bytes: int = 8 * GIB,
    file_system: str | None = "ext4",
    sync_seconds: float | None = 0.002,
) -> Machine:
    """A healthy machine, but for what is given."""
    return Machine(
        system="Linux",
        release="6.1",
        architecture="x86_64",
        python="3.12.1",
        cpu_model="Example",
        cpus=4,
        cpus_usable=cpus_usable,
        memory_bytes=memory_bytes,
        memory_limit_bytes=memory_limit_bytes,
        pss_readable=True,
        energy_readable=True,
        virtualised=False,
        file_system=file_system,
        sync_seconds=sync_seconds,
        packages={},
    )


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    """Makes files under a root of its own, by path."""

    def make(files: dict[str, str]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({}, Limits()),
        (
            {
                "proc/self/mounts": V2_MOUNTS,
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/memory.max": "1073741824\n",
                "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n",
                "sys/fs/cgroup/a/cpu.max": "max 100000\n",
            },
            Limits(1073741824, 1.5),
        ),
        (
            {
                "proc/self/mounts": V2_MOUNTS,
                "proc/self/cgroup": "0::/system.slice/docker-1234.scope\n",
                "sys/fs/cgroup/memory.max": "268435456\n",
                "sys/fs/cgroup/cpu.max": "50000 100000\n",
            },
            Limits(268435456, 0.5),
        ),
        (
            {
                "proc/self/mounts": V1_MOUNTS,
                "proc/self/cgroup": "9:memory:/pod/one\n4:cpu,cpuacct:/pod/one\n1:name=systemd:/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/pod/memory.limit_in_bytes": "4294967296\n",
                "sys/fs/cgroup/memory/pod/one/memory.limit_in_bytes": "536870912\n",
                "sys/fs/cgroup/cpu,cpuacct/pod/one/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/pod/one/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/else/memory.limit_in_bytes": "2\n",
            },
            Limits(536870912, 2.0),
        ),
        (
            {
                "proc/self/mounts": HYBRID_MOUNTS,
                "proc/self/cgroup": "4:memory:/p\n1:cpu:/\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/unified/memory.max": "777777\n",
            },
            Limits(777777, None),
        ),
    ],
    ids=["none", "v2, the parent limits", "v2 in a container", "v1", "both"],
)
def test_the_strictest_limit_of_all_control_groups_counts(
    tree: Callable[[dict[str, str]], Path], files: dict[str, str], limits: Limits
) -> None:
    """Both versions, ancestors, and containers that do not see their own path; groups of others are not read."""
    assert cgroup_limits(tree(files)) == limits


@pytest.mark.parametrize(
    ("content", "limit"),
    [
        ("max\n", []),
        ("", []),
        ("9223372036854771712\n", []),
        ("9223372036854710272", []),
        ("104857600\n", [104857600]),
        ("0\n", [0]),
    ],
    ids=["v2 none", "no file", "v1 none, 4 KiB pages", "v1 none, 64 KiB pages", "100 MiB", "zero"],
)
def test_no_limit_is_not_a_large_limit(content: str, limit: list[int]) -> None:
    """What the kernel writes for "unlimited" is not taken for 8 EiB."""
    assert parse_memory_limit(content) == limit


@pytest.mark.parametrize(
    ("content", "cpus"),
    [("max 100000\n", []), ("-1\n 100000\n", []), (" ", []), ("50000 100000", [0.5]), ("300000\n 100000\n", [3.0])],
    ids=["v2 none", "v1 none", "no file", "half", "three"],
)
def test_a_quota_over_its_period_is_a_number_of_cpus(content: str, cpus: list[float]) -> None:
    """A quota limits CPUs, unless it is none."""
    assert parse_cpu_limit(content) == cpus


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [(INTEL_IN_CLOUD, "Intel(R) Xeon(R) CPU"), (AMD_ON_DESK, "AMD Ryzen 7 5800X"), (ARM, ""), ("", "")],
    ids=["intel", "amd", "arm", "no file"],
)
def test_the_model_is_the_name_not_the_number(cpuinfo: str, model: str) -> None:
    """`model name` is taken, not `model`; where there is none, none is made up."""
    assert cpu_model(cpuinfo) == model


@pytest.mark.parametrize(
    ("cpuinfo", "hardware", "answer"),
    [
        (INTEL_IN_CLOUD, "", True),
        (AMD_ON_DESK, "ASUS ROG", False),
        (AMD_ON_DESK, "QEMU Standard PC", True),
        (ARM, "Amazon EC2 m7g.large", True),
        (ARM, "Amazon EC2 m7g.metal", False),
        (ARM, "Raspberry Pi 5", False),
        (ARM, "Microsoft Corporation Virtual Machine", True),
        (ARM, "", None),
        ("", "", None),
    ],
    ids=["flag", "desk", "firmware", "arm cloud", "arm metal", "arm board", "hyper-v", "arm unknown", "nothing known"],
)
def test_a_virtual_machine_is_told_by_flag_or_firmware(cpuinfo: str, hardware: str, answer: bool | None) -> None:
    """Either is enough; without any evidence the answer is that it is not known."""
    assert virtualised(cpuinfo, hardware) is answer


def test_energy_counters_are_those_of_packages(tree: Callable[[dict[str, str]], Path]) -> None:
    """A package includes its parts (cores, DRAM), so only packages are taken, or energy would be counted twice."""
    powercap = "sys/class/powercap"
    root = tree({f"{powercap}/{zone}/energy_uj": "5" for zone in ("intel-rapl:1", "intel-rapl:0", "intel-rapl:0:0")})
    expected = [root / powercap / zone / "energy_uj" for zone in ("intel-rapl:0", "intel-rapl:1")]
    assert energy_counters(root) == expected


MOUNTS = [("/", "overlay"), ("/data", "xfs"), ("/data/cache", "tmpfs"), ("/data/cache", "ext4")]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/data/x", "xfs"),
        ("/data", "xfs"),
        ("/database", "overlay"),
        ("/data/cache/y/z", "ext4"),
        ("/", "overlay"),
    ],
)
def test_the_nearest_mount_above_holds_the_path(path: str, kind: str) -> None:
    """Whole names are compared, the longest mount point wins, and of two on one point the later."""
    assert file_system_of(Path(path), MOUNTS) == kind


def test_without_mounts_the_file_system_is_unknown() -> None:
    """Nothing is guessed."""
    assert file_system_of(Path("/data"), []) is None


def test_measuring_the_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """The folder is as it was, and the time is that of a few synced writes."""
    assert 0 < fsync_seconds(tmp_path, repeats=3) < 10
    assert list(tmp_path.iterdir()) == []


def test_measuring_where_nothing_can_be_written_is_an_error(tmp_path: Path) -> None:
    """The caller learns why there is no figure."""
    with pytest.raises(FileNotFoundError):
        fsync_seconds(tmp_path / "absent")


def test_a_folder_to_come_is_judged_by_the_one_it_will_be_in(tmp_path: Path) -> None:
    """A store need not exist; a file in the way is not a folder."""
    (tmp_path / "file").touch()
    assert nearest_folder(tmp_path / "a/b/c") == tmp_path
    assert nearest_folder(tmp_path / "file/a") == tmp_path
    assert nearest_folder(Path()) == Path.cwd()


def test_this_machine_is_json_and_back(tmp_path: Path) -> None:
    """What run.json gets can be read again, and holds figures of this machine."""
    here = machine(tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(here), type=Machine) == here
    assert 0 < here.cpus_usable <= here.cpus
    assert here.memory_bytes > 2**26
    assert here.packages["msgspec"] == msgspec.__version__
    assert here.sync_seconds is not None
    assert here.cpu_model


def test_without_a_folder_no_disk_is_touched() -> None:
    """The file system is left out when nobody asked."""
    here = machine()
    assert (here.file_system, here.sync_seconds) == (None, None)


@pytest.mark.parametrize(
    ("finding", "state"),
    [
        (judge_python((3, 11, 7)), "ok"),
        (judge_python((3, 14, 0)), "ok"),
        (judge_python((3, 10, 12)), "missing"),
        (judge_cpus(example()), "ok"),
        (judge_cpus(example(cpus_usable=1.5)), "warn"),
        (judge_memory(example()), "ok"),
        (judge_memory(example(memory_limit_bytes=GIB)), "ok"),
        (judge_memory(example(memory_limit_bytes=GIB - 1)), "warn"),
        (judge_memory(example(memory_bytes=GIB // 2, memory_limit_bytes=64 * GIB)), "warn"),
        (judge_pss(True), "ok"),
        (judge_pss(False), "missing"),
        (judge_energy(True, [Path("a")]), "ok"),
        (judge_energy(False, [Path("a")]), "missing"),
        (judge_energy(False, []), "missing"),
        (judge_open_files(1024, 4096), "ok"),
        (judge_open_files(256, 4096), "warn"),
        (judge_open_files(256, 256), "warn"),
        (judge_open_files(300, resource.RLIM_INFINITY), "warn"),
        (judge_open_files(resource.RLIM_INFINITY, resource.RLIM_INFINITY), "ok"),
        (judge_disk(Path("/s"), example()), "ok"),
        (judge_disk(Path("/s"), example(sync_seconds=0.05)), "warn"),
        (judge_disk(Path("/s"), example(sync_seconds=None)), "missing"),
        (judge_disk(Path("/s"), example(file_system="tmpfs")), "warn"),
        (judge_disk(Path("/s"), example(file_system="nfs4")), "warn"),
        (judge_disk(Path("/s"), example(file_system=None)), "ok"),
        (judge_space("space", Path("/s"), GIB), "ok"),
        (judge_space("space", Path("/s"), GIB - 1), "warn"),
        (judge_extra("analysis", ("a", "b"), {"a": "1", "b": "2"}), "ok"),
        (judge_extra("analysis", ("a", "b"), {"a": "1"}), "missing"),
        (judge_program("nginx", "/bin/nginx", "tests"), "ok"),
        (judge_program("nginx", None, "tests"), "missing"),
    ],
    ids=lambda value: (
        f"{value.name}: {value.detail} {value.fix}".replace(" ", "_") if isinstance(value, Finding) else value
    ),
)
def test_a_finding_that_is_not_ok_says_what_to_do(finding: Finding, state: str) -> None:
    """Each bound is where it should be, and whoever reads a warning knows the next step."""
    assert finding.state == state
    assert finding.detail
    assert bool(finding.fix) is (state != "ok")


@pytest.mark.parametrize(
    ("hard", "fix"),
    [(4096, "ulimit -n 1024"), (512, "ulimit -n 512"), (256, "raise the hard limit to 1024")],
)
def test_the_fix_for_open_files_can_be_followed(hard: int, fix: str) -> None:
    """A shell can raise the soft limit up to the hard one, not beyond."""
    assert judge_open_files(256, hard).fix == fix


def test_the_fix_for_an_extra_installs_it() -> None:
    """The absent packages are named, and the command to get them."""
    finding = judge_extra("telemetry", ("a", "b"), {"a": "1"})
    assert (finding.detail, finding.fix) == ("not installed: b", "pip install 'eventflow[telemetry]'")


def test_a_limit_is_shown_only_where_it_binds() -> None:
    """A control group that allows more than the machine has is no limit."""
    assert "limit" not in judge_memory(example(memory_limit_bytes=64 * GIB)).detail
    assert "1.0 GiB of 8.0" in judge_memory(example(memory_limit_bytes=GIB)).detail


def test_a_diagnosis_covers_every_part(tmp_path: Path) -> None:
    """Each thing is looked at once, also for folders that do not exist yet, and nothing is made."""
    findings = diagnose(tmp_path / "store", tmp_path / "out")
    names = [finding.name for finding in findings]
    assert names == [
        "python", "cpus", "memory", "memory measuring", "energy", "open files", "store disk", "store space",
        "output space", "analysis", "telemetry", "kubernetes", "nginx", "chromium", "docker",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_programs_are_found_under_any_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first name that PATH knows is taken; none is None."""
    program = tmp_path / "google-chrome"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine_module._which(("chromium", "google-chrome")) == str(program)
    assert machine_module._which(("nginx",)) is None


def test_the_extras_are_those_of_the_package() -> None:
    """The doctor knows the extras and their packages as pyproject.toml has them; key packages are all in it."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    def names(requirements: list[str]) -> tuple[str, ...]:
        return tuple(requirement.partition(">")[0] for requirement in requirements)

    extras = {extra: names(needs) for extra, needs in project["optional-dependencies"].items() if extra != "all"}
    assert {extra: set(needs) for extra, needs in EXTRAS.items()} == {
        extra: set(needs) for extra, needs in extras.items()
    }
    assert set(KEY_PACKAGES) - {"eventflow"} <= {*names(project["dependencies"]), *sum(extras.values(), ())}
