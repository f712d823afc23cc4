# SPDX-License-Identifier: BSD-3-Clause
r"""Noise in training, and what takes its place at inference: what these fields of
``fastlstm.LSTMOptions`` mean.

As `fastlstm.reference.options` has it, a step makes a candidate g, a new c, called c~ here, and a
new h, called h~, which reads c~. In a training pass a mask d of dropout is 1 / (1 - p) where an
element is kept, and zero with probability p; a mask m of zoneout is 1 with probability p, else 0.

    zoneout_c            c_t = m c_{t-1} + (1 - m) c~        new masks at each step
    zoneout_h            h_t = m h_{t-1} + (1 - m) h~        likewise; after a projection
    recurrent_dropout    c~ = C(f c_{t-1} + i d g)           likewise
    variational_dropout  h_{t-1} W_hh^T reads d h_{t-1}      one mask of a sequence for all steps
    input_dropout        every layer reads d x               likewise, the same in both directions
    weight_drop          all products read d W_hh            one mask for the whole pass

What else reads h (y, h_n, zoneout) takes it without d, and peepholes of o read c~. At inference
every d is 1, and every m is p: what is expected of c_t and h_t, given the states before.

Backward, with dh and dc the gradients of h_t and c_t,

    dh~ = (1 - m) dh,  dh_{t-1} = m dh + d (dz W_hh)         and dz from dh~ on
    dc~ = (1 - m) dc + what comes through h~,  dc_{t-1} = m dc + what comes through c~
    dg  = ds i d,  di = ds d g                               ds is the gradient of f c + i d g
    dx  = d (dz W_ih),  dW_hh = d sum dz^T (d h_{t-1})       each d its own

A mask is a function of the seed and of the places of its elements, as `dropout_mask` says: the
counter's last word is the kind of the mask, times 2^29, and the layer; of what each direction has
for itself, layer * D + direction. The step is the time t in the batch, and 0 for one mask of a
sequence; of weights, the row of W_hh stands for the step, and 0 for the sequence.

Sources: D. Krueger et al., "Zoneout: regularizing RNNs by randomly preserving hidden activations",
arXiv:1606.01305, 2016; S. Semeniuta, A. Severyn and E. Barth, "Recurrent dropout without memory
loss", COLING 2016; Y. Gal and Z. Ghahramani, "A theoretically grounded application of dropout in
recurrent neural networks", NIPS 2016 (Keras has `recurrent_dropout` and `dropout` for the masks of
h and x); S. Merity, N. Keskar and R. Socher, "Regularizing and optimizing LSTM language models",
arXiv:1708.02182, 2017 (weight drop, the DropConnect of L. Wan et al., ICML 2013).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from .dropout import Array, dropout_mask

# Kinds of masks, by their number; 0 is that of dropout between layers.
ZONEOUT_C, ZONEOUT_H, RECURRENT, VARIATIONAL, INPUT, WEIGHT = range(1, 7)
NAMES = {
    "zoneout_c": ZONEOUT_C,
    "zoneout_h": ZONEOUT_H,
    "recurrent_dropout": RECURRENT,
    "variational_dropout": VARIATIONAL,
    "input_dropout": INPUT,
    "weight_drop": WEIGHT,
}


class Noise(NamedTuple):
    """The masks of one training pass, of arrays of one dtype."""

    options: Mapping[str, Any]
    seed: int

    def mask(self, name: str, place: int, shape: tuple[int, int, int], dtype: Any) -> Array:
        """Of dropout, by the name of its option: (T, B, width)."""
        return dropout_mask(self.seed, NAMES[name] << 29 | place, *shape, self.options[name], dtype)

    def of_cell(
        self, place: int, steps: int, batch: int, params: Mapping[str, Array]
    ) -> dict[str, Array]:
        """(T, B, width) each, in the order of time: what a step reads under the names of options.
        `place` is layer * D + direction."""
        rows, outputs = params["weight_hh"].shape
        widths = {"zoneout_c": rows // 4, "zoneout_h": outputs, "recurrent_dropout": rows // 4}
        dtype, masks = params["weight_hh"].dtype, {}
        for name, width in widths.items():
            if self.options[name]:
                masks[name] = self.mask(name, place, (steps, batch, width), dtype)
                if NAMES[name] in (ZONEOUT_C, ZONEOUT_H):
                    masks[name] = (masks[name] == 0).astype(dtype)
        if self.options["variational_dropout"]:
            one = self.mask("variational_dropout", place, (1, batch, outputs), dtype)
            masks["variational_dropout"] = np.repeat(one, steps, axis=0)
        return masks

    def of_input(self, layer: int, x: Array) -> Array:
        """(1, B, width): of what a layer reads."""
        return self.mask("input_dropout", layer, (1, *x.shape[1:]), x.dtype)

    def dropped(self, weight_hh: Array, place: int) -> Array:
        """The weights with their mask, or likewise their gradients."""
        rows, columns = weight_hh.shape
        return (
            weight_hh * self.mask("weight_drop", place, (rows, 1, columns), weight_hh.dtype)[:, 0]
        )


class Zoneout:
    """Of one state, with probability p."""

    def __init__(self, name: str, p: float) -> None:
        self.name, self.p = name, p

    def held(self, old: Array, new: Array, step: Mapping[str, Array]) -> Array:
        """What is left of an old state and its successor; `step` has the mask in training."""
        if self.p == 0:
            return new
        mask = step.get(self.name, self.p)
        left: Array = mask * old + (1 - mask) * new
        return left

    def backward(self, d: Array, step: Mapping[str, Array]) -> tuple[Array, Array]:
        """From the gradient of `held`, those of the old state and of its successor."""
        if self.p == 0:
            return np.zeros_like(d), d
        mask = step.get(self.name, self.p)
        return mask * d, (1 - mask) * d
