# SPDX-License-Identifier: BSD-3-Clause
"""What the process's control groups (containers, systemd slices) let it have of CPUs and memory.

Both versions of control groups, and hosts that mix them. A limit of any group above counts as well.
"""

from __future__ import annotations

import os


def _groups(root: str, controller: str) -> list[str]:
    """Directories of the process's group for ``controller`` and of those above it, the own first:
    of version 2, then of version 1."""
    mounts = f"{root}/sys/fs/cgroup"
    found = []
    try:
        with open(f"{root}/proc/self/cgroup") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    for line in [*lines, "0::/", f"1:{controller}:/"]:  # mounts are where they are, listed or not
        number, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if number == "0":
            bases = [mounts, f"{mounts}/unified"]
        elif controller in names.split(","):
            bases = [f"{mounts}/{names}", f"{mounts}/{controller}"]
        else:
            continue
        for base in bases:
            # A container may see a part of the tree only: its root is somewhere on the path then.
            parts = [part for part in path.split("/") if part not in ("", ".", "..")]
            while parts and not os.path.isdir("/".join([base, *parts])):
                del parts[0]
            found += ["/".join([base, *parts[:end]]) for end in range(len(parts), -1, -1)]
    return list(dict.fromkeys(found))


def memory_files(root: str = "") -> list[str]:
    """Files that may hold a limit of memory in bytes, or "max" for none. ``root`` is for tests:
    a directory to take for the system's."""
    return [
        f"{group}/{name}"
        for group in _groups(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
        if os.path.exists(f"{group}/{name}")
    ]


def _numbers(path: str) -> list[int]:
    """The numbers in a file; none where there is no such file or something else in it ("max")."""
    try:
        with open(path) as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []


def cpu_quota(root: str = "") -> float | None:
    """How many CPUs' time the process may use in the long run, None where nothing limits it."""
    limits = []
    for group in _groups(root, "cpu"):
        limits.append(_numbers(f"{group}/cpu.max"))
        limits.append(
            _numbers(f"{group}/cpu.cfs_quota_us") + _numbers(f"{group}/cpu.cfs_period_us")
        )
    quotas = [limit[0] / limit[1] for limit in limits if len(limit) == 2 and min(limit) > 0]
    return min(quotas, default=None)


_limits = memory_files()  # listed once: while the interpreter ends nothing can be looked for


def available_memory() -> int:
    """Bytes that new allocations may take without swapping; all there is where that is unknown. At
    most what the process's control groups may have in all.
    """
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    available = int(line.split()[1]) * 1024
    except OSError:
        pass
    return min([available, *(limit for path in _limits for limit in _numbers(path))])
