# SPDX-License-Identifier: BSD-3-Clause
"""An LSTM for XLA on CPU, written as its users write one: matmul, then `jax.lax.scan`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from .shapes import Shape


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


def prepare(
    shape: Shape, params: dict[str, NDArray[Any]], x: NDArray[Any], lengths: NDArray[Any] | None
) -> Callable[[], object]:
    """A closure that runs one inference and waits for its result, (T, B, D*H)."""
    import jax
    import jax.numpy as jnp

    weights = [
        [
            (
                jnp.asarray(params[f"weight_ih_l{layer}{suffix}"]),
                jnp.asarray(params[f"weight_hh_l{layer}{suffix}"]),
                jnp.asarray(
                    params[f"bias_ih_l{layer}{suffix}"] + params[f"bias_hh_l{layer}{suffix}"]
                ),
            )
            for suffix in ("", "_reverse")[: shape.directions]
        ]
        for layer in range(shape.layers)
    ]

    def forward(weights: Any, x: Any, states: Any, lengths: Any) -> tuple[Any, Any]:
        valid = None
        if lengths is not None:
            valid = (jnp.arange(x.shape[0])[:, None] < lengths)[:, :, None]
        finals = []
        for layer, directions in enumerate(weights):
            h, c = states[layer]
            y, h, c = _layer(directions[0], x, h, c, valid)
            finals.append((h, c))
            if len(directions) == 2:
                zeros = jnp.zeros_like(h)
                back, _, _ = _layer(directions[1], _flip(x, lengths), zeros, zeros, valid)
                y = jnp.concatenate([y, _flip(back, lengths)], axis=-1)
            x = y
        return x, finals

    run = jax.jit(forward)
    zeros = jnp.zeros((shape.B, shape.H), x.dtype)
    states: Any = [(zeros, zeros)] * shape.layers
    device_lengths = None if lengths is None else jnp.asarray(lengths)
    device_x = jnp.asarray(x)

    if not shape.stream:
        return lambda: run(weights, device_x, states, device_lengths)[0].block_until_ready()

    def step() -> object:
        nonlocal states
        y, states = run(weights, device_x, states, None)
        return y.block_until_ready()

    return step
