# SPDX-License-Identifier: BSD-3-Clause
"""Data-parallel training over processes or machines: DistributedDataParallel, gloo, fastlstm.torch.

    python train_ddp.py                                    one process
    torchrun --nproc-per-node 2 train_ddp.py               two on this machine
    torchrun --nnodes 4 --nproc-per-node 2 --node-rank K \\
        --master-addr HOST --master-port 29500 train_ddp.py     the same on each of four machines

Each process computes the gradient of its part of a batch and DDP averages them, so that all take
the step of the joint batch: however many there are, losses and weights come out the same but for
rounding. Each process takes an equal share of the cores that torchrun finds on its machine.
"""

import argparse
import os

import numpy as np
import torch
import torch.distributed as dist
from classifier_torch import TorchClassifier
from sklearn.datasets import load_digits
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from tqdm import tqdm

import fastlstm

BATCH = 64  # of all processes together


def use_threads(count: int | None) -> None:
    """Threads of this process; by default, its share of the machine's cores."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    count = count or max(1, len(os.sched_getaffinity(0)) // processes)
    torch.set_num_threads(count)
    fastlstm.set_num_threads(count)


def batches(dtype: torch.dtype, rank: int, processes: int) -> tuple[DataLoader, DistributedSampler]:
    """This process's part of each batch; the parts of all make up the batch of one process."""
    bunch = load_digits()
    count = len(bunch.target) // BATCH * BATCH  # full batches, so that every part weighs the same
    x = torch.tensor(bunch.images[:count] / 16, dtype=dtype)
    data = TensorDataset(x, torch.tensor(bunch.target[:count]))
    sampler = DistributedSampler(data, processes, rank, shuffle=True, seed=0)
    return DataLoader(data, batch_size=BATCH // processes, sampler=sampler), sampler


def main() -> None:
    """Trains; the first process prints, and keeps what --out asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of each process")
    parser.add_argument("--double", action="store_true", help="float64")
    parser.add_argument("--out", help=".npz file for losses, first gradients and last weights")
    options = parser.parse_args()
    use_threads(options.threads)
    if "RANK" in os.environ:  # started by torchrun
        dist.init_process_group("gloo")
        rank, processes = dist.get_rank(), dist.get_world_size()
    else:
        rank, processes = 0, 1
    if BATCH % processes:
        parser.error(f"a batch of {BATCH} cannot be split evenly over {processes} processes")

    torch.manual_seed(0)
    dtype = torch.float64 if options.double else torch.float32
    model = fastlstm.torch.accelerate(TorchClassifier(8, 64, 10)).to(dtype)
    replica = DistributedDataParallel(model) if dist.is_initialized() else model
    optimizer = torch.optim.Adam(replica.parameters(), lr=3e-3)
    loader, sampler = batches(dtype, rank, processes)
    losses, kept = [], {}
    for epoch in tqdm(range(options.epochs), unit="epoch", disable=rank > 0):
        sampler.set_epoch(epoch)
        for x, labels in loader:
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(replica(x), labels)
            loss.backward()
            if not kept:
                kept = {f"gradient {k}": p.grad.numpy().copy() for k, p in model.named_parameters()}
            optimizer.step()
            mean = loss.detach() / processes
            if dist.is_initialized():
                dist.all_reduce(mean)
            losses.append(mean.item())

    if rank == 0:
        print(f"{processes} processes, {fastlstm.get_num_threads()} threads each")
        print(fastlstm.torch.report(model))
        print(f"first loss {losses[0]:.6f}, last loss {losses[-1]:.6f}")
        if options.out:
            kept |= {f"weight {k}": p.detach().numpy() for k, p in model.named_parameters()}
            np.savez(options.out, losses=losses, **kept)
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
