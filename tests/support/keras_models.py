# SPDX-License-Identifier: BSD-3-Clause
"""Random models of Keras, and their files, for the importers.

Keras runs on its torch backend unless the environment names another one.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np

# float32 of at most three recurrent layers of a few steps, and what stands between them: sums of up
# to 30 terms below 4, whose roundings hardly grow on their way. Relative where outputs are large.
TOLERANCE = 3 * 9 * 30 * 4 * float(np.finfo(np.float32).eps)

_INNER = ["tanh", "tanh", "relu", "softsign", "elu", "softplus", "linear", "sigmoid"]
_BETWEEN = [None, "relu", "tanh", "softmax", "gelu", "elu", "selu", "silu"]
_ALONE = ["relu", "hard_sigmoid", "softplus", "exponential", "leaky_relu"]


def keras(name: str = "keras") -> Any:
    """The module: Keras 3, or tf_keras, which is Keras 2."""
    import importlib

    os.environ.setdefault("KERAS_BACKEND", "torch")
    return importlib.import_module(name)


def _recurrent(layers: Any, rng: random.Random, every: bool) -> Any:
    kind = rng.choice(["LSTM", "LSTM", "GRU", "SimpleRNN"])
    config: dict[str, Any] = {
        "units": rng.randint(1, 9),
        "return_sequences": every,
        "use_bias": rng.random() < 0.8,
        "dropout": rng.choice([0.0, 0.2]),
        "zero_output_for_mask": rng.random() < 0.3,
    }
    if kind == "LSTM":
        config["activation"] = rng.choice(_INNER)
        config["recurrent_activation"] = rng.choice(["sigmoid", "sigmoid", "hard_sigmoid", "tanh"])
    elif kind == "GRU":
        config["reset_after"] = rng.random() < 0.6
    else:
        config["activation"] = rng.choice(["tanh", "relu"])
    made = getattr(layers, kind)
    if rng.random() < 0.35:
        mode = rng.choice(["concat", "sum", "mul", "ave"])
        return layers.Bidirectional(made(**config), merge_mode=mode)
    return made(**config, go_backwards=rng.random() < 0.3)


def _between(layers: Any, rng: random.Random, every: bool) -> Any:
    makers = [
        lambda: layers.Dense(rng.randint(1, 6), activation=rng.choice(_BETWEEN)),
        lambda: layers.BatchNormalization(scale=rng.random() < 0.7, center=rng.random() < 0.7),
        lambda: layers.Dropout(0.3),
        lambda: layers.Activation(rng.choice(_ALONE)),
        layers.LeakyReLU,
        layers.LayerNormalization,
        lambda: layers.PReLU(shared_axes=[1] if every else None),
    ]
    if every:
        makers.append(lambda: layers.TimeDistributed(layers.Dense(3, activation="sigmoid")))
    return rng.choice(makers)()


def model(module: Any, seed: int, *, streams: bool = False) -> tuple[Any, np.ndarray]:
    """A random chain and inputs for it; `streams`: one that can run in chunks."""
    rng, layers = random.Random(seed), module.layers
    steps, wide = rng.randint(1, 9), rng.randint(1, 6)
    chain: list[Any] = []
    indices = rng.random() < 0.25
    if indices:
        chain.append(layers.Input((steps,), dtype="int32"))
        chain.append(layers.Embedding(10, wide, mask_zero=not streams and rng.random() < 0.6))
    else:
        chain.append(layers.Input((steps, wide)))
        if not streams and rng.random() < 0.4:
            chain.append(layers.Masking())
    if rng.random() < 0.4:
        padding = "causal" if streams else rng.choice(["same", "causal"])
        dilation = rng.choice([1, 2])
        config = {"padding": padding, "activation": rng.choice([None, "relu"])}
        chain.append(
            layers.Conv1D(rng.randint(1, 5), rng.randint(1, 3), dilation_rate=dilation, **config)
        )
    count = rng.randint(1, 3)
    every = True
    for at in range(count):
        every = streams or at < count - 1 or rng.random() < 0.5
        made = _recurrent(layers, rng, every)
        while streams and (hasattr(made, "merge_mode") or made.go_backwards):
            made = _recurrent(layers, rng, every)
        chain.append(made)
        chain += [_between(layers, rng, every) for _ in range(rng.randint(0, 2))]
    if not streams and rng.random() < 0.4:
        ends = [layers.Flatten, layers.GlobalAveragePooling1D, layers.GlobalMaxPooling1D]
        chain.append(rng.choice(ends)() if every else layers.Dense(2, activation="softmax"))
    made = module.Sequential(chain)
    values = np.random.default_rng(seed)
    fill(made, values)
    if indices:
        return made, values.integers(0, 10, (4, steps))
    x = values.normal(0, 1, (4, steps, wide)).astype(np.float32)
    x[0, steps // 2 :], x[1, 0] = 0, 0  # masked steps at the end and within, where there are masks
    return made, x


def fill(made: Any, rng: np.random.Generator) -> None:
    """Weights other than the first ones, which are 0 and 1 too often."""
    for variable in getattr(made, "variables", None) or made.weights:
        if "seed" not in variable.name:
            array = rng.normal(0, 0.5, tuple(variable.shape)).astype("float32")
            variable.assign(np.abs(array) + 0.2 if "variance" in variable.name else array)


def largest_difference(one: Any, other: Any) -> float:
    """Of two results, relative where the first one is large; infinite where shapes differ."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if one.shape != other.shape or not (np.isfinite(one) == np.isfinite(other)).all():
        return float("inf")
    known = np.isfinite(one)
    errors = np.abs(one - other)[known] / np.maximum(1, np.abs(one[known]))
    return float(errors.max(initial=0.0))


def saved(made: Any, folder: Path) -> list[Path]:
    """The model as each of the files that Keras writes with a configuration."""
    found = []
    for name in ("model.keras", "model.h5"):
        made.save(folder / name)
        found.append(folder / name)
    return found


def read_bare(path: Path) -> Any:
    """A file of weights alone through the importer, with all that it does not tell."""
    from fastlstm import interop

    told = {"recurrent_activation": "sigmoid", "merge_mode": "concat", "reset_after": True}
    return interop.from_keras(path, **told)
