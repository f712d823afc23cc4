# SPDX-License-Identifier: BSD-3-Clause
"""What a PyTorch module computes with, asked of the module itself; PyTorch is never imported."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What the constructors of layers take, in torch as here.
_KNOWN = (
    "input_size",
    "hidden_size",
    "num_layers",
    "bias",
    "batch_first",
    "dropout",
    "bidirectional",
)
_OWN: dict[str, dict[str, object]] = {
    "LSTM": {"proj_size": 0},
    "RNN": {"nonlinearity": "tanh"},
    "GRU": {},
}
_CELLS: dict[str, tuple[str, ...]] = {  # own arguments
    "LSTMCell": (),
    "RNNCell": ("nonlinearity",),
    "GRUCell": (),
}
_MODES = {"LSTM": ("LSTM",), "RNN": ("RNN_TANH", "RNN_RELU"), "GRU": ("GRU",)}
_QUANTISED = ("torch.ao.nn.quantized.", "torch.ao.nn.quantizable.", "torch.nn.quantiz")
_LAYER = "torch.nn.modules.rnn."


def layer_config(module: Any, kind: str) -> dict[str, Any]:
    """The constructor's arguments of a ``torch.nn.LSTM``, ``torch.nn.RNN`` or ``torch.nn.GRU``,
    whichever `kind` says; TypeError says what else it is."""
    module = _unwrapped(module)
    mode = getattr(module, "mode", None)  # what torch's forward goes by; a model of ours has none
    if (
        any(not hasattr(module, name) for name in _KNOWN)
        or (getattr(module, "_kind", kind) != kind if mode is None else mode not in _MODES[kind])
        or isinstance(module, type)
        or _is(module, *_QUANTISED)
    ):
        raise TypeError(f"module must be a torch.nn.{kind}, got {_described(module, kind)}")
    first = values(module, ["weight_ih_l0"])["weight_ih_l0"]
    config = {name: getattr(module, name) for name in _KNOWN}
    config |= {name: getattr(module, name, usual) for name, usual in _OWN[kind].items()}
    if kind == "RNN" and mode is not None:
        config["nonlinearity"] = mode.removeprefix("RNN_").lower()
    if kind == "LSTM":
        config["options"] = _options(module)
    if kind == "GRU":  # torch's resets after the product
        config["reset_after"] = getattr(module, "reset_after", True)
    return {**config, "dtype": _dtype(first)}


def cell_config(module: Any, kind: str) -> dict[str, Any]:
    """The constructor's arguments of a cell of ``torch.nn``, the one that `kind` says; TypeError
    says what else it is."""
    module = _unwrapped(module)
    known = ("input_size", "hidden_size", "bias", *_CELLS[kind])
    others = [f"{_LAYER}{name}Cell" for name in ("LSTM", "GRU", "RNN") if f"{name}Cell" != kind]
    if (
        any(not hasattr(module, name) for name in known)
        or hasattr(module, "num_layers")
        or getattr(module, "_kind", kind) != kind
        or isinstance(module, type)
        or _is(module, *_QUANTISED, "torch.jit.", *others)
    ):
        raise TypeError(f"module must be a torch.nn.{kind}, got {_described(module, kind)}")
    first = values(module, ["weight_ih"])["weight_ih"]
    config = {name: getattr(module, name) for name in known}
    config["bias"] = config["bias"] is not False and config["bias"] is not None
    if kind == "LSTMCell":
        config["options"] = _options(module)
    if kind == "GRUCell":
        config["reset_after"] = getattr(module, "reset_after", True)
    return {**config, "dtype": _dtype(first)}


def values(module: Any, names: Iterable[str]) -> dict[str, Any]:
    """Name -> what the next forward pass in evaluation mode takes for it.

    That is not always a parameter. A parametrization (weight_norm, spectral_norm) or pruning
    computes it, the older kinds of them in a hook before each forward pass, so that the attribute
    may be out of date. The module stays as it was: no step of a power iteration is made.

    Raises TypeError where the module has no such attribute.
    """
    module = _unwrapped(module)
    torch = sys.modules.get("torch")
    found = {}
    with torch.no_grad() if torch else contextlib.nullcontext(), _evaluating(module):
        hooked = _hooked(module)
        for name in names:
            if name in hooked:
                found[name] = hooked[name]
            elif not hasattr(module, name):
                raise TypeError(f"module must have {name}, got {type(module).__name__} without it")
            else:
                found[name] = getattr(module, name)
    return found


@contextlib.contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    """The module's parametrizations in evaluation mode: looking at a value changes nothing."""
    parts: Any = getattr(module, "parametrizations", None)
    learning = [p for p in parts.modules() if p.training] if hasattr(parts, "modules") else []
    try:
        for part in learning:
            part.training = False
        yield
    finally:
        for part in learning:
            part.training = True


def _hooked(module: Any) -> dict[str, Any]:
    """Name -> value of what hooks of torch.nn.utils set before each forward pass."""
    found = {}
    hooks = getattr(module, "_forward_pre_hooks", None)
    for hook in list(hooks.values()) if isinstance(hooks, Mapping) else []:
        if _is(hook, "torch.nn.utils.weight_norm."):
            found[hook.name] = hook.compute_weight(module)
        elif _is(hook, "torch.nn.utils.spectral_norm."):
            found[hook.name] = hook.compute_weight(module, do_power_iteration=False)
        elif _is(hook, "torch.nn.utils.prune."):
            found[hook._tensor_name] = hook.apply_mask(module)
    return found


def _unwrapped(module: Any) -> Any:
    """The module inside one that torch.compile made."""
    if _is(module, "torch._dynamo.") and hasattr(module, "_orig_mod"):
        return module._orig_mod
    return module


def _options(module: Any) -> Any:
    """Of a model of ours, or of a module of fastlstm.torch; PyTorch's own have none."""
    return getattr(module, "options" if hasattr(module, "_kind") else "_fastlstm_options", None)


def _dtype(tensor: Any) -> str:
    dtype = str(getattr(tensor, "dtype", type(tensor).__name__)).removeprefix("torch.")
    if dtype not in ("float32", "float64"):
        raise TypeError(
            f"module's dtype must be float32 or float64, got {dtype}: module.float() converts it"
        )
    return dtype


def _is(value: object, *names: str) -> bool:
    """Whether one of its classes is of these names, or of a module so called ("torch.jit.")."""
    lineage = [f"{c.__module__}.{c.__qualname__}" for c in type(value).__mro__]
    return any(
        kind == n or (n[-1:] == "." and kind.startswith(n)) for kind in lineage for n in names
    )


def _described(module: Any, wanted: str) -> str:
    """What it is, and what to do with it."""
    if isinstance(module, type):
        return f"the class {module.__name__}"
    kind = type(module).__name__
    if isinstance(module, Mapping):
        return f"{kind}: fastlstm.{wanted.removesuffix('Cell')}.from_state_dict takes mappings"
    if _is(module, *_QUANTISED):
        return (
            f"{kind} of {type(module).__module__}, made for quantisation, without a float module's "
            f"weights: hand over the torch.nn.{kind} that it was made from"
        )
    if _is(module, "torch.jit."):
        name = getattr(module, "original_name", kind)
        return (
            f"a scripted or traced module ({kind} of {name}): hand over the module that "
            "torch.jit.script or trace was given, or module.state_dict() to load_state_dict"
        )
    for other in ("LSTM", "LSTMCell", "RNN", "RNNCell", "GRU", "GRUCell"):
        if other != wanted and _is(module, _LAYER + other):
            return f"{kind}: fastlstm.{other}.from_torch takes it"
    if _is(module, "torch.nn.modules.module.Module"):
        parts = [name for name, m in module.named_modules() if _is(m, _LAYER + wanted)]
        if parts:
            names = ", ".join(parts[:10])
            return f"{kind}, which holds {wanted}s: hand over one of them ({names})"
    return kind
