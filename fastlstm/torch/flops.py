# SPDX-License-Identifier: BSD-3-Clause
"""What torch.utils.flop_counter counts for the operators: the products with weights, as it counts
the ones that PyTorch's own LSTM is made of. Activations count as nothing there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from . import schemas
from .engines import spec_of
from .kernels import extent

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


def _rows(x: Tensor, layout: str, batch_sizes: Tensor | None, batch: int) -> tuple[int, int, int]:
    """Rows of a batch at all steps together, at the first step and at the last one."""
    steps, batch = extent(layout, x.shape, batch_sizes, batch)
    if batch_sizes is None:
        return steps * batch, batch, batch
    return x.shape[0], batch, int(batch_sizes[-1])


def _forward(
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    cell: str,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    *rest: Any,
    **_: Any,
) -> int:
    spec = spec_of(weights, cell, bidirectional)
    rows, _first, _last = _rows(x, layout, batch_sizes, batch)
    inputs = sum(spec.widths) + spec.num_layers * spec.outputs
    projections = spec.num_layers * spec.proj_size * spec.hidden_size
    return 2 * rows * (spec.rows * inputs + projections) * spec.directions


def _backward(
    tape: Tensor,
    x: Tensor,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    cell: str,
    layout: str,
    bidirectional: bool,
    dropout: float,
    batch: int,
    needs: list[bool],
    **_: Any,
) -> int:
    spec = spec_of(weights, cell, bidirectional)
    rows, *ends = _rows(x, layout, batch_sizes, batch)
    needs_x, needs_h, needs_c, *of_weights = needs
    total, below = 0, needs_x  # below: whether anything under a layer needs its gradients
    for layer, width in enumerate(spec.widths):
        needed = below
        for direction, end in enumerate(ends[: spec.directions]):
            at = (layer * spec.directions + direction) * len(spec.names)
            mine = of_weights[at : at + len(spec.names)]
            total += spec.rows * rows * (mine[0] * width + mine[1] * spec.outputs + below * width)
            if spec.proj_size:
                needs_projection = mine[spec.names.index("weight_hr")]
                total += rows * spec.proj_size * spec.hidden_size * needs_projection
            if below or needs_h or needs_c or any(mine):
                # The states before the first step, the last one in reverse, only if asked for.
                total += spec.rows * (rows - (0 if needs_h else end)) * spec.outputs
                total += rows * spec.proj_size * spec.hidden_size  # from h to what it is made of
                needed = True
        below = needed
    return 2 * total


for _name, _formula in (("forward", _forward), ("backward", _backward)):
    for _operator, _adapted in schemas.both(_name, _formula).items():
        register_flop_formula(getattr(torch.ops.fastlstm, _operator), get_raw=True)(_adapted)
