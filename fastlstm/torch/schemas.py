# SPDX-License-Identifier: BSD-3-Clause
"""The operators' schemas, and one way to call them and to implement them for every cell.

    lstm_forward, lstm_backward    the LSTM, whose state is a pair (h, c); `options` makes another
                                   LSTM of it, by the text that `variants.text_of` has for them
    rnn_forward, rnn_backward      every cell whose state is h alone; `cell` says which

Inside fastlstm there is one list of arguments for both pairs: the LSTM's, with the cell before the
layout, where c_0, dc_n and the need of a gradient for c_0 mean nothing to a cell without c.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .. import runtime
from ..spec import CELLS

Tensor = Any  # torch is an optional dependency, which mypy sees as Any

library = torch.library.Library("fastlstm", "DEF")
_OPTIONS = "str layout, bool bidirectional, float dropout, SymInt batch"
_FORWARD = "bool with_tape=False, *, str imports='', str build=''"
_VARIANT = "str options=''"
library.define(
    "lstm_forward(Tensor x, Tensor? h_0, Tensor? c_0, Tensor[] weights, Tensor? batch_sizes, "
    f"Tensor? seed, {_OPTIONS}, {_FORWARD}, {_VARIANT}) "
    "-> (Tensor y, Tensor h_n, Tensor c_n, Tensor tape)"
)
library.define(
    "lstm_backward(Tensor tape, Tensor x, Tensor[] weights, Tensor? batch_sizes, Tensor? seed, "
    f"Tensor? dy, Tensor? dh_n, Tensor? dc_n, {_OPTIONS}, bool[] needs, *, {_VARIANT}) "
    "-> Tensor[]"
)
library.define(
    "rnn_forward(Tensor x, Tensor? h_0, Tensor[] weights, Tensor? batch_sizes, Tensor? seed, "
    f"str cell, {_OPTIONS}, {_FORWARD}) -> (Tensor y, Tensor h_n, Tensor tape)"
)
library.define(
    "rnn_backward(Tensor tape, Tensor x, Tensor[] weights, Tensor? batch_sizes, Tensor? seed, "
    f"Tensor? dy, Tensor? dh_n, str cell, {_OPTIONS}, bool[] needs) -> Tensor[]"
)
_lstm_forward = torch.ops.fastlstm.lstm_forward.default
_lstm_backward = torch.ops.fastlstm.lstm_backward.default
_rnn_forward = torch.ops.fastlstm.rnn_forward.default
_rnn_backward = torch.ops.fastlstm.rnn_backward.default

# Two arguments that do nothing. PyTorch shows the arguments of an operator that it does not find,
# so who loads an exported program learns what to import. And Inductor keeps on disk what it
# compiled, by the arguments of all operators, with the size of the tape, which another version or
# instruction set changes.
IMPORTS = "fastlstm.torch"
BUILD = f"{runtime.__version__} {runtime.active_isa()}"

_WITHOUT_C = frozenset(name for name, cell in CELLS.items() if not cell.has_c)


# ---- calls ----


def forward(
    x: Tensor,
    h_0: Tensor | None,
    c_0: Tensor | None,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    cell: str,
    *options: Any,
    **words: str,
) -> Any:
    """(y, h_n, c_n, tape) by the operator of the cell; c_n is None where there is no c."""
    if cell in _WITHOUT_C:
        y, h_n, tape = _rnn_forward(x, h_0, weights, batch_sizes, seed, cell, *options, **words)
        return y, h_n, None, tape
    words |= _variant(cell)
    return _lstm_forward(x, h_0, c_0, weights, batch_sizes, seed, *options, **words)


def backward(
    tape: Tensor,
    x: Tensor,
    weights: list[Tensor],
    batch_sizes: Tensor | None,
    seed: Tensor | None,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    cell: str,
    *options: Any,
) -> Any:
    """The gradients that are needed, by the operator of the cell."""
    given = (tape, x, weights, batch_sizes, seed, dy, dh_n)
    if cell in _WITHOUT_C:
        *options_, needs = options
        return _rnn_backward(*given, cell, *options_, [*needs[:2], *needs[3:]])
    return _lstm_backward(*given, dc_n, *options, **_variant(cell))


def _variant(cell: str) -> dict[str, str]:
    return {} if cell == "lstm" else {"options": cell}


# ---- implementations ----


def implement(name: str, function: Callable[..., Any], key: str) -> None:
    """Register what takes the one list of arguments as both operators' `name` ("forward", or
    "backward") under a dispatch key; "fake" is one."""
    for operator, adapted in both(name, function).items():
        if operator == "rnn_forward":
            adapted = _without_c_n(adapted)
        if key == "fake":
            torch.library.register_fake(f"fastlstm::{operator}", adapted, lib=library)
        else:
            library.impl(operator, adapted, key)


def both(name: str, function: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """Operator -> `function` with that operator's arguments."""
    if name == "forward":
        return {"lstm_forward": _of_lstm(function, 6), "rnn_forward": _forward_of_rnn(function)}
    return {"lstm_backward": _of_lstm(function, 8), "rnn_backward": _backward_of_rnn(function)}


def _of_lstm(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    def implementation(*given: Any, options: str = "", **words: Any) -> Any:
        if options and not options.startswith("{"):
            raise ValueError(f"options must be those of an LSTM as JSON, got {options!r}")
        return function(*given[:at], options or "lstm", *given[at:], **words)

    return implementation


def _forward_of_rnn(function: Callable[..., Any]) -> Callable[..., Any]:
    def implementation(x: Tensor, h_0: Tensor | None, *given: Any, **words: Any) -> Any:
        return function(x, h_0, None, *given[:3], _without_c(given[3]), *given[4:], **words)

    return implementation


def _backward_of_rnn(function: Callable[..., Any]) -> Callable[..., Any]:
    def implementation(*given: Any, **words: Any) -> Any:
        *options, needs = given[8:]
        needs = [*needs[:2], False, *needs[2:]]
        return function(*given[:7], None, _without_c(given[7]), *options, needs, **words)

    return implementation


def _without_c_n(function: Callable[..., Any]) -> Callable[..., Any]:
    def implementation(*given: Any, **words: Any) -> Any:
        y, h_n, _, tape = function(*given, **words)
        return y, h_n, tape

    return implementation


def _without_c(cell: str) -> str:
    if cell not in _WITHOUT_C:
        raise ValueError(f"cell must be one of {', '.join(sorted(_WITHOUT_C))}, got {cell!r}")
    return cell
