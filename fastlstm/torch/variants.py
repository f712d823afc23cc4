# SPDX-License-Identifier: BSD-3-Clause
"""Modules with `LSTMOptions`. PyTorch has none like them, so their calls never reach its forward.

Such a module has all parameters that a specification names, in its order. To the operators it is a
cell whose name is a text of its options, which `engines.spec_of` reads.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

import torch

from .. import cell as _cell
from .. import lstm as _lstm
from ..options import LSTMOptions, chosen
from ..spec import Spec

Tensor = Any  # torch is an optional dependency, which mypy sees as Any


def text_of(options: LSTMOptions | None) -> str:
    """The cell's name; "lstm" where options leave the equations of the plain one."""
    equations = None if options is None else options.equations()
    return "lstm" if equations is None else json.dumps(equations.config())


@functools.lru_cache(maxsize=256)
def equations_of(text: str) -> LSTMOptions | None:
    """What `text_of` was given, without what first values alone depend on. Raises ValueError for
    what it never says."""
    try:
        options: LSTMOptions | None = chosen(json.loads(text))[2]
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"options must be those of an LSTM as JSON, got {text!r}: {error}") from (
            error
        )
    return options


def is_general(module: Any) -> bool:
    """Whether PyTorch's own forward would compute something else."""
    options = module._fastlstm_options
    return options is not None and dataclasses.replace(options, forget_bias=None) != LSTMOptions()


class Variant:
    """A base, before those of the LSTM and its cell, that takes options and keeps them."""

    _fastlstm_options: LSTMOptions | None

    def __init__(
        self,
        *args: Any,
        options: LSTMOptions | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        attach(self, options)

    def reset_parameters(self) -> None:
        """As that of PyTorch's class; with options as `fastlstm.LSTM` and its cell have them."""
        super().reset_parameters()  # type: ignore[misc]
        reset(self)

    def extra_repr(self) -> str:
        """As that of PyTorch's class, and the options.

        Returns
        -------
        str
            One line.
        """
        options = self._fastlstm_options
        more = "" if options is None else f", options={options!r}"
        return f"{super().extra_repr()}{more}"  # type: ignore[misc]


# ---- parameters ----


def attach(module: Any, options: object) -> None:
    """Give a new module of ours its options, and the parameters that they add."""
    module.options, _, equations = chosen(options, getattr(module, "proj_size", 0))
    if module.options is None:
        return
    module._fastlstm_options = module.options
    module._fastlstm_cell = text_of(module.options)
    if equations is not None:
        _arrange(module, equations)
    reset(module)


def _arrange(module: Any, equations: LSTMOptions) -> None:
    layer = isinstance(module, torch.nn.LSTM)
    spec = Spec(
        "lstm_general",
        module.input_size,
        module.hidden_size,
        module.num_layers if layer else 1,
        1 + module.bidirectional if layer else 1,
        bool(module.bias),
        proj_size=module.proj_size if layer else 0,
        options=equations,
    )
    held, like = module._parameters, next(module.parameters())
    parameters = {}
    for name, shape in spec.shapes.items():
        name = name if layer else name.removesuffix("_l0")
        parameters[name] = held.pop(name, None)
        if parameters[name] is None:
            parameters[name] = torch.nn.Parameter(like.new_empty(shape))
    held.update(parameters)  # first all that a specification names, in its order
    names = list(parameters)
    if not layer:
        module._fastlstm_names = names
        return
    count = len(spec.names)
    module._flat_weights_names = names
    module._all_weights = [names[at : at + count] for at in range(0, len(names), count)]
    module._init_flat_weights()


def reset(module: Any) -> None:
    """First values, of a module with options those of `fastlstm.LSTM` or `LSTMCell`, by a seed of
    torch's default CPU generator. On the meta device there are none."""
    options = module._fastlstm_options
    like = None if options is None else next(module.parameters())
    if like is None or like.is_meta:
        return
    seed = int(torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device="cpu"))
    sizes = (module.input_size, module.hidden_size)
    twin: Any
    if isinstance(module, torch.nn.LSTM):
        flags = {"bidirectional": module.bidirectional, "proj_size": module.proj_size}
        twin = _lstm.LSTM(
            *sizes, module.num_layers, module.bias, seed=seed, options=options, **flags
        )
    else:
        twin = _cell.LSTMCell(*sizes, bool(module.bias), seed=seed, options=options)
    with torch.no_grad():
        for name, value in twin.state_dict().items():
            if name in module._parameters:  # which a parametrization may have taken away
                module._parameters[name].copy_(torch.tensor(value))


# ---- noise ----


def noise(module: Any, weights: list[Tensor]) -> tuple[list[Tensor], bool]:
    """Of a module with options: the weights, with weight drop by masks of PyTorch's if it acts, and
    whether noise acts in the core, whose masks a seed makes."""
    options = module._fastlstm_options
    if not module.training or not options.has_noise():
        return weights, False
    if options.weight_drop:
        layer = isinstance(module, torch.nn.LSTM)
        names = module._flat_weights_names if layer else module._fastlstm_names
        p = options.weight_drop
        weights = [
            torch.nn.functional.dropout(weight, p) if name.startswith("weight_hh") else weight
            for name, weight in zip(names, weights, strict=False)
        ]
    equations = options.equations()
    return weights, equations is not None and bool(equations.has_noise())


# ---- what the core does not do ----


def instead(module: Any, unfit: str, x: Any, hx: Any) -> Any:
    """What a call gives that the core does not take: an error, as PyTorch has it for arguments that
    do not fit, or the empty results of an empty batch."""
    kind = module._fastlstm_kind
    if unfit not in ("", "-"):
        raise NotImplementedError(
            f"fastlstm.torch.{kind} with options runs in the core alone, which does not support "
            f"{unfit}"
        )
    ours = next(base for base in type(module).__mro__ if "_fastlstm_kind" in vars(base))
    like = next(module.parameters())
    arguments: dict[str, Any] = {"bias": bool(module.bias), "dtype": like.dtype}
    if isinstance(module, torch.nn.LSTM):
        names = ("num_layers", "batch_first", "bidirectional", "proj_size")
        arguments |= {name: getattr(module, name) for name in names}
    plain: Any = ours(module.input_size, module.hidden_size, **arguments)
    found = plain(x, hx)  # of the same shapes, so PyTorch's errors are the same
    y = found[0].data if isinstance(found[0], torch.nn.utils.rnn.PackedSequence) else found[0]
    if y.numel():
        raise RuntimeError(
            f"fastlstm.torch.{kind} with options cannot run on these parameters: one is missing, "
            "or dropout is not in 0..1"
        )
    return found


def refuse_torch(module: Any, what: str) -> None:
    """NotImplementedError where a module has options and PyTorch's class is to take its place."""
    if is_general(module):
        raise NotImplementedError(
            f"{what} would make a torch.nn.{module._fastlstm_kind} of one with "
            f"{module._fastlstm_options!r}, which PyTorch does not have"
        )
