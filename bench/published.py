# SPDX-License-Identifier: BSD-3-Clause
"""Trained recurrent layers that packages on PyPI ship: their own engine's time and ours.

Each engine on one thread, by turns, the least time of each counts. A package that is not installed
is left out; none of them is imported but g2pM, which is NumPy.

    pip install --no-deps silero-vad resemblyzer g2pM textgenrnn dksplit
    OMP_NUM_THREADS=1 python bench/published.py [--rounds 30]
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import fastlstm
from fastlstm import interop

Run = Callable[[], Any]
Row = tuple[str, str, Run, Run]  # what, whose engine, a run of it, a run of ours


def folder(package: str) -> Path | None:
    """Where a package lies, None if it is not installed."""
    spec = importlib.util.find_spec(package)
    found = spec.submodule_search_locations if spec is not None else None
    return Path(found[0]) if found else None


def floats(*shape: int) -> Any:
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).astype(np.float32)


def by_runtime(model: Any, x: Any) -> Run:
    """The same layer, exported, in ONNX Runtime, with zeros for a state."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        interop.to_onnx(model, state=True).SerializeToString(), options
    )
    state = np.zeros((model.num_layers * (1 + model.bidirectional), 1, model.hidden_size), x.dtype)
    feeds = {"x": x, "h_0": state, "c_0": state}
    return lambda: session.run(None, feeds)


def silero() -> Iterator[Row]:
    home = folder("silero_vad")
    if home is not None:
        file = home / "data" / "silero_vad_16k_op15.onnx"
        model = next(iter(interop.from_onnx(file).layers.values()))
        stream, x = model.stream(1), floats(1, 128)
        theirs = by_runtime(model, x[None])
        yield "Silero VAD, a step of its LSTM", "ONNX Runtime", theirs, lambda: stream(x)


def dksplit() -> Iterator[Row]:
    home = folder("dksplit")
    if home is not None:
        file = home / "models" / "dksplit-int8.onnx"
        model, x = interop.from_onnx(file).model, floats(20, 1, 384)
        theirs = by_runtime(model, x)
        yield "dksplit, 20 letters, all in float32", "ONNX Runtime", theirs, lambda: model(x)


def resemblyzer() -> Iterator[Row]:
    home = folder("resemblyzer")
    if home is not None:
        import torch

        torch.set_num_threads(1)
        model = interop.from_torch(home / "pretrained.pt", batch_first=True).model
        module, x = interop.to_torch(model).eval(), floats(1, 160, 40)
        tensor = torch.from_numpy(x)
        theirs = torch.inference_mode()(lambda: module(tensor))
        yield "Resemblyzer, 160 frames, three layers", "PyTorch", theirs, lambda: model(x)


def g2pm() -> Iterator[Row]:
    home = folder("g2pM")
    if home is not None:
        package = importlib.import_module("g2pM").G2pM()
        state = pickle.loads((home / "np_ckpt.pkl").read_bytes())  # as the package does
        model = interop.from_torch(state, batch_first=True).layers["lstm"]
        x = package.get_embedding(np.zeros((1, 20), np.int64))

        def theirs() -> None:
            for cell in (package.fw_lstm_cell, package.bw_lstm_cell):
                kept = None
                for t in range(20):
                    kept = cell(x[:, t], kept)

        yield "g2pM, 20 characters, both directions", "NumPy", theirs, lambda: model(x)


def textgenrnn() -> Iterator[Row]:
    home = folder("textgenrnn")
    if home is not None:
        os.environ.setdefault("KERAS_BACKEND", "torch")
        found = interop.from_keras(home / "textgenrnn_weights.hdf5").layers
        below, above, x = found["rnn_1"], found["rnn_2"], floats(1, 40, 100)
        first, second = interop.to_keras(below), interop.to_keras(above)

        def ours() -> Any:
            return above(below(x)[0])

        yield (
            "textgenrnn, 40 letters, two LSTMs",
            "Keras on PyTorch",
            lambda: second(first(x)),
            ours,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    rounds = parser.parse_args().rounds
    fastlstm.set_num_threads(1)
    print("| layers | own engine | us | fastlstm, us |\n|---|---|---:|---:|")
    for rows in (silero, dksplit, resemblyzer, g2pm, textgenrnn):
        for what, whose, theirs, ours in rows():
            times: list[list[float]] = [[], []]
            for _ in range(rounds):
                for run, kept in zip((theirs, ours), times, strict=True):
                    start = perf_counter()
                    run()
                    kept.append(perf_counter() - start)
            least = " | ".join(f"{min(kept) * 1e6:,.1f}" for kept in times)
            print(f"| {what} | {whose} | {least} |", flush=True)


if __name__ == "__main__":
    main()
