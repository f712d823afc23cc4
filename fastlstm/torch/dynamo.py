# SPDX-License-Identifier: BSD-3-Clause
"""Lets torch.compile trace into our layers.

Dynamo breaks the graph at every instance of torch.nn.LSTM, GRU and RNN, since it would unroll
PyTorch's own forward step by step, unless ``torch._dynamo.config.allow_rnn`` says otherwise. Ours
is one operator. The setting would hold for PyTorch's own too, so it is switched on only while
Dynamo looks at a module of ours that runs in the core.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from . import fallback
from .layers import Layer

_NAME = "torch._dynamo.variables.builder"


def _patch(builder: Any) -> None:
    """Replace VariableBuilder.wrap_module, where the question is asked."""
    wrap = builder.VariableBuilder.wrap_module

    def wrap_module(self: Any, value: Any) -> Any:
        if isinstance(value, Layer) and not fallback.unsupported(value, list(value.parameters())):
            with builder.config.patch(allow_rnn=True):
                return wrap(self, value)
        return wrap(self, value)

    builder.VariableBuilder.wrap_module = wrap_module


class _Finder(importlib.abc.MetaPathFinder):
    """Patches Dynamo when it is imported: to import it here would take a second."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                _patch(module)

            loader.exec_module = exec_module
        return spec


def install() -> None:
    """Patch Dynamo now if it is loaded, else as soon as it is."""
    if _NAME in sys.modules:
        _patch(sys.modules[_NAME])
    else:
        sys.meta_path.insert(0, _Finder())
