# SPDX-License-Identifier: BSD-3-Clause
"""The specification of a model: all that decides the shapes and the layout of its parameters.

It is made once, by whoever checks what a caller asks for, and handed on whole: to the parameters,
to the core and to whatever measures a tape. A further option of a model is one more field.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

FLOAT32 = np.dtype(np.float32)
PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")
# Of layer normalisation, by its form; those with an ending _nc are (H,), the others (4H,).
NORMS = {
    None: (),
    "sums": ("weight_n",),
    "separate": ("weight_nx", "weight_nh", "weight_nc", "bias_nc"),
}
FORWARD, BACKWARD = 1, 2  # passes that parameters are packed for, one bit each: `fastlstm_pass`


@dataclass(frozen=True)
class Cell:
    """What one step of a layer needs to know of its equations to lay out memory."""

    gates: int
    """blocks of H rows in a weight matrix"""
    has_c: bool
    """whether there is a cell state c beside the hidden state h"""


# By the names that the core knows (`fastlstm_cell_kind`).
CELLS: dict[str, Cell] = {
    "lstm": Cell(gates=4, has_c=True),
    "rnn_tanh": Cell(gates=1, has_c=False),
    "rnn_relu": Cell(gates=1, has_c=False),
    "gru": Cell(gates=3, has_c=False),
    "lstm_general": Cell(gates=4, has_c=True),
    "gru_reset_before": Cell(gates=3, has_c=False),
}


@dataclass(frozen=True)
class Spec:
    """A model, as the core and the parameters see it. Sizes have been checked."""

    cell: str
    """a name of `CELLS`"""
    input_size: int
    hidden_size: int
    num_layers: int = 1
    directions: int = 1
    """1, or 2 for a bidirectional model"""
    bias: bool = True
    dtype: np.dtype[Any] = FLOAT32
    """float32 or float64"""
    gemm: str = "native"
    """how input weights are packed: "blas" as SciPy's BLAS takes them, else for our kernels"""
    proj_size: int = 0
    """what the output of an LSTM's cell is projected to; 0: it is not"""
    options: Any = None
    """what makes an LSTM a general one, `fastlstm.LSTMOptions`; None for any other cell"""

    # What follows from the fields is computed once: calls ask for it over and over.

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self._fields())

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[Any, ...]:
        return Spec, self._fields()  # hashes of text differ from process to process

    def _fields(self) -> tuple[Any, ...]:
        sizes = (self.cell, self.input_size, self.hidden_size, self.num_layers, self.directions)
        return (*sizes, self.bias, self.dtype, self.gemm, self.proj_size, self.options)

    @functools.cached_property
    def has_c(self) -> bool:
        """Whether there is a cell state beside the hidden state."""
        return CELLS[self.cell].has_c

    @functools.cached_property
    def gates(self) -> int:
        """Blocks of hidden_size rows in every weight matrix."""
        return CELLS[self.cell].gates

    @functools.cached_property
    def rows(self) -> int:
        """Rows of every weight matrix but a projection's."""
        return self.gates * self.hidden_size

    @functools.cached_property
    def outputs(self) -> int:
        """Width of h: what a layer puts out in each direction."""
        return self.proj_size or self.hidden_size

    @functools.cached_property
    def double(self) -> bool:
        """Whether elements have 64 bits."""
        return self.dtype.itemsize == 8

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Parameters of one layer and direction, without the ending of their names."""
        biases = ("bias_ih", "bias_hh") if self.bias else ()
        projection = ("weight_hr",) if self.proj_size else ()
        peepholes = PEEPHOLES if self.has_peepholes else ()
        return ("weight_ih", "weight_hh", *biases, *projection, *peepholes, *self.norms)

    @functools.cached_property
    def has_peepholes(self) -> bool:
        """Whether gates read c by weights of their own."""
        return self.options is not None and bool(self.options.peepholes)

    @functools.cached_property
    def norms(self) -> tuple[str, ...]:
        """Parameters of layer normalisation of one layer and direction."""
        return NORMS[None if self.options is None else self.options.layer_norm]

    @functools.cached_property
    def suffixes(self) -> list[str]:
        """Name endings of the layers and directions in order: _l0, _l0_reverse, _l1, ..."""
        ends = ("", "_reverse")[: self.directions]
        return [f"_l{layer}{end}" for layer in range(self.num_layers) for end in ends]

    @functools.cached_property
    def widths(self) -> list[int]:
        """Inputs of each layer."""
        above = self.directions * self.outputs
        return [self.input_size, *[above] * (self.num_layers - 1)]

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every parameter, in torch's order."""
        found: dict[str, tuple[int, ...]] = {}
        one = {
            "weight_hh": (self.rows, self.outputs),
            "bias_ih": (self.rows,),
            "bias_hh": (self.rows,),
            "weight_hr": (self.proj_size, self.hidden_size),
        }
        one |= dict.fromkeys(PEEPHOLES, (self.hidden_size,))
        one |= {
            name: (self.hidden_size if name.endswith("_nc") else self.rows,) for name in self.norms
        }
        for at, end in enumerate(self.suffixes):
            one["weight_ih"] = (self.rows, self.widths[at // self.directions])
            found |= {name + end: one[name] for name in self.names}
        return found
