# SPDX-License-Identifier: BSD-3-Clause
"""Models of several layers: their parameters under one roof, and a recurrent layer with a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from .. import checks
from ..checks import Array, SupportsArray
from ..gru import GRU
from ..lstm import LSTM
from ..rnn import RNN
from ..training import Tape
from ..weights import LoadResult
from .layers import LayerGradients, Linear

Recurrent = LSTM | GRU | RNN


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

    def _joined(self, of_each: Mapping[str, Mapping[str, Array]]) -> dict[str, Array]:
        return {f"{k}.{name}": v for k, values in of_each.items() for name, v in values.items()}

    def parameters(self) -> dict[str, Array]:
        """The arrays of all layers, as "layer.name".

        Returns
        -------
        dict
            Name -> the very array.
        """
        return self._joined({k: module.parameters() for k, module in self.modules.items()})

    def state_dict(self) -> dict[str, Array]:
        """All parameters at this moment, as "layer.name".

        Returns
        -------
        dict
            Name -> read-only array.
        """
        return self._joined({k: module.state_dict() for k, module in self.modules.items()})

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


class SequenceTape:
    """What `forward` of a `SequenceModel` keeps for its `backward`; its memory may serve again.

    Attributes
    ----------
    state
        The recurrent layer's final state, which the next stretch of a long sequence starts from.
    """

    def __init__(self) -> None:
        self.state: Any = None
        self._inner = Tape()
        self._features: Array | None = None  # what the head has read
        self._kept: Array | None = None  # factors of dropout


class SequenceModel(Modules):
    """A recurrent layer and a head that reads its last output, or each of them.

    The last output is h of the last layer after a sequence's last step; of two directions, that of
    the second one after the first step is joined to it.

    Parameters
    ----------
    recurrent : LSTM, GRU or RNN
        Its parameters are called "recurrent.weight_ih_l0" and so on.
    head : Linear
        Of as many inputs as the recurrent layer has outputs; more, if there are values `beside`.
    outputs : {"last", "every"}
        What the head reads.
    dropout : float, default 0
        Probability that an input of the head is zero, in training mode.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Examples
    --------
    >>> import numpy as np, fastlstm
    >>> from fastlstm import nn
    >>> gru = fastlstm.GRU(2, 8, batch_first=True, bidirectional=True, seed=0)
    >>> model = nn.SequenceModel(gru, nn.Linear(16, 3, seed=0))
    >>> model(np.zeros((4, 7, 2), np.float32), lengths=[7, 1, 3, 7]).shape
    (4, 3)
    """

    def __init__(
        self,
        recurrent: Recurrent,
        head: Linear,
        outputs: Literal["last", "every"] = "last",
        dropout: float = 0.0,
    ) -> None:
        if not isinstance(recurrent, Recurrent):
            raise TypeError(
                f"recurrent must be an LSTM, GRU or RNN, got {type(recurrent).__name__}"
            )
        if not isinstance(head, Linear):
            raise TypeError(f"head must be a Linear, got {type(head).__name__}")
        super().__init__(recurrent=recurrent, head=head)
        if outputs not in ("last", "every"):
            raise ValueError(f'outputs must be "last" or "every", got {outputs!r}')
        self.outputs = outputs
        self.dropout = checks.number("dropout", dropout, below=1.0)
        width = recurrent._directions * recurrent._spec.outputs
        if head.in_features < width or head.dtype != recurrent.dtype:
            raise ValueError(
                f"head must have {width} inputs at least and dtype {recurrent.dtype}, got {head!r}"
            )

    def _read(self, features: Array, beside: SupportsArray | None) -> Array:
        if beside is None:
            return features
        more = checks.array(
            "beside", checks.given("beside", beside, self.head.dtype), self.head.dtype
        )
        if more.shape[:-1] != features.shape[:-1]:
            raise ValueError(
                f"beside must have shape {features.shape[:-1]} and one more axis, got {more.shape}"
            )
        return np.concatenate((features, more), axis=-1)

    def __call__(
        self,
        x: SupportsArray,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        beside: SupportsArray | None = None,
        num_threads: int | None = None,
    ) -> Array:
        """Run inference; nothing is kept.

        Parameters
        ----------
        x, state, lengths, num_threads
            As for a call of the recurrent layer.
        beside : array of shape (B, E), or (B, T, E) with every output, optional
            More inputs of the head, in the layout of its others.

        Returns
        -------
        ndarray of shape (B, O), or (B, T, O) with every output
            What the head gives, in the layout of `x`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As a call of the recurrent layer does.
        """
        run = self.recurrent.last if self.outputs == "last" else self.recurrent
        features, _ = run(x, state, lengths=lengths, num_threads=num_threads)
        y: Array = self.head(self._read(features, beside))
        return y

    def forward(
        self,
        x: SupportsArray,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        beside: SupportsArray | None = None,
        tape: SequenceTape | None = None,
        seed: int | None = None,
        num_threads: int | None = None,
    ) -> tuple[Array, SequenceTape]:
        """Run forward and keep what `backward` needs.

        Parameters
        ----------
        x, state, lengths, beside, num_threads
            As for a call.
        tape : SequenceTape, optional
            One whose memory to use again; what it held is lost.
        seed : int, optional
            Of the dropout masks; None draws one.

        Returns
        -------
        y : ndarray
            As from a call.
        tape : SequenceTape
            For `backward`.

        Raises
        ------
        TypeError, ValueError, MemoryError
            As a call does.
        """
        tape = SequenceTape() if tape is None else tape
        dropout = self.dropout if self.training else 0.0
        if seed is None and dropout:
            seed = self.recurrent._draw_seed()
        y, tape.state, _ = self.recurrent.forward(
            x, state, lengths=lengths, tape=tape._inner, seed=seed, num_threads=num_threads
        )
        if self.outputs == "last":
            h_n = tape.state[0] if self.recurrent._has_c else tape.state
            y = np.concatenate(list(h_n[-self.recurrent._directions :]), axis=-1)
        features, tape._kept = self._read(y, beside), None
        if dropout:
            drawn = np.random.default_rng([seed or 0, 1]).random(features.shape, np.float32)
            factors = np.where(drawn < dropout, 0.0, 1 / (1 - dropout))
            tape._kept = factors.astype(features.dtype)
            features = features * tape._kept
        y, tape._features = self.head.forward(features)
        return y, tape

    def backward(
        self,
        tape: SequenceTape,
        dy: SupportsArray,
        *,
        input_grad: bool = False,
        num_threads: int | None = None,
    ) -> LayerGradients:
        """Gradients of a loss from that of the head's outputs.

        Parameters
        ----------
        tape : SequenceTape
            From `forward`.
        dy : array of the shape of y
            Gradient of y.
        input_grad : bool, default False
            Whether to compute the gradient of x.
        num_threads : int, optional
            As for a call; results do not depend on it.

        Returns
        -------
        LayerGradients
            Of x, and of all parameters by the names of `parameters`.

        Raises
        ------
        TypeError, ValueError
            A wrong argument, or a tape that holds nothing.
        """
        if tape._features is None:
            raise ValueError("tape holds no forward pass")
        head = self.head.backward(tape._features, dy)
        dread = head.x if tape._kept is None else head.x * tape._kept
        recurrent = self.recurrent
        width = recurrent._directions * recurrent._spec.outputs
        dread = dread[..., :width]
        given: dict[str, Any] = {"input_grad": input_grad, "num_threads": num_threads}
        if self.outputs == "every":
            grads = recurrent.backward(tape._inner, dread, **given)
        else:
            h_n = tape.state[0] if recurrent._has_c else tape.state
            dh_n = np.zeros_like(h_n)
            dh_n[-recurrent._directions :] = np.split(dread, recurrent._directions, axis=-1)
            slope: Any = (dh_n, None) if recurrent._has_c else dh_n
            grads = recurrent.backward(tape._inner, dstate=slope, **given)
        params = self._joined({"recurrent": grads.params, "head": head.params})
        return LayerGradients(grads.x, params)
