# SPDX-License-Identifier: BSD-3-Clause
"""Keras 3 as an oracle: its recurrent layers, their masks, directions and states."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import fastlstm
from support import keras_runs
from support.keras_runs import built, close, keras, model, numpy_of

pytestmark = [
    pytest.mark.xdist_group("keras"),  # one process imports it
    pytest.mark.filterwarnings("ignore:__array__ implementation"),  # of Keras's own variables
]

layers = keras.layers
T, B, F, H = 6, 6, 3, 5
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "lstm": (layers.LSTM, {}),
    "gru": (layers.GRU, {}),
    "gru reset before": (layers.GRU, {"reset_after": False}),
    "tanh": (layers.SimpleRNN, {}),
    "relu": (layers.SimpleRNN, {"activation": "relu"}),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


def layer_of(kind: str, *, seed: int = 0, **options: Any) -> Any:
    made, own = KINDS[kind]
    return built(made(H, **{**own, **options}), F, seed)


def inputs(seed: int = 0) -> np.ndarray:
    """Of float64, though float32 holds them, which Keras computes in."""
    x = np.random.default_rng(seed).standard_normal((B, T, F))
    return np.clip(x, -3, 3).astype(np.float32).astype(np.float64)


def some_mask(seed: int = 0) -> np.ndarray:
    """Holes, a sequence wholly masked, one that is whole, one that ends early; (B, T)."""
    mask = np.random.default_rng(seed).random((B, T)) < 0.6
    mask[1], mask[2], mask[3, 3:] = False, True, False
    return mask


ALL = {"return_sequences": True, "return_state": True}


@pytest.mark.parametrize("use_bias", [True, False])
def test_layers(kind: str, use_bias: bool) -> None:
    layer = layer_of(kind, use_bias=use_bias, **ALL)
    ours, x = model(layer), inputs()
    y, *state = numpy_of(layer(x))
    found, final = ours(x)
    close(found, y)
    close(keras_runs.states(ours, final), state)
    rng = np.random.default_rng(1)
    given = [rng.standard_normal((B, H)) for _ in state]
    y, *state = numpy_of(layer(x, initial_state=given))
    found, final = ours(x, tuple(h[None] for h in given) if ours._has_c else given[0][None])
    close(found, y)
    close(keras_runs.states(ours, final), state)


@pytest.mark.parametrize("name", keras_runs.ACTIVATIONS)
def test_activations_of_an_lstm(name: str) -> None:
    """Of gates and of the other two, whatever scale their arguments have."""
    for scale in (1.0, 8.0):
        for given in ({"activation": name}, {"recurrent_activation": name}):
            if scale > 1 and name in ("relu", "elu", "softplus", "linear", "leaky_relu"):
                continue  # without bounds, states would grow from step to step
            options = {what: keras_runs.activation(one) for what, one in given.items()}
            layer, x = layer_of("lstm", **options, **ALL), scale * inputs()
            y, _, c = numpy_of(layer(x))
            found, (_, c_n) = model(layer)(x)
            largest = max(1.0, float(np.abs(c).max()))
            assert np.isfinite(y).all()
            close(found / largest, y / largest)
            close(c_n[0] / largest, c / largest)


def test_the_forget_bias() -> None:
    layer = layers.LSTM(H, unit_forget_bias=True)
    layer.build((None, None, F))
    bias = np.asarray(layer.get_weights()[2])[H : 2 * H]
    ours = fastlstm.LSTM(F, H, options={"forget_bias": 1.0})
    assert np.array_equal((ours.bias_ih_l0 + ours.bias_hh_l0)[H : 2 * H], bias)


@pytest.mark.parametrize("zero", [False, True])
def test_masks(kind: str, zero: bool) -> None:
    layer = layer_of(kind, zero_output_for_mask=zero, **ALL)
    ours, x, given = model(layer), inputs(2), some_mask(2)
    y, *state = numpy_of(layer(x, mask=given))
    mask = fastlstm.Mask(given, batch_first=True, zero_outputs=zero)
    found, final = ours(mask.gather(x), lengths=mask.lengths)
    close(mask.spread(found), y)
    close(keras_runs.states(ours, final), state)


def test_right_padding_is_lengths(kind: str) -> None:
    layer = layer_of(kind, zero_output_for_mask=True, **ALL)
    ours, x, lengths = model(layer), inputs(3), [6, 1, 4, 5, 2, 6]
    y, *state = numpy_of(layer(x, mask=np.arange(T) < np.array(lengths)[:, None]))
    found, final = ours(x, lengths=lengths)
    close(found, y)
    close(keras_runs.states(ours, final), state)


@pytest.mark.parametrize("masked", [False, True])
def test_going_backwards(kind: str, masked: bool) -> None:
    """Keras turns x and the mask round, and leaves outputs in the order of processing."""
    layer = layer_of(kind, go_backwards=True, **ALL)
    ours, x, given = model(layer), inputs(4), some_mask(4)
    y, *state = numpy_of(layer(x, mask=given) if masked else layer(x))
    turned = fastlstm.reverse(x, batch_first=True)
    if masked:
        mask = fastlstm.Mask(fastlstm.reverse(given, batch_first=True), batch_first=True)
        found, final = ours(mask.gather(turned), lengths=mask.lengths)
        found = mask.spread(found)
    else:
        found, final = ours(turned)
    close(found, y)
    close(keras_runs.states(ours, final), state)


def test_going_backwards_over_padding(kind: str) -> None:
    """Of padded sequences the padding comes first in Keras; `reverse` with lengths puts it last."""
    layer, lengths = layer_of(kind, go_backwards=True, **ALL), np.array([6, 1, 4, 5, 2, 0])
    ours, x = model(layer), inputs(5)
    y, *state = numpy_of(layer(x, mask=np.arange(T) < lengths[:, None]))
    found, final = ours(fastlstm.reverse(x, lengths, batch_first=True), lengths=lengths)
    for row, length in enumerate(lengths):
        close(found[row, :length], y[row, T - length :])
    close(keras_runs.states(ours, final), state)


@pytest.mark.parametrize(
    ("mode", "masked"),
    [("concat", True), ("sum", False), ("mul", True), ("ave", False), (None, True)],
)
def test_bidirectional(kind: str, mode: Any, masked: bool) -> None:
    inner, own = KINDS[kind]
    one = inner(H, return_sequences=True, **own)
    both = built(layers.Bidirectional(one, merge_mode=mode), F)
    ours, x, given = model(both.forward_layer, both.backward_layer), inputs(6), some_mask(6)
    expected = numpy_of(both(x, mask=given) if masked else both(x))
    if masked:
        # Keras has the layers of a Bidirectional put out zeros, whatever they do by themselves.
        mask = fastlstm.Mask(given, batch_first=True, zero_outputs=True)
        y, _ = ours(mask.gather(x), lengths=mask.lengths)
        y = mask.spread(y, bidirectional=True)
    else:
        y, _ = ours(x)
    merged = fastlstm.merge(y, mode)
    for found, wanted in zip(merged, expected, strict=True):  # halves, or sequences
        close(found, wanted)


@pytest.mark.parametrize("mode", ["concat", "sum"])
def test_last_outputs(kind: str, mode: Any) -> None:
    inner, own = KINDS[kind]
    layer, x = layer_of(kind), inputs(7)
    close(model(layer).last(x)[0], numpy_of(layer(x)))
    given = some_mask(7)
    mask = fastlstm.Mask(given, batch_first=True)
    last = model(layer).last(mask.gather(x), lengths=mask.lengths)[0]
    close(last, numpy_of(layer(x, mask=given)))
    one = inner(H, **own)
    both = built(layers.Bidirectional(one, merge_mode=mode), F)
    ours = model(both.forward_layer, both.backward_layer)
    close(fastlstm.merge(ours.last(x)[0], mode), numpy_of(both(x)))


def test_stateful_layers_are_streams(kind: str) -> None:
    layer = KINDS[kind][0](H, stateful=True, return_sequences=True, **KINDS[kind][1])
    x = inputs(8)
    layer.build((B, 4, F))
    rng = np.random.default_rng(9)
    layer.set_weights([keras_runs.random_weight(rng, value) for value in layer.get_weights()])
    ours = model(layer)
    stream = ours.stream(B)
    for first, end in itertools.pairwise((0, 4, 5, T)):
        chunk = np.ascontiguousarray(x[:, first:end])
        close(stream(chunk), numpy_of(layer(chunk)))
    layer.reset_state()
    close(ours(x)[0], numpy_of(layer(x)))


def test_stacks(kind: str) -> None:
    made, own = KINDS[kind]
    parts = [
        built(made(H, return_sequences=True, **own), width, seed)
        for seed, width in enumerate((F, H))
    ]
    x = inputs(10)
    y = numpy_of(parts[1](parts[0](x)))
    first, second = map(model, parts)
    whole = type(first)(**{**first.config(), "num_layers": 2}, seed=0)
    upper = {name.replace("_l0", "_l1"): v for name, v in second.state_dict().items()}
    whole.load_state_dict({**first.state_dict(), **upper})
    close(whole(x)[0], y)
