# SPDX-License-Identifier: BSD-3-Clause
"""Training over several processes and inference in workers, by the examples that show them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import EXAMPLES


def run(folder: Path, *arguments: str) -> str:
    """Standard output of this interpreter with the arguments; fails the test unless it ends well.

    Nothing of the surrounding session's own distributed settings reaches it.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=inherited | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    script = [str(EXAMPLES / "train_ddp.py"), "--double", "--epochs", "2", "--threads", "1"]
    alone = run(tmp_path, *script, "--out", "one.npz")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    together = run(tmp_path, *torchrun, *script, "--out", "two.npz")
    assert "1 processes, 1 threads each" in alone
    assert "2 processes, 1 threads each" in together
    for output in (alone, together):
        assert "1 module runs in fastlstm, 0 were left" in output

    one, two = (np.load(tmp_path / name) for name in ("one.npz", "two.npz"))
    assert one.files == two.files
    gradients = [name for name in one.files if name.startswith("gradient ")]
    assert len(gradients) == 10
    for name in gradients:
        # A float64 sum over 64 scans of 8 rows in two orders: 512 roundings of 1.1e-16 at most.
        np.testing.assert_allclose(two[name], one[name], rtol=0, atol=6e-14 * abs(one[name]).max())
        assert abs(one[name]).max() > 1e-4
    # Adam divides by the gradient's own size, which magnifies the rounding of small entries.
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-9)
    assert one["losses"][-1] < 0.8 * one["losses"][0]


@pytest.mark.parametrize("engine, package", [("dask", "distributed"), ("futures", "numpy")])
def test_workers_return_the_same_bits(tmp_path: Path, engine: str, package: str) -> None:
    pytest.importorskip(package)
    script = str(EXAMPLES / "inference_workers.py")
    output = run(tmp_path, script, "--with", engine, "--sequences", "300", "--workers", "2")
    assert "300 sequences in 3 chunks" in output
    assert f"{engine}: 2 workers of 1 threads" in output
    assert "same bits as in one process: True" in output


def test_workers_of_a_running_dask_cluster(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    script = str(EXAMPLES / "inference_workers.py")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        output = run(tmp_path, script, "--address", address, "--sequences", "300")
        with distributed.Client(cluster) as client:
            seen = client.run(lambda: "fastlstm" in __import__("sys").modules)
    assert "same bits as in one process: True" in output
    assert list(seen.values()) == [True, True]  # both workers worked
