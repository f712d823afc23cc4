# SPDX-License-Identifier: BSD-3-Clause
"""Process-wide settings: the instruction set, the number of threads, and a report of both."""

from __future__ import annotations

import os
import platform
import warnings
from pathlib import Path
from typing import Any

from . import _core, checks, container

__version__ = "0.1.0"

# As /proc/cpuinfo calls what the kernels need (cpu.c).
_FEATURES = ("avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl")


def available_isas() -> list[str]:
    """Instruction sets with kernels that run on this machine.

    Returns
    -------
    list of str
        Best first.

    Examples
    --------
    >>> import fastlstm
    >>> fastlstm.available_isas()[-1]
    'generic'
    """
    return [name for name in _core.isa_names() if _core.isa_available(name)]


def _choose_isa() -> str:
    wanted = os.environ.get("FASTLSTM_ISA")
    available = available_isas()
    if not wanted:
        return available[0]
    if wanted not in available:
        raise ValueError(
            f"FASTLSTM_ISA={wanted!r} cannot be used here; available: {', '.join(available)}"
        )
    return wanted


def _default_threads() -> int:
    wanted = os.environ.get("FASTLSTM_NUM_THREADS")
    if wanted:
        try:
            return checks.count("FASTLSTM_NUM_THREADS", int(wanted), 1, 1024)
        except ValueError:
            raise ValueError(
                f"FASTLSTM_NUM_THREADS must be an integer between 1 and 1024, got {wanted!r}"
            ) from None
    most = max(1, min(_core.team_max(), 1024))  # OpenMP has read OMP_NUM_THREADS
    if os.environ.get("OMP_NUM_THREADS"):
        return most
    most = min(most, _cpus() or os.cpu_count() or 1)  # OpenMP does not always see the mask
    quota = container.cpu_quota()  # more threads would wait for each other with the time it grants
    return most if quota is None else max(1, min(most, int(quota)))


def _cpus() -> int | None:
    """CPUs that the process may run on. A bound thread's mask has but one of them."""
    if bound := _core.team_cpus():
        return bound
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


_isa = _choose_isa()
_threads = _default_threads()
_forked = False


def _in_child() -> None:
    global _threads, _forked
    _core.forked()
    _threads, _forked = 1, True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def active_isa() -> str:
    """The instruction set that new models pack their weights for."""
    return _isa


def set_num_threads(n: int) -> None:
    """Let calls use up to `n` threads.

    The default is what the environment variable FASTLSTM_NUM_THREADS or OMP_NUM_THREADS says, else
    the CPUs that the process may run on, or fewer by a container's CPU quota. Results do not depend
    on it. Small calls use fewer, and so does a call that the system refuses threads.

    Parameters
    ----------
    n : int
        1 to 1024.

    Raises
    ------
    TypeError
        `n` is no integer.
    ValueError
        `n` is out of range.

    Warns
    -----
    RuntimeWarning
        `n` > 1 in a forked child, which runs on one thread, since the threads of OpenMP did not
        follow it; nothing changes.

    Examples
    --------
    >>> import fastlstm
    >>> before = fastlstm.get_num_threads()
    >>> fastlstm.set_num_threads(1)
    >>> fastlstm.get_num_threads()
    1
    >>> fastlstm.set_num_threads(before)
    """
    global _threads
    n = checks.count("n", n, 1, 1024)
    if not _forked:
        _threads = n
    elif n > 1:
        warnings.warn(
            f"a forked child runs on one thread: set_num_threads({n}) has no effect here; "
            'processes started by "spawn" have threads of their own',
            RuntimeWarning,
            stacklevel=2,
        )


def get_num_threads() -> int:
    """How many threads a call may use at most.

    Returns
    -------
    int
        1 in a forked child.

    Examples
    --------
    >>> import fastlstm
    >>> fastlstm.get_num_threads() >= 1
    True
    """
    return _threads


def call_threads(num_threads: int | None) -> int:
    """The threads of one call: its ``num_threads`` argument, or else the process's setting."""
    return _threads if num_threads is None else checks.count("num_threads", num_threads, 1, 1024)


def cpu_field(field: str) -> str:
    """What the system says of the first processor, or nothing."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == field:
                return value.strip()
    except OSError:
        pass
    return ""


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    return cpu_field("model name") or platform.processor() or platform.machine()


def _loaded_openmp() -> list[str]:
    """The OpenMP run-times in this process: two (torch brings its own) are worth knowing of."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return []
    files = {line.split("/", 1)[1].rsplit("/", 1)[-1] for line in lines if "/" in line}
    return sorted(f for f in files if any(k in f for k in ("libgomp", "libomp", "libiomp")))


def _blas_name() -> str:
    import scipy

    blas = scipy.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas['name']} {blas['version']} (of SciPy {scipy.__version__})"


def config() -> dict[str, Any]:
    """What this process runs with.

    Returns
    -------
    dict
        A new one::

            version, python, numpy   versions, as text
            cpu                      the processor's name
            cpu_features             those of the processor that kernels ask for, a list
            caches                   bytes of the first, second and third level that serve a core's
                                     data, 0 where the processor does not tell
            isas, isa                instruction sets that run here, best first; the one chosen
            threads                  what a call may use at most
            cpus                     CPUs that the process may run on, None where that is unknown
            cpu_quota                how many CPUs' time its container grants it, None for no limit
            openmp                   version of the OpenMP specification, as text
            openmp_libraries         file names of the OpenMP run-times in this process
            blas                     SciPy's BLAS, which gemm="blas" uses

    Examples
    --------
    >>> import fastlstm
    >>> config = fastlstm.config()
    >>> config["version"] == fastlstm.__version__, config["isa"] in config["isas"]
    (True, True)
    """
    import numpy as np

    flags = cpu_field("flags").split()
    return {
        "version": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cpu": cpu_name(),
        "cpu_features": [name for name in _FEATURES if name in flags],
        "caches": _core.cache_sizes(),
        "isas": available_isas(),
        "isa": _isa,
        "threads": _threads,
        "cpus": _cpus(),
        "cpu_quota": container.cpu_quota(),
        "openmp": _core.team_name(),
        "openmp_libraries": _loaded_openmp(),
        "blas": _blas_name(),
    }


def _bytes(size: int) -> str:
    return f"{size >> 10} KiB" if size else "unknown"


def show_config() -> None:
    """Print `config` for a bug report.

    Examples
    --------
    >>> import fastlstm
    >>> fastlstm.show_config()  # doctest: +ELLIPSIS
    fastlstm      ... (Python ..., NumPy ...)
    CPU           ..., ... for this process...
    ...
    kernels       ... (available: ...generic)
    ...
    """
    c = config()
    print(f"fastlstm      {c['version']} (Python {c['python']}, NumPy {c['numpy']})")
    quota = "" if c["cpu_quota"] is None else f", by a quota the time of {c['cpu_quota']:g}"
    print(f"CPU           {c['cpu']}, {c['cpus']} for this process{quota}")
    print(f"features      {' '.join(c['cpu_features']) or 'unknown'}")
    print(f"caches        {', '.join(map(_bytes, c['caches']))}")
    print(f"kernels       {c['isa']} (available: {', '.join(c['isas'])})")
    print(f"threads       {c['threads']}")
    print(f"OpenMP        {c['openmp']} ({', '.join(c['openmp_libraries']) or 'not found'})")
    print(f"BLAS          {c['blas']}, used with gemm='blas' only")
