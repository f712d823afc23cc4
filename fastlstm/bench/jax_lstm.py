# SPDX-License-Identifier: BSD-3-Clause
"""An LSTM for XLA on CPU, written as its users write one: matmul, then `jax.lax.scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .agreement import Outputs
from .shapes import Arrays, Shape


def _layer(weights: tuple[Any, ...], x: Any, h: Any, c: Any, valid: Any) -> tuple[Any, Any, Any]:
    """One direction: x (T, B, I), h and c (B, H), valid (T, B, 1) bool or None."""
    import jax
    import jax.numpy as jnp

    w_ih, w_hh, bias = weights
    projected = jnp.einsum("tbi,gi->tbg", x, w_ih) + bias

    def step(carry: tuple[Any, Any], inputs: tuple[Any, Any]) -> tuple[tuple[Any, Any], Any]:
        h, c = carry
        gates, alive = inputs
        i, f, g, o = jnp.split(gates + h @ w_hh.T, 4, axis=-1)
        c_new = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h_new = jax.nn.sigmoid(o) * jnp.tanh(c_new)
        if alive is None:
            return (h_new, c_new), h_new
        return (jnp.where(alive, h_new, h), jnp.where(alive, c_new, c)), jnp.where(alive, h_new, 0)

    (h, c), y = jax.lax.scan(step, (h, c), (projected, valid))
    return y, h, c


def _flip(x: Any, lengths: Any) -> Any:
    """Each sequence's valid steps in reverse order; its own inverse. x (T, B, F)."""
    import jax.numpy as jnp

    if lengths is None:
        return x[::-1]
    t = jnp.arange(x.shape[0])[:, None]
    source = jnp.where(t < lengths, lengths - 1 - t, t)
    return jnp.take_along_axis(x, source[:, :, None], axis=0)


def _stack(weights: Any, x: Any, states: Any, lengths: Any) -> tuple[Any, Any]:
    """All layers: y (T, B, D*H) and the final (h, c) of every layer and direction.

    weights and states hold an entry for each direction of each layer.
    """
    import jax.numpy as jnp

    valid = None
    if lengths is not None:
        valid = (jnp.arange(x.shape[0])[:, None] < lengths)[:, :, None]
    finals = []
    for directions, starts in zip(weights, states, strict=True):
        h, c = starts[0]
        y, h, c = _layer(directions[0], x, h, c, valid)
        finals.append([(h, c)])
        if len(directions) == 2:
            h, c = starts[1]
            back, h, c = _layer(directions[1], _flip(x, lengths), h, c, valid)
            finals[-1].append((h, c))
            y = jnp.concatenate([y, _flip(back, lengths)], axis=-1)
        x = y
    return x, finals


def _train(weights: Any, x: Any, states: Any, lengths: Any, dy: Any) -> tuple[Any, Any]:
    """y, and the gradients of weights, x and states."""
    import jax

    def forward(weights: Any, x: Any, states: Any) -> Any:
        return _stack(weights, x, states, lengths)[0]

    y, pull_back = jax.vjp(forward, weights, x, states)
    return y, pull_back(dy)


def prepare(shape: Shape, arrays: Arrays) -> Callable[[], object]:
    """A closure that runs one inference or training step and waits for what it gives."""
    import jax
    import jax.numpy as jnp

    params, lengths = arrays.params, arrays.lengths
    suffixes = ("", "_reverse")[: shape.directions]
    weights = [
        [
            (
                jnp.asarray(params[f"weight_ih_l{layer}{suffix}"]),
                jnp.asarray(params[f"weight_hh_l{layer}{suffix}"]),
                jnp.asarray(
                    params[f"bias_ih_l{layer}{suffix}"] + params[f"bias_hh_l{layer}{suffix}"]
                ),
            )
            for suffix in suffixes
        ]
        for layer in range(shape.layers)
    ]
    zeros = jnp.zeros((shape.B, shape.H), shape.dtype)
    states: Any = [[(zeros, zeros)] * shape.directions] * shape.layers
    device_lengths = None if lengths is None else jnp.asarray(lengths)
    device_x = jnp.asarray(arrays.x)

    if shape.train:
        train, dy = jax.jit(_train), jnp.asarray(arrays.dy)
        return lambda: jax.block_until_ready(train(weights, device_x, states, device_lengths, dy))

    run = jax.jit(_stack)
    if not shape.stream:
        return lambda: run(weights, device_x, states, device_lengths)[0].block_until_ready()

    def step() -> object:
        nonlocal states
        y, states = run(weights, device_x, states, None)
        return y.block_until_ready()

    return step


def outputs(shape: Shape, result: Any) -> Outputs:
    """What a call gave, as arrays; each of the two biases has the gradient of their sum."""
    if not shape.train:
        return {"y": np.asarray(result)}
    y, (weights, x, states) = result
    found = {"y": np.asarray(y), "x": np.asarray(x)}
    for i, name in enumerate(("h_0", "c_0")):
        found[name] = np.stack([np.asarray(state[i]) for layer in states for state in layer])
    for layer, directions in enumerate(weights):
        for suffix, (w_ih, w_hh, bias) in zip(("", "_reverse"), directions, strict=False):
            end = f"_l{layer}{suffix}"
            found |= {f"weight_ih{end}": np.asarray(w_ih), f"weight_hh{end}": np.asarray(w_hh)}
            found |= dict.fromkeys((f"bias_ih{end}", f"bias_hh{end}"), np.asarray(bias))
    return found
