# SPDX-License-Identifier: BSD-3-Clause
"""`accelerate`, `restore` and `report`: the modules of a model change class and nothing else.

A module that changes its ``__class__`` is still the same object: whoever holds it (other modules,
hooks, optimizers that hold its parameters, DDP) notices nothing, and there is nothing to copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch.nn.utils import parametrize

from . import fallback
from .module import LSTM, LSTMCell

Model = TypeVar("Model")

_OURS: dict[Any, Any] = {torch.nn.LSTM: LSTM, torch.nn.LSTMCell: LSTMCell}
_TORCHS: dict[Any, Any] = {ours: theirs for theirs, ours in _OURS.items()}


@dataclass(frozen=True)
class Report:
    """What runs in the core and what does not. A model that is itself an LSTM has the name ""."""

    swapped: dict[str, str] = field(default_factory=dict)
    """Name in the model -> the module, in words."""
    left: dict[str, str] = field(default_factory=dict)
    """Name in the model -> why it stays with PyTorch."""

    def __str__(self) -> str:
        ours, left = len(self.swapped), len(self.left)
        lines = [
            f"{ours} {'module runs' if ours == 1 else 'modules run'} in fastlstm, "
            f"{left} {'was' if left == 1 else 'were'} left"
        ]
        lines += [f"  {name or '(the model)'}: {what}" for name, what in self.swapped.items()]
        lines += [f"  {name or '(the model)'}: left, {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def accelerate(model: Model) -> Model:
    """Let every ``torch.nn.LSTM`` and ``torch.nn.LSTMCell`` in a model run in the core.

    model: a ``torch.nn.Module``; it is changed in place, its parameters, hooks, buffers, names and
        training flags stay the very same objects. Modules that the core cannot run, and
        subclasses of ``torch.nn.LSTM``, whose code is unknown here, are left; `report` says why.
        A cell's step of one sequence without gradients still runs in PyTorch, the faster there.
        `restore` the model before a tool that looks for torch's exact classes (dynamic
        quantization), and `accelerate` it again after `torch.jit.script`, which puts torch's own
        modules into the model that it is given, too.

    Returns the model. Raises TypeError if it is no module.
    """
    for module in _checked(model).modules():
        if not _why_left(module):
            _rebase(module, _OURS)
    return model


def restore(model: Model) -> Model:
    """Undo `accelerate` in place: every module of ours becomes the torch module that it extends.

    That includes a `fastlstm.torch.LSTM` that was made as such. Subclasses of ours stay as they
    are. Returns the model. Raises TypeError if it is no module.
    """
    for module in _checked(model).modules():
        _rebase(module, _TORCHS)
    return model


def report(model: Any) -> Report:
    """What of a model runs in the core now, and what of its LSTMs does not and why.

    Raises TypeError if model is no module.
    """
    result = Report()
    for name, module in _checked(model).named_modules():
        if isinstance(module, (LSTM, LSTMCell)):
            unfit = _unfit(module)
            if unfit:
                result.left[name] = unfit
            else:
                result.swapped[name] = repr(module)
        elif _why_left(module) != "no LSTM":
            result.left[name] = _why_left(module) or "accelerate would take it now"
    return result


def _checked(model: Any) -> Any:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    return model


def _why_left(module: Any) -> str:
    """Why `accelerate` leaves a module; "" for one that it takes."""
    if isinstance(module, (LSTM, LSTMCell)):
        return "it runs in the core already"
    if isinstance(module, torch.jit.ScriptModule):
        name = getattr(module, "original_name", "")
        return f"{name} compiled by TorchScript" if name in ("LSTM", "LSTMCell") else "no LSTM"
    if not isinstance(module, tuple(_OURS)):
        return "no LSTM"
    if _plain_class(module) not in _OURS:
        return f"{type(module).__qualname__} is a subclass of its own"
    return _unfit(module)


def _unfit(module: Any) -> str:
    why = fallback.unsupported(module, list(module.parameters()))
    return f"the core does not support {why}" if why else ""


def _plain_class(module: Any) -> Any:
    """The module's class, below the one that torch.nn.utils.parametrize puts before it."""
    kind = type(module)
    return kind.__bases__[0] if parametrize.is_parametrized(module) else kind


def _rebase(module: Any, table: dict[Any, Any]) -> None:
    kind = type(module)
    if kind in table:
        module.__class__ = table[kind]
    elif parametrize.is_parametrized(module) and kind.__bases__[0] in table:
        # The class in front holds the properties of this very module.
        own = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
        module.__class__ = type(kind.__name__, (table[kind.__bases__[0]],), own)
