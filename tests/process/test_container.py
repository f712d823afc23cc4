# SPDX-License-Identifier: BSD-3-Clause
"""Limits of control groups, read from trees of files that look like the system's."""

from __future__ import annotations

from pathlib import Path

import pytest

import fastlstm
from fastlstm import container, runtime
from support import processes

UNLIMITED_V1 = "9223372036854771712\n"


def tree(root: Path, files: dict[str, str]) -> str:
    """Files under `root`; names without a leading /proc are those below /sys/fs/cgroup."""
    for name, text in files.items():
        path = root / (name if name.startswith("proc/") else f"sys/fs/cgroup/{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


# What a machine looks like, the CPU quota, and the least limit of memory among the files.
TREES: dict[str, tuple[dict[str, str], float | None, int | None]] = {
    "no control groups": ({}, None, None),
    "nothing limited": (
        {"proc/self/cgroup": "0::/\n", "cpu.max": "max 100000\n", "memory.max": "max\n"},
        None,
        None,
    ),
    "version 2, a container": (
        {"proc/self/cgroup": "0::/\n", "cpu.max": "250000 100000\n", "memory.max": "1048576\n"},
        2.5,
        1048576,
    ),
    "version 2, the own group": (
        {
            "proc/self/cgroup": "0::/system.slice/job.service\n",
            "system.slice/job.service/cpu.max": "50000 100000\n",
            "system.slice/job.service/memory.max": "4096\n",
        },
        0.5,
        4096,
    ),
    "version 2, a group above": (
        {
            "proc/self/cgroup": "0::/slice/pod/job\n",
            "slice/cpu.max": "300000 100000\n",
            "slice/memory.max": "9000\n",
            "slice/pod/cpu.max": "200000 100000\n",
            "slice/pod/memory.max": "max\n",
            "slice/pod/job/cpu.max": "max 100000\n",
            "slice/pod/job/memory.max": "10000\n",
            "other/cpu.max": "1000 100000\n",
            "other/memory.max": "1\n",
        },
        2,
        9000,
    ),
    "version 2, the path is of the host": (
        {
            "proc/self/cgroup": "0::/docker/0123\n",
            "cpu.max": "150000 50000\n",
            "memory.max": "77\n",
        },
        3,
        77,
    ),
    "version 2, a group below a container's root": (
        {
            "proc/self/cgroup": "0::/docker/0123/job\n",
            "cpu.max": "400000 100000\n",
            "job/cpu.max": "100000 100000\n",
            "job/memory.max": "78\n",
        },
        1,
        78,
    ),
    "version 2, a path beyond the root": (
        {"proc/self/cgroup": "0::/../..\n", "cpu.max": "100000 100000\n", "memory.max": "79\n"},
        1,
        79,
    ),
    "version 1": (
        {
            "proc/self/cgroup": "5:memory:/job\n4:cpuset:/x\n3:cpu:/job\n1:name=systemd:/y\n",
            "cpu/job/cpu.cfs_quota_us": "200000\n",
            "cpu/job/cpu.cfs_period_us": "100000\n",
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "cpuset/x/cpu.cfs_quota_us": "1\n",
            "cpuset/x/cpu.cfs_period_us": "100000\n",
            "memory/job/memory.limit_in_bytes": "4096\n",
            "memory/memory.limit_in_bytes": UNLIMITED_V1,
        },
        2,
        4096,
    ),
    "version 1, joint controllers, the path is of the host": (
        {
            "proc/self/cgroup": "5:memory:/docker/01\n4:cpu,cpuacct:/docker/01\n",
            "cpu,cpuacct/cpu.cfs_quota_us": "150000\n",
            "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "8192\n",
        },
        1.5,
        8192,
    ),
    "version 1 without a list of groups": (
        {
            "cpu/cpu.cfs_quota_us": "100000\n",
            "cpu/cpu.cfs_period_us": "50000\n",
            "memory/memory.limit_in_bytes": "123\n",
        },
        2,
        123,
    ),
    "both versions": (
        {
            "proc/self/cgroup": "3:memory:/a\n0::/b\n",
            "unified/b/cpu.max": "600000 100000\n",
            "memory/a/memory.limit_in_bytes": "99\n",
        },
        6,
        99,
    ),
    "files with something else in them": (
        {
            "proc/self/cgroup": "nonsense\n::\n0::\n7:cpu\n",
            "cpu.max": "many\n",
            "memory.max": "",
            "cpu/cpu.cfs_quota_us": "100000\n",
            "cpu/cpu.cfs_period_us": "0\n",
        },
        None,
        None,
    ),
}


@pytest.mark.parametrize("name", TREES)
def test_limits(name: str, tmp_path: Path) -> None:
    files, quota, memory = TREES[name]
    root = tree(tmp_path, files)
    assert container.cpu_quota(root) == quota
    found = [Path(file) for file in container.memory_files(root)]
    assert all(file.is_file() for file in found)
    assert len(found) == len(set(found))
    limits = [int(text) for text in (file.read_text().strip() for file in found) if text.isdigit()]
    limits = [limit for limit in limits if limit < int(UNLIMITED_V1)]
    assert min(limits, default=None) == memory


@pytest.mark.parametrize(
    ("quota", "threads"), [(None, 8), (0.5, 1), (1.0, 1), (2.9, 2), (3.0, 3), (64.0, 8)]
)
def test_quota_bounds_the_default(
    quota: float | None,
    threads: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("FASTLSTM_NUM_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("fastlstm._core.team_max", lambda: 8)
    monkeypatch.setattr("fastlstm.runtime._cpus", lambda: 8)
    monkeypatch.setattr("fastlstm.container.cpu_quota", lambda: quota)
    assert runtime._default_threads() == threads
    assert fastlstm.config()["cpu_quota"] == quota
    fastlstm.show_config()
    assert ("quota" in capsys.readouterr().out) == (quota is not None)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")  # who asks for threads gets them
    assert runtime._default_threads() == 8
    monkeypatch.setenv("FASTLSTM_NUM_THREADS", "9")
    assert runtime._default_threads() == 9


def test_memory_limit_of_the_own_group(tmp_path: Path) -> None:
    """What the core takes for free memory is at most what the process's own group may have."""
    root = tree(
        tmp_path,
        {"proc/self/cgroup": "0::/job\n", "memory.max": "max\n", "job/memory.max": "1234567"},
    )
    code = """
        import builtins, sys
        import importlib.util
        spec = importlib.util.find_spec("fastlstm")
        path = spec.submodule_search_locations[0] + "/container.py"
        # The files are listed when the module is loaded: show it another system then.
        spec = importlib.util.spec_from_file_location("fastlstm.container", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module._limits = module.memory_files(sys.argv[1])
        sys.modules["fastlstm.container"] = module
        from fastlstm import _core
        print(_core.available_memory())
        """
    assert processes.check(code, root).split() == ["1234567"]
