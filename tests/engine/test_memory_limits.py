from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from upscale.engine.memory_limits import UNLIMITED, remaining_memory

MB = 1 << 20
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


class System:
    """The files of a Linux system, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.groups = folder / "proc", folder / "cgroup with space"
        self.proc.mkdir()
        self.groups.mkdir()

    def mount(self, kind: str, root: str = "/", options: str = "rw") -> None:
        """Mount the folder of groups, with a part of the tree."""
        mounted = str(self.groups).replace(" ", r"\040")
        with (self.proc / "mountinfo").open("a") as file:
            file.write("23 1 0:20 / /proc rw - proc proc rw\n")
            file.write(
                f"31 23 0:28 {root} {mounted} rw,nosuid shared:9 - {kind} {kind} {options}\n"
            )

    def own(self, *lines: str) -> None:
        """Set the groups of the process."""
        (self.proc / "cgroup").write_text("".join(f"{line}\n" for line in lines))

    def group(self, path: str, names: tuple[str, str, str], limit: object, used: int = 0) -> Path:
        """Make a group with a limit; 1 MB of its memory is a cache that can be dropped."""
        folder = self.groups / path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / names[0]).write_text(f"{limit}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 1\nactive_file 7\n{names[2]} {MB}\n")
        return folder

    @property
    def remaining(self) -> int:
        return remaining_memory(self.proc)


@pytest.fixture
def system(tmp_path) -> System:
    return System(tmp_path)


def test_system_without_groups_has_no_limit(tmp_path):
    assert remaining_memory(tmp_path) == UNLIMITED


def test_limit_of_the_own_group_counts_and_its_cache_is_free(system):
    system.mount("cgroup2")
    system.own("0::/user.slice/run-1.scope")
    system.group("user.slice/run-1.scope", V2, 300 * MB, 100 * MB)
    assert system.remaining == 201 * MB


@pytest.mark.parametrize("limited", ["", "a", "a/b", "a/b/c"])
def test_every_group_above_counts(system, limited):
    system.mount("cgroup2")
    system.own("0::/a/b/c")
    for path in ("", "a", "a/b", "a/b/c"):
        system.group(path, V2, "max")
    assert system.remaining == UNLIMITED
    system.group(limited, V2, 300 * MB, 100 * MB)
    system.group("a/other", V2, MB)
    assert system.remaining == 201 * MB


def test_limit_that_slows_down_counts(system):
    system.mount("cgroup2")
    system.own("0::/a")
    (system.group("a", V2, "max", 100 * MB) / "memory.high").write_text(f"{200 * MB}\n")
    assert system.remaining == 101 * MB


def test_group_beyond_its_limit_leaves_nothing(system):
    system.mount("cgroup2")
    system.own("0::/")
    system.group("", V2, 3 * MB, 9 * MB)
    assert system.remaining == 0


def test_version_1_counts(system):
    system.mount("cgroup", options="rw,memory")
    system.own("5:cpu,cpuacct:/x", "4:memory:/a/b", "0::/")
    system.group("a/b", V1, (1 << 63) - 4096)
    assert system.remaining == UNLIMITED
    system.group("a", V1, 300 * MB, 100 * MB)
    assert system.remaining == 201 * MB


def test_other_controllers_of_version_1_do_not(system):
    system.mount("cgroup", options="rw,cpu,cpuacct")
    system.own("4:memory:/", "0::/")
    system.group("", V1, MB)
    assert system.remaining == UNLIMITED


@pytest.mark.parametrize("own", ["/docker/abc", "/docker/abc/child", "/", "/../elsewhere"])
def test_container_that_sees_its_own_part_of_the_tree(system, own):
    system.mount("cgroup", root="/docker/abc", options="rw,memory")
    system.own(f"4:memory:{own}")
    system.group("", V1, 300 * MB, 100 * MB)
    assert system.remaining == 201 * MB


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits there")
@pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_ulimit_counts(name, tmp_path):
    script = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from upscale.engine.memory_limits import remaining_memory\n"
        f"resource.setrlimit(resource.{name}, (40 << 30, resource.RLIM_INFINITY))\n"
        "print(remaining_memory(Path(sys.argv[1])))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert 20 << 30 < int(ended.stdout) < 40 << 30
