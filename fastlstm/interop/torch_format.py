# SPDX-License-Identifier: BSD-3-Clause
"""Recurrent layers of PyTorch: of modules, state dicts and files, and back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from fastlstm import checks, state_dicts, weights
from fastlstm.file_kinds import existing

from . import torch_files
from .description import CELLS, LAYERS, Array, Layer, Model, describe
from .errors import FormatError, Unsupported, library, reading
from .imported import Imported, Other

_OF_GATES = {4: "lstm", 3: "gru", 1: "rnn"}
_CLASSES = {cls.__name__: cls for cls in (*LAYERS.values(), *CELLS.values())}
_RECURRENT = "torch.nn.modules.rnn"
_UNCONNECTED = (
    "a module does not say how its parts are connected (torch.onnx.export does, for from_onnx)"
)
_EXPANSION = 4  # bytes of layers for each byte of their file, at most


def from_torch(
    source: Any,
    *,
    batch_first: bool | None = None,
    nonlinearity: Literal["tanh", "relu"] | None = None,
) -> Imported:
    """Take the recurrent layers of a PyTorch model.

    Parameters
    ----------
    source : torch.nn.Module, mapping, or path
        A module with recurrent layers anywhere in it, or one of them; a state dict, or a checkpoint
        in which one stands; a file of either (.pt, .pth, .bin, read with weights only, so that
        PyTorch is needed), or a .safetensors file.
    batch_first, nonlinearity : optional
        What no state dict says: of all its layers, and of an RNN. None: False and "tanh", with a
        note.

    Returns
    -------
    Imported
        Every LSTM, GRU and RNN and their cells, by the names of their modules.

    Raises
    ------
    FormatError
        The file is damaged, of another kind, or without a recurrent layer.
    Unsupported
        It has recurrent layers, none of which can be taken over.
    TypeError
        `source` is something else.
    OSError
        The file cannot be read.
    ImportError
        PyTorch is needed and not installed.

    Examples
    --------
    >>> import torch
    >>> from fastlstm import interop
    >>> model = torch.nn.Sequential(torch.nn.LSTM(3, 4, batch_first=True), torch.nn.Tanh())
    >>> interop.from_torch(model).layers
    {'0': LSTM(3, 4, batch_first=True, dtype=float32)}
    >>> torch.save(model.state_dict(), "model.pt")
    >>> interop.from_torch("model.pt", batch_first=True).layers
    {'0': LSTM(3, 4, batch_first=True, dtype=float32)}
    """
    if batch_first is not None:
        checks.flag("batch_first", batch_first)
    if isinstance(source, (str, os.PathLike)):
        file = existing(source)
        found = torch_files.loaded(file)
        if isinstance(found, Imported):
            return found
        return _of_mapping(found, file, batch_first, nonlinearity, os.path.getsize(file))
    if isinstance(source, Mapping):
        return _of_mapping(source, "state dict", batch_first, nonlinearity)
    if hasattr(source, "named_modules") and hasattr(source, "state_dict"):
        if any("torch.jit" in cls.__module__ for cls in type(source).__mro__):
            return _of_mapping(source.state_dict(), "scripted module", batch_first, nonlinearity)
        return _of_module(source)
    raise TypeError(
        f"source must be a torch.nn.Module, a state dict or a path, got {type(source).__name__}"
    )


def to_torch(model: Model) -> Any:
    """The module of ``torch.nn`` that computes what a model does, with every bit of its parameters.

    Parameters
    ----------
    model : LSTM, GRU, RNN or one of their cells
        Its state dict becomes the module's.

    Returns
    -------
    torch.nn.Module
        Of the class of the same name, in the mode of `model`, training or evaluation.

    Raises
    ------
    Unsupported
        PyTorch has no such layer: one with options, or a GRU that resets before the product.
    TypeError
        `model` is no model.
    ImportError
        PyTorch is not installed.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import interop
    >>> interop.to_torch(fastlstm.GRU(3, 4, num_layers=2, seed=0))
    GRU(3, 4, num_layers=2)
    """
    torch = library("torch", "torch", "make modules of PyTorch")
    layer = describe(model)[0]
    kind = model._kind
    options = layer.options
    if options is not None and (options.equations() is not None or options.has_noise()):
        raise Unsupported("model", kind, f"PyTorch has no LSTM with {options!r}")
    if not layer.reset_after:
        raise Unsupported("model", kind, "PyTorch has no GRU with reset_after=False")
    config = {
        name: getattr(model, name)
        for name in ("input_size", "hidden_size", *model._defaults)
        if name not in ("gemm", "options", "reset_after")
    }
    dtype = torch.float64 if model.dtype == np.float64 else torch.float32
    module = getattr(torch.nn, kind)(**config, dtype=dtype)
    module.load_state_dict(
        {name: torch.from_numpy(values.copy()) for name, values in model.state_dict().items()}
    )
    return module.train(model.training)


def verify(path: str | os.PathLike[str], *, seed: int = 0) -> dict[str, float]:
    """Run the recurrent layers of a file in PyTorch and here, on random input.

    Parameters
    ----------
    path : str or os.PathLike of str
        As of `from_torch`.
    seed : int, default 0
        Of the input.

    Returns
    -------
    dict of str to float
        Name of each layer -> largest difference of the outputs.

    Raises
    ------
    FormatError, TypeError, OSError, ImportError
        As `from_torch`.
    Unsupported
        PyTorch has no such layer.
    """
    torch = library("torch", "torch", "verify models of PyTorch")
    rng = np.random.default_rng(seed)
    found = {}
    for name, model in from_torch(path).layers.items():
        shape = (3, model.input_size) if model._kind.endswith("Cell") else (9, 3, model.input_size)
        x = rng.standard_normal(shape).astype(model.dtype)
        with torch.no_grad():
            theirs, ours = to_torch(model).eval()(torch.from_numpy(x)), model(x)
        first = (theirs[0] if isinstance(theirs, tuple) else theirs).numpy()
        mine = ours[0] if isinstance(ours, tuple) else ours
        found[name] = float(np.abs(mine.astype(np.float64) - first).max())
    return found


# ---- state dicts ----


def _of_mapping(
    mapping: Mapping[str, Any],
    file: str,
    batch_first: bool | None,
    nonlinearity: str | None,
    size: int | None = None,
) -> Imported:
    """The recurrent layers that names and shapes of a state dict say; one out of a file of `size`
    bytes may not be much larger, as it is where many layers share an array."""
    stacks: dict[str, list[Layer]] = {}
    unsupported: dict[str, str] = {}
    notes: list[str] = []
    others: dict[str, dict[str, Array]] = {}
    taken = 0
    with reading(file):
        groups = state_dicts.search(mapping)
    if not groups:
        some = weights.listed([repr(key) for key in mapping], 8) or "nothing"
        raise FormatError(
            file, "", f"it has no recurrent layer, no name such as weight_ih_l0: it has {some}"
        )
    for group in groups:
        prefix = group.prefix
        name = prefix.rstrip(".")
        with reading(file, prefix):
            taken += _whole(group.mapping, prefix, group.names)
            if size is not None and taken > _EXPANSION * size:
                raise ValueError("its layers take many times the bytes of the whole file")
            kind = _OF_GATES.get(group.gates())
        name = name or kind or "layer"
        while name in stacks or name in unsupported:
            name += "_"
        if group.parts:
            what = f"it has only parts of {min(group.parts)}, which a parametrization combines"
            unsupported[name] = what
            continue
        if kind is None:
            unsupported[name] = "its weights are those of no LSTM, GRU or RNN"
            continue
        options: dict[str, Any] = {"batch_first": bool(batch_first)}
        if kind == "rnn":
            options["nonlinearity"] = nonlinearity or "tanh"
        try:
            own = {prefix + each: group.mapping[prefix + each] for each in group.names}
            model = LAYERS[kind].from_state_dict(own, prefix, **options)
        except (ValueError, TypeError) as error:
            unsupported[name] = str(error)
            continue
        if kind == "rnn" and nonlinearity is None:
            notes.append(f"{name}: a state dict does not say nonlinearity: 'tanh' is taken")
        if group.names and not any("_l" in each for each in group.names):
            model = _cell_of(model, kind, options)
            notes.append(f"{name}: by its names a cell, one step of one layer")
        elif batch_first is None:
            notes.append(f"{name}: a state dict does not say batch_first: False is taken")
        narrow = str(group.read(group.names[0]).dtype)
        if narrow not in ("float32", "float64"):
            notes.append(f"{name}: {narrow} weights widened to {model.dtype}")
        if prefix:
            notes.append(f"{name}: names with the prefix {prefix!r}{_under(group.path)}")
        stacks[name] = describe(model, name)
    layers = {id(group.mapping): group.mapping for group in groups}
    taken_names = {each.prefix + name for each in groups for name in each.names}
    for mapping in layers.values():
        _gather(others, mapping, taken_names)
    return Imported(
        file,
        "PyTorch state dict",
        stacks=stacks,
        others=[Other(name, "tensors", {}, arrays) for name, arrays in others.items()],
        order=[*stacks, *others],
        unsupported=unsupported,
        notes=notes,
        branches="a state dict does not say how its layers are connected",
    )


def _under(path: str) -> str:
    return f" under {path}" if path else ""


def _whole(mapping: Mapping[str, Any], prefix: str, names: list[str]) -> int:
    """The bytes of arrays; tensors that pretend to hold more values than they have are refused."""
    total = 0
    for name in names:
        value = mapping[prefix + name]
        if getattr(value, "untyped_storage", None) is None:
            total += getattr(value, "nbytes", 0)
            continue
        try:
            size = value.untyped_storage().nbytes()
        except (NotImplementedError, RuntimeError) as error:  # of a sparse tensor, for example
            raise TypeError(f"{name} must be dense, got {value.layout}") from error
        if value.numel() * value.element_size() > size:
            raise ValueError(f"{name} has {value.numel()} values in {size} bytes")
        total += value.numel() * value.element_size()
    return total


def _cell_of(model: Any, kind: str, options: Mapping[str, Any]) -> Any:
    """The cell with the parameters of a layer."""
    own = {"nonlinearity": options["nonlinearity"]} if kind == "rnn" else {}
    cell = CELLS[kind](
        model.input_size, model.hidden_size, bias=model.bias, dtype=model.dtype, seed=0, **own
    )
    cell.load_state_dict(
        {name.removesuffix("_l0"): values for name, values in model.state_dict().items()}
    )
    return cell


def _gather(
    others: dict[str, dict[str, Array]], mapping: Mapping[Any, Any], taken: set[str]
) -> None:
    """Put what else a mapping with layers holds under the names of its modules."""
    for key in mapping:
        if not isinstance(key, str) or key in taken:
            continue
        head, _, last = key.rpartition(".")
        try:
            _whole(mapping, "", [key])
            value = weights.to_numpy(key, mapping[key])
        except (TypeError, ValueError):
            continue  # numbers and text of a checkpoint
        if value.dtype.kind in "fiub":
            others.setdefault(head or "(top)", {})[last] = value


# ---- modules ----


def _of_module(module: Any) -> Imported:
    """The recurrent layers of a module and of those inside it, by their names."""
    stacks: dict[str, list[Layer]] = {}
    unsupported: dict[str, str] = {}
    others: list[Other] = []
    order: list[str] = []
    recurrent: list[str] = []
    notes: list[str] = []
    module = getattr(module, "_orig_mod", module)  # of one that torch.compile made
    for path, part in module.named_modules():
        if any(path.startswith(f"{each}.") for each in recurrent):
            continue  # a parametrization inside
        kind = _class_of(part)
        name = path or kind.lower() or type(part).__name__.lower()
        if kind:
            recurrent.append(path)
            try:
                model = _CLASSES[kind].from_torch(part)
                stacks[name] = describe(model, name)
            except (TypeError, ValueError) as error:
                unsupported[name] = str(error).removeprefix("module").removeprefix("'s ")
                continue
            if _does_more(part):
                notes.append(f"{name}: what hooks or a forward of its own do is left out")
        elif _quantised(part):
            unsupported[name] = (
                "it was quantised and keeps no float weights: hand over the module it was made from"
            )
            continue
        elif [*part.children()]:
            continue
        else:
            others.append(_other(name, part))
        order.append(name)
    if not stacks and not unsupported:
        raise FormatError("module", type(module).__name__, "it has no recurrent layer")
    return Imported(
        "module",
        "PyTorch",
        type(module).__name__,
        library("torch", "torch", "read modules").__version__,
        stacks,
        others,
        order,
        unsupported,
        notes,
        branches="" if len(order) == 1 else _UNCONNECTED,
    )


def _class_of(part: Any) -> str:
    """The name of the recurrent class of torch.nn that a module is of, or ""."""
    names = [cls.__name__ for cls in type(part).__mro__ if cls.__module__ == _RECURRENT]
    return next((name for name in names if name in _CLASSES), "")


def _does_more(part: Any) -> bool:
    """Whether a module computes something around what its class in torch.nn does."""
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    kind = type(part)
    own = next(cls for cls in kind.__mro__ if "forward" in vars(cls)).__module__
    ours = own.partition(".")[0] == "fastlstm"
    return (own != _RECURRENT and not ours) or any(getattr(part, name, None) for name in hooks)


def _quantised(part: Any) -> bool:
    home, name = type(part).__module__, type(part).__name__
    return home.startswith(("torch.ao.nn.quantized", "torch.nn.quantized")) and name in _CLASSES


def _other(name: str, part: Any) -> Other:
    """A module that is no recurrent layer."""
    config = {
        key: getattr(part, key)
        for key in getattr(part, "__constants__", ())
        if isinstance(getattr(part, key, None), (bool, int, float, str, tuple))
    }
    tensors = {**dict(part.named_parameters()), **dict(part.named_buffers())}
    arrays = {key: weights.to_numpy(key, value) for key, value in tensors.items()}
    return Other(name, type(part).__name__, config, arrays)
