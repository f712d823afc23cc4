# SPDX-License-Identifier: BSD-3-Clause
"""Several layers under one roof: their parameters, modes and states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from .. import checks
from ..checks import Array
from ..weights import LoadResult


class Modules:
    """Layers by name, with joint parameters, modes and states, as ``torch.nn.ModuleDict``.

    An optimiser and a checkpoint take it as they take a layer. Whoever inherits from it adds the
    way through its layers.

    Parameters
    ----------
    **modules
        Layers, or other such models, by name. They are attributes of these names.

    Raises
    ------
    TypeError
        A part is no layer.

    Examples
    --------
    >>> import fastlstm
    >>> from fastlstm import nn
    >>> model = nn.Modules(rnn=fastlstm.RNN(2, 3), head=nn.Linear(3, 1))
    >>> list(model.parameters())[-2:]
    ['head.weight', 'head.bias']
    """

    def __init__(self, **modules: Any) -> None:
        for name, module in modules.items():
            if not all(hasattr(module, word) for word in ("parameters", "state_dict", "train")):
                raise TypeError(f"{name} must be a layer or model, got {type(module).__name__}")
        self.modules = dict(modules)

    def __getattr__(self, name: str) -> Any:
        modules = self.__dict__.get("modules", {})
        if name in modules:
            return modules[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={module!r}" for name, module in self.modules.items())
        return f"{type(self).__name__}({parts})"

    @property
    def training(self) -> bool:
        """Whether its layers are in training mode."""
        return any(module.training for module in self.modules.values())

    def train(self, mode: bool = True) -> Self:
        """Put all layers into training mode, or out of it.

        Parameters
        ----------
        mode : bool, default True
            False does what `eval` does.

        Returns
        -------
        Self
            The model.
        """
        for module in self.modules.values():
            module.train(mode)
        return self

    def eval(self) -> Self:
        """Put all layers into inference mode.

        Returns
        -------
        Self
            The model.
        """
        return self.train(False)

    def joined(self, **of_each: Mapping[str, Array]) -> dict[str, Array]:
        """Gradients of several layers, for an optimiser of the whole.

        Parameters
        ----------
        **of_each
            A mapping name -> array for each layer.

        Returns
        -------
        dict
            All of them, as "layer.name".
        """
        return {f"{k}.{name}": v for k, values in of_each.items() for name, v in values.items()}

    def parameters(self) -> dict[str, Array]:
        """The arrays of all layers, as "layer.name".

        Returns
        -------
        dict
            Name -> the very array.

        Examples
        --------
        >>> import fastlstm
        >>> from fastlstm import nn
        >>> model = nn.Modules(table=nn.Embedding(5, 2), rnn=fastlstm.RNN(2, 3, bias=False))
        >>> {name: array.shape for name, array in model.parameters().items()}
        {'table.weight': (5, 2), 'rnn.weight_ih_l0': (3, 2), 'rnn.weight_hh_l0': (3, 3)}
        """
        return self.joined(**{k: module.parameters() for k, module in self.modules.items()})

    def state_dict(self) -> dict[str, Array]:
        """All parameters at this moment, as "layer.name".

        Returns
        -------
        dict
            Name -> read-only array.
        """
        return self.joined(**{k: module.state_dict() for k, module in self.modules.items()})

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Take over parameters, all of them or, when an error is raised, none.

        Parameters
        ----------
        state_dict : mapping of str to tensor or array
            By the names of `state_dict`.
        strict : bool, default True
            Whether names that are missing or unexpected are an error.

        Returns
        -------
        LoadResult
            (missing_keys, unexpected_keys): the names that were passed over, without `strict`.

        Raises
        ------
        TypeError, ValueError
            Values that do not fit.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"state_dict must be a mapping, got {type(state_dict).__name__}")
        strict = checks.flag("strict", strict)
        parts: dict[str, dict[str, Any]] = {name: {} for name in self.modules}
        missing, unexpected = [], []
        for key, value in state_dict.items():
            name, _, rest = key.partition(".")
            if name in parts and rest:
                parts[name][rest] = value
            else:
                unexpected.append(key)
        if strict and unexpected:
            raise ValueError(f"state_dict does not fit: unexpected: {', '.join(unexpected)}")
        before = {name: module.state_dict() for name, module in self.modules.items()}
        name = ""
        try:
            for name, module in self.modules.items():
                found = module.load_state_dict(parts[name], strict)
                missing += [f"{name}.{key}" for key in found.missing_keys]
                unexpected += [f"{name}.{key}" for key in found.unexpected_keys]
        except BaseException as error:
            for k, values in before.items():
                self.modules[k].load_state_dict(values)
            if type(error) in (TypeError, ValueError):
                raise type(error)(f"{name}: {error}") from error
            raise
        return LoadResult(missing, unexpected)
