"""How much memory a node says that it may use."""

import os
from pathlib import Path

import pytest

from node.memory_limit import memory_limit

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def root(folder: Path, groups: str, **limits: str) -> Path:
    """A file system with these control groups of the process, and these limits by their paths."""
    for path, text in {"proc/self/cgroup": groups, **limits}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("groups", "limits", "limit"),
    [
        ("0::/\n", {"sys/fs/cgroup/memory.max": "1048576\n"}, 1_048_576),
        (
            "0::/pod/node\n",
            {"sys/fs/cgroup/pod/node/memory.max": "max\n", "sys/fs/cgroup/pod/memory.max": "2097152\n"},
            2_097_152,
        ),
        ("0::/pod/node\n", {"sys/fs/cgroup/pod/node/memory.max": "max\n"}, MACHINE),
        ("5:cpu,memory:/docker/a\n", {"sys/fs/cgroup/memory/docker/a/memory.limit_in_bytes": "4194304\n"}, 4_194_304),
        ("5:memory:/\n3:cpu:/x\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, MACHINE),
        ("0::/../../init.scope\n", {}, MACHINE),
    ],
)
def test_the_least_of_the_limits(tmp_path: Path, groups: str, limits: dict[str, str], limit: int) -> None:
    """Of the process's group and those above it, in either version; the machine's memory where there is none."""
    assert memory_limit(root(tmp_path, groups, **limits)) == limit


def test_without_control_groups(tmp_path: Path) -> None:
    """The machine's memory."""
    assert memory_limit(tmp_path) == MACHINE
