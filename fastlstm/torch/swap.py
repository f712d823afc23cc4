# SPDX-License-Identifier: BSD-3-Clause
"""`accelerate`, `restore` and `report`: the modules of a model change class and nothing else.

A module that changes its ``__class__`` is still the same object: whoever holds it (other modules,
hooks, optimizers that hold its parameters, DDP) notices nothing, and there is nothing to copy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from .. import _core, checks
from . import classes, engines
from .copies import FROZEN
from .layers import Recurrent
from .variants import refuse_torch

Model = TypeVar("Model")


@dataclass(frozen=True)
class Report:
    """What runs in the core and what does not. A model that is itself a layer has the name "".

    Attributes
    ----------
    swapped : dict of str to str
        Name in the model -> the module, in words.
    left : dict of str to str
        Name in the model -> why it stays with PyTorch.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 4), "head": torch.nn.Linear(4, 1)})
    >>> found = fastlstm.torch.report(fastlstm.torch.accelerate(model))
    >>> found.swapped, found.left
    ({'encoder': 'LSTM(3, 4)'}, {})
    """

    swapped: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        ours, left = len(self.swapped), len(self.left)
        lines = [
            f"{ours} {'module runs' if ours == 1 else 'modules run'} in fastlstm, "
            f"{left} {'was' if left == 1 else 'were'} left"
        ]
        lines += [f"  {name or '(the model)'}: {what}" for name, what in self.swapped.items()]
        lines += [f"  {name or '(the model)'}: left, {why}" for name, why in self.left.items()]
        return "\n".join(lines)


def accelerate(model: Model, *, freeze: bool = False) -> Model:
    """Let every LSTM, GRU, RNN and cell of these of ``torch.nn`` in a model run in the core.

    A subclass of one of these is taken, and stays one of its class, if it leaves alone what
    PyTorch's forward goes through: one with an ``__init__``, ``reset_parameters``, ``extra_repr``
    or new methods. All other subclasses, and modules that the core cannot run, are left; `report`
    says why.

    Parameters
    ----------
    model : torch.nn.Module
        It is changed in place; its parameters, hooks, buffers, names and training flags stay the
        very same objects.
    freeze : bool, default False
        Pack the weights of each layer once and take PyTorch's word that they did not change: calls
        without gradients in evaluation mode look at addresses and version counters only. Without
        it every call reads all weights, to see writes that PyTorch does not. What moves a version
        (an optimiser's step, `load_state_dict`, `copy_`, other ``_`` methods) is still seen. Writes
        through ``.data``, NumPy arrays, DLPack or shared memory are not, nor any to tensors that
        were made in inference mode, which have no version: call `accelerate` with ``freeze=True``
        again after those. Layers that run in the core already are frozen, too, and
        ``freeze=False`` thaws them; `restore` does as well.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    TypeError
        `model` is no module, or `freeze` no bool.
    ValueError
        `freeze` of a model that has a layer in training mode: call ``model.eval()`` first.

    Notes
    -----
    A frozen layer that is put into training mode reads its weights at every call until it is in
    evaluation mode again.

    `restore` the model before a tool that looks for torch's exact classes (dynamic quantization),
    and `accelerate` it again after `torch.jit.script`, which puts torch's own modules into the
    model that it is given, too.

    A copy (``copy.deepcopy``) is accelerated as well. What ``torch.save`` or pickle writes are
    PyTorch's own modules, which load where fastlstm is not installed: `accelerate` what was loaded,
    in a spawned process as well. A program of ``torch.export`` calls fastlstm's operators: whoever
    loads it must ``import fastlstm.torch`` first.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> lstm = torch.nn.LSTM(3, 4)
    >>> x = torch.randn(7, 2, 3)
    >>> expected, _ = lstm(x)
    >>> lstm = fastlstm.torch.accelerate(lstm)
    >>> y, _ = lstm(x)
    >>> type(lstm).__module__, torch.allclose(y, expected, atol=1e-5)
    ('fastlstm.torch.module', True)
    >>> frozen = fastlstm.torch.accelerate(lstm.eval(), freeze=True)  # for serving
    """
    freeze = checks.flag("freeze", freeze)
    modules = list(_checked(model).modules())
    taken = [m for m in modules if isinstance(m, Recurrent) or not classes.left(m)]
    if freeze and any(module.training for module in taken):
        raise ValueError("freeze=True is for inference, and a layer is in training mode")
    for module in taken:
        if not isinstance(module, Recurrent):
            classes.exchange(module, back=False)
        module.__dict__.pop(FROZEN, None)
        if freeze:
            engines.forget(module.parameters())  # whatever was written since, the next call packs
            module.__dict__[FROZEN] = True
    return model


def restore(model: Model) -> Model:
    """Undo `accelerate` in place: every module of ours becomes the torch module that it extends.

    That includes those that were made as such, a `fastlstm.torch.LSTM` for example. Subclasses of
    ours stay as they are. The memory of packed weights, and what the core keeps for later calls,
    goes back to the system.

    Parameters
    ----------
    model : torch.nn.Module
        It is changed in place.

    Returns
    -------
    torch.nn.Module
        The model.

    Raises
    ------
    TypeError
        `model` is no module.
    NotImplementedError
        A layer has `LSTMOptions`, which PyTorch's do not have. Nothing was changed then.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> gru = fastlstm.torch.accelerate(torch.nn.GRU(3, 4))
    >>> type(fastlstm.torch.restore(gru)) is torch.nn.GRU
    True
    """
    modules = list(_checked(model).modules())
    for module in modules:
        if isinstance(module, Recurrent):
            refuse_torch(module, "restore")
    for module in modules:
        if isinstance(module, Recurrent):
            classes.exchange(module, back=True)
            module.__dict__.pop(FROZEN, None)
            engines.forget(module.parameters())
    _core.empty_pool()
    return model


def report(model: Any) -> Report:
    """What of a model runs in the core now, and what of its recurrent layers does not and why.

    Parameters
    ----------
    model : torch.nn.Module
        It stays as it is.

    Returns
    -------
    Report
        It prints as several lines.

    Raises
    ------
    TypeError
        `model` is no module.

    Examples
    --------
    >>> import torch
    >>> import fastlstm.torch
    >>> model = torch.nn.Sequential(torch.nn.LSTM(3, 4), torch.nn.Tanh())
    >>> print(fastlstm.torch.report(fastlstm.torch.accelerate(model)))
    1 module runs in fastlstm, 0 were left
      0: LSTM(3, 4)
    >>> print(fastlstm.torch.report(torch.nn.GRU(3, 4)))
    0 modules run in fastlstm, 1 was left
      (the model): left, accelerate would take it now
    """
    result = Report()
    quantised: list[Any] = []  # modules that are made of further ones
    for name, module in _checked(model).named_modules():
        if any(module in whole.modules() for whole in quantised):
            continue
        if isinstance(module, Recurrent):
            unfit = classes.unfit(module)
            if unfit:
                result.left[name] = unfit
            else:
                result.swapped[name] = repr(module)
            continue
        why = classes.left(module)
        if why != "-":
            result.left[name] = why or "accelerate would take it now"
            if why.endswith("quantised"):
                quantised.append(module)
    return result


def _checked(model: Any) -> Any:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {checks.kind(model)}")
    return model
