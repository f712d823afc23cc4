# SPDX-License-Identifier: BSD-3-Clause
"""Inference in many worker processes: Dask, or Python's own concurrent.futures.

A model is pickled to the workers like any other object. Each worker process is given its threads:
the workers times their threads should not exceed the cores. A sequence's bits depend neither on
the worker nor on the chunk that it travelled in, so results can be compared with `==`.

`--address` names the scheduler of a Dask cluster of many machines; without it, Dask starts worker
processes here.
"""

import argparse
import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

import fastlstm

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]
Chunk = tuple[Floats, Ints]  # x (B, T, I), lengths (B,)


def last_states(model: fastlstm.LSTM, chunk: Chunk, threads: int) -> Floats:
    """What a worker does: (B, D*H), the last layer's last state of every sequence."""
    x, lengths = chunk
    _, (h_n, _) = model(x, lengths=lengths, num_threads=threads)
    directions = 2 if model.bidirectional else 1
    return np.concatenate(h_n[-directions:], axis=-1)


def chunks(count: int, size: int) -> Iterator[Chunk]:
    """Made-up sequences of 20 to 200 steps of 12 features."""
    rng = np.random.default_rng(0)
    for start in range(0, count, size):
        lengths = rng.integers(20, 201, size=min(size, count - start))
        yield rng.standard_normal((len(lengths), 200, 12), dtype=np.float32), lengths


def with_dask(
    model: fastlstm.LSTM, work: list[Chunk], workers: int, threads: int, address: str | None
) -> list[Floats]:
    """Results in the order of the chunks."""
    from dask.distributed import Client

    # One task at a time in each worker process: the engine's own threads use its cores.
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with Client(address) if address else Client(processes=True, **local) as client:
        everywhere = client.scatter(model, broadcast=True)  # sent once, not with each chunk
        tasks = [
            client.submit(last_states, everywhere, chunk, threads)
            for chunk in client.scatter(work)  # type: ignore[no-untyped-call]
        ]
        return client.gather(tasks)


_model: fastlstm.LSTM


def _receive(model: fastlstm.LSTM) -> None:
    global _model
    _model = model


def _last_states(chunk: Chunk, threads: int) -> Floats:
    return last_states(_model, chunk, threads)


def with_futures(
    model: fastlstm.LSTM, work: list[Chunk], workers: int, threads: int
) -> list[Floats]:
    """Results in the order of the chunks."""
    fresh = multiprocessing.get_context("spawn")  # forked children would run on one thread
    with ProcessPoolExecutor(workers, fresh, initializer=_receive, initargs=(model,)) as pool:
        return list(pool.map(_last_states, work, [threads] * len(work)))


def main() -> None:
    """Runs in the workers and here, and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--with", dest="engine", choices=("dask", "futures"), default="dask")
    parser.add_argument("--address", help="of a running Dask scheduler, as tcp://host:8786")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--sequences", type=int, default=2048)
    options = parser.parse_args()
    model = fastlstm.LSTM(12, 64, 2, bidirectional=True, batch_first=True, seed=0)
    work = list(chunks(options.sequences, 128))

    began = perf_counter()
    if options.engine == "dask":
        results = with_dask(model, work, options.workers, options.threads, options.address)
    else:
        results = with_futures(model, work, options.workers, options.threads)
    there = perf_counter() - began
    began = perf_counter()
    expected = [last_states(model, chunk, options.threads) for chunk in work]
    here = perf_counter() - began
    same = all(np.array_equal(a, b) for a, b in zip(results, expected, strict=True))
    print(f"{options.sequences} sequences in {len(work)} chunks, model of {_size(model):,} bytes")
    print(
        f"{options.engine}: {options.workers} workers of {options.threads} threads, "
        f"{there:.2f} s with their start; here: {here:.2f} s"
    )
    print(f"same bits as in one process: {same}")


def _size(model: fastlstm.LSTM) -> int:
    return sum(array.nbytes for array in model.parameters().values())


if __name__ == "__main__":
    main()
