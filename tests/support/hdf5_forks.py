# SPDX-License-Identifier: BSD-3-Clause
"""Files of Keras, each read by a forked process: a hundredth of the time that a new one takes.

An importer starts a Python for each HDF5 file, which takes 0.2 s. Here the process that has
imported everything forks one for each file. That one runs the same program, `hdf5_child`, with the
same limits of memory and time, which it sets itself, and may crash as any other.
"""

from __future__ import annotations

import importlib
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastlstm.interop import hdf5_child, keras_files
from support import inner_mutations, keras_models, mutations


def read(path: Path) -> Any:
    """A file with a configuration."""
    return _with_forks(inner_mutations.read, path)


def read_bare(path: Path) -> Any:
    """A file of weights alone."""
    return _with_forks(keras_models.read_bare, path)


def _with_forks(reader: Any, path: Path) -> Any:
    importlib.import_module("h5py")
    usual, keras_files._process = keras_files._process, _process
    try:
        return reader(path)
    finally:
        keras_files._process = usual


def _process(path: str, data: bytes | None, size: int) -> tuple[int, bytes]:
    """As the importer's own."""
    before = mutations.memory("VmRSS")
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        given.write(data or b"")
        given.seek(0)
        process = os.fork()
        if not process:
            _run(path if data is None else "-", size, given.fileno(), taken.fileno())
        _, status, used = os.wait4(process, 0)
        taken.seek(0)
        output = taken.read()
    mutations.check_growth(used.ru_maxrss * 1024 - before, size)
    seconds = used.ru_utime + used.ru_stime
    assert seconds <= 3 + size / (20 << 20), f"{seconds} s in the process that reads HDF5"
    return os.waitstatus_to_exitcode(status), output


def _run(path: str, size: int, given: int, taken: int) -> None:
    """In the forked process, which ends here."""
    status = 1
    try:
        os.dup2(given, 0)
        os.dup2(taken, 1)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.argv[1:] = [path, str(size)]
        hdf5_child.main()
        status = 0
    finally:
        os._exit(status)
