# SPDX-License-Identifier: BSD-3-Clause
"""Which class of ours stands for which class of PyTorch's, and why some modules have none."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.nn.utils import parametrize

from . import fallback
from .copies import torch_class
from .layers import Recurrent
from .module import CLASSES

_OURS: dict[Any, Any] = {kind._torch_class: kind for kind in CLASSES}

# What the forward of ours or of PyTorch's goes through: with one of these of its own, a subclass
# may compute something else.
_FORWARD = """
    forward check_forward_args check_input check_hidden_size get_expected_hidden_size
    get_expected_cell_size permute_hidden _update_flat_weights _weights_have_changed
    _init_flat_weights _flat_weights _flat_weights_names _parameters dropout proj_size
    mode nonlinearity
    weight_ih weight_hh bias_ih bias_hh
    __call__ _call_impl _wrapped_call_impl __getattr__ __getattribute__
"""
# What the class of ours that stands for the subclass has itself, or would set off by being made.
_COPIES = """
    __new__ __reduce__ __reduce_ex__ __copy__ __deepcopy__ __getnewargs__ __getnewargs_ex__
    __init_subclass__ __prepare_scriptable__ __slots__
"""
# A subclass -> ours that extends it, as long as there are modules of it.
_extended: weakref.WeakValueDictionary[Any, Any] = weakref.WeakValueDictionary()


def plain_class(module: Any) -> Any:
    """The module's class, below the one that torch.nn.utils.parametrize puts before it."""
    kind = type(module)
    return kind.__bases__[0] if parametrize.is_parametrized(module) else kind


def ours(kind: Any) -> Any:
    """Ours for a class that has no `obstacle`: an instance is one of `kind` as well."""
    if kind in _OURS:
        return _OURS[kind]
    found = _extended.get(kind)
    if found is None:
        base = next(mine for theirs, mine in _OURS.items() if issubclass(kind, theirs))
        same = {key: getattr(kind, key) for key in ("__module__", "__qualname__", "__doc__")}
        found = type(kind.__name__, (base, kind), {**same, "_torch_class": kind})
        _extended[kind] = found
    return found


def obstacle(module: Any) -> str:
    """Why the class of a module cannot be exchanged for ours, of PyTorch's classes that have one of
    ours, or of their subclasses; "" if it can."""
    kind = plain_class(module)
    if "forward" in module.__dict__:
        return "its forward was replaced"
    if kind in _OURS:
        return ""
    name = kind.__qualname__
    if type(kind) is not type:
        return f"{name} is a subclass with a metaclass"
    copies = _COPIES.split()
    forward = {*_FORWARD.split(), *getattr(module, "_flat_weights_names", ())}
    for base in set(kind.__mro__).difference(*(theirs.__mro__ for theirs in _OURS)):
        for key, value in vars(base).items():
            if (key in copies and value) or (key in forward and hasattr(value, "__get__")):
                return f"{name} is a subclass with its own {key}"
    return ""


def exchange(module: Any, back: bool) -> None:
    """Give a module the class of ours, or PyTorch's back, where there is one."""
    below = plain_class(module)
    other = torch_class(below) if back else ours(below)
    if other is None:
        return
    kind = type(module)
    if kind is not below:
        # The class in front holds the properties of this very module.
        own = {k: v for k, v in vars(kind).items() if k not in ("__dict__", "__weakref__")}
        other = type(kind.__name__, (other,), own)
    module.__class__ = other


def left(module: Any) -> str:
    """Why `accelerate` leaves a module; "" for one that it takes; "-" for no recurrent layer."""
    if isinstance(module, Recurrent):
        return "it runs in the core already"
    kind = plain_class(module)
    if isinstance(module, torch.jit.ScriptModule):
        name = getattr(module, "original_name", "")
        return f"{name} compiled by TorchScript" if name in _RECURRENT else "-"
    if ".quantized" in kind.__module__ or ".quantizable" in kind.__module__:
        name = kind.__name__
        return f"{name} of {kind.__module__}, quantised" if name in _RECURRENT else "-"
    if isinstance(module, tuple(_OURS)):
        return obstacle(module) or unfit(module)
    if isinstance(module, (torch.nn.RNNBase, torch.nn.RNNCellBase)):
        return f"fastlstm.torch has no {kind.__qualname__}"
    return "-"


_RECURRENT = frozenset(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"))


def unfit(module: Any) -> str:
    """What of the module's options or weights the core lacks; "" for nothing."""
    why = fallback.unsupported(module, list(module.parameters()))
    return f"the core does not support {why}" if why else ""
