# SPDX-License-Identifier: BSD-3-Clause
"""Copies of our modules: in this process they are ours, in a file they are PyTorch's.

So a model that was saved whole after `accelerate` loads where fastlstm is not installed. Where it
is, `accelerate` takes the loaded model as any other.
"""

from __future__ import annotations

import copy
import copyreg
from typing import Any

from torch.nn.utils import parametrize

from .variants import is_general

FROZEN = "_fastlstm_frozen"  # in a module's __dict__: its weights are frozen, see `accelerate`


class Copies:
    """A base of all our modules. `_torch_class` of a class is the one that it stands for; users'
    subclasses have none of their own, and are copied and pickled as what they are.
    """

    def __reduce_ex__(self, protocol: Any) -> Any:
        plain = torch_class(type(self))
        # A parametrized one PyTorch refuses, and one with options it does not have.
        if plain is None or self.__dict__.get("parametrizations") or is_general(self):
            return super().__reduce_ex__(protocol)
        # `copyreg.__newobj__`, PyTorch's own way, is refused for an object of another class.
        state = as_torch(self).__reduce_ex__(2)[2]
        return copyreg._reconstructor, (plain, object, None), state  # type: ignore[attr-defined]

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if parametrize.is_parametrized(self):  # copied as PyTorch does, which cannot be by a state
            twin = memo[id(self)] = object.__new__(type(self))
            twin.__dict__ = copy.deepcopy(self.__dict__, memo)
            return twin
        return _rebuilt(self, memo)

    def __copy__(self) -> Any:
        return _rebuilt(self, None)


def _rebuilt(module: Any, memo: dict[int, Any] | None) -> Any:
    """What the copy module does where no class has a say."""
    reduce: Any = type(module).__reduce_ex__
    theirs = reduce is not Copies.__reduce_ex__
    reduced = module.__reduce_ex__(4) if theirs else object.__reduce_ex__(module, 4)
    return copy._reconstruct(module, memo, *reduced)  # type: ignore[attr-defined]


def torch_class(kind: type) -> Any:
    """PyTorch's class, or the user's own subclass of it, for which one of ours stands; or None."""
    return vars(kind).get("_torch_class")


def as_torch(module: Any) -> Any:
    """A module of PyTorch's class with the very parameters, buffers and hooks of one of ours."""
    twin = object.__new__(_nearest(type(module)))
    twin.__dict__.update(module.__dict__)
    twin.__dict__.pop(FROZEN, None)
    if module._fastlstm_options is not None:  # what they changed are first values
        del twin.options, twin._fastlstm_options, twin._fastlstm_cell
    return twin


def _nearest(kind: type) -> Any:
    return next(found for found in map(torch_class, kind.__mro__) if found is not None)
