# SPDX-License-Identifier: BSD-3-Clause
"""What all optimisers share: parameters and gradients checked, steps, states in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _core, _optim, checks, inplace
from .checks import Array

MAX_STEPS = 2**62


class Optimizer:
    """What `SGD`, `Adam` and `AdamW` have in common. Not to be made itself: TypeError.

    An optimiser serves one thread at a time: RuntimeError for a second one.

    Parameters
    ----------
    params, settings
        Parameters, and hyperparameters by name, of the class that is made.

    Attributes
    ----------
    lr : float
        Learning rate; set it between steps to follow a schedule. All other hyperparameters are
        fixed when the optimiser is made or its state is loaded.
    steps : int
        Number of steps taken.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import optim
    >>> adam = optim.Adam({"w": np.zeros(3)})
    >>> isinstance(adam, optim.Optimizer)
    True
    >>> adam.lr = 1e-4
    >>> adam.step({"w": np.ones(3)})
    >>> adam.steps
    1
    """

    _slots: tuple[str, ...] = ()  # kinds of arrays that an instance keeps for each parameter
    _settings: tuple[str, ...]  # hyperparameters, by the names of their attributes

    def __init__(self, params: object, settings: dict[str, Any]) -> None:
        if type(self) is Optimizer:
            raise TypeError("Optimizer is only a base class: make an SGD, Adam or AdamW")
        # A model may replace its arrays (by loading parameters, say): ask it anew each time.
        self._source = (
            params if hasattr(params, "parameters") else dict(inplace.mapping("params", params))
        )
        self._guard = _core.Guard("the optimiser")
        arrays = inplace.own_arrays("params", self._given_arrays())
        inplace.refuse_overlap("params", arrays, "params", arrays)
        self._shapes = {name: (array.shape, array.dtype) for name, array in arrays.items()}
        self._take(self._checked(settings))
        self._slots = self._slots_for(settings)
        self._state = {
            slot: {name: np.zeros(shape, dtype) for name, (shape, dtype) in self._shapes.items()}
            for slot in self._slots
        }
        self._count = _optim.Count()

    def _checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Valid hyperparameters as plain numbers; also those of a loaded state."""
        raise NotImplementedError

    def _slots_for(self, settings: dict[str, Any]) -> tuple[str, ...]:
        raise NotImplementedError

    def _update(self, params: list[Array], grads: list[Array], state: list[list[Array]]) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in self._settings)
        return f"{type(self).__name__}({len(self._shapes)} arrays, {settings})"

    def __setattr__(self, name: str, value: object) -> None:
        if name != "lr" and not name.startswith("_"):
            kind = type(self).__name__
            raise AttributeError(f"{name} cannot be set: {kind} lets only lr be set")
        object.__setattr__(self, name, value)

    def _take(self, settings: dict[str, Any], **more: object) -> None:
        """Makes attributes of checked settings, and of what else is given, all at once."""
        changes = {("_lr" if k == "lr" else k): v for k, v in settings.items()}
        self.__dict__.update({**changes, **more})

    @property
    def lr(self) -> float:
        """Learning rate: a finite number >= 0. Set it to anything else: TypeError, ValueError."""
        value: float = self.__dict__["_lr"]
        return value

    @lr.setter
    def lr(self, value: float) -> None:
        self.__dict__["_lr"] = checks.number("lr", value)

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return self._count.value

    def _given_arrays(self) -> dict[str, Array]:
        source = self._source
        return inplace.given_arrays(
            "params", source if isinstance(source, dict) else source.parameters()
        )

    def step(self, grads: object) -> None:
        """Update every parameter by its gradient, in place.

        To leave parameters as they are, make the optimiser without them and step with the
        gradients of the others alone.

        Parameters
        ----------
        grads : mapping of str to array, or anything with such a mapping as ``.params``
            For exactly the names of the parameters. An array has its parameter's shape and dtype
            (float16, and float32 for float64, is widened), and shares no memory with any parameter;
            one that is not contiguous is copied.

        Raises
        ------
        TypeError, ValueError
            Wrong gradients; nothing is changed then.
        ValueError
            Parameters that are read-only or no longer what they were; nothing is changed then.
        RuntimeError
            Another thread uses the optimiser.

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm import optim
        >>> params = {"w": np.array([1.0]), "b": np.array([0.0])}
        >>> sgd = optim.SGD(params, lr=0.5)
        >>> sgd.step({"w": np.array([1.0]), "b": np.array([-1.0])})
        >>> params
        {'w': array([0.5]), 'b': array([0.5])}
        >>> sgd.step({"w": np.array([1.0])})
        Traceback (most recent call last):
            ...
        ValueError: grads does not fit: missing: b
        """
        # Code of the caller's objects runs in the next lines only.
        model_guard = self._model_guard()
        own = self._given_arrays()
        mapping = inplace.mapping("grads", getattr(grads, "params", grads))
        inplace.refuse_names("grads", mapping, self._shapes)
        given = {}
        for name, (_, dtype) in self._shapes.items():
            given[name] = value = mapping[name]
            if type(value) is not np.ndarray:
                given[name] = checks.given(f"grads[{name!r}]", value, dtype)
        params = inplace.own_arrays("params", own)
        self._refuse_change(params)
        values = {}
        for name, (shape, dtype) in self._shapes.items():
            value = given[name]
            if type(value) is not np.ndarray or value.dtype != dtype:
                value = checks.array(f"grads[{name!r}]", value, dtype)
            if value.shape != shape:
                raise ValueError(f"grads[{name!r}] must have shape {shape}, got {value.shape}")
            contiguous = value.flags.c_contiguous and value.flags.aligned
            values[name] = value if contiguous else value.copy(order="C")
        inplace.refuse_overlap("grads", values, "params", params)
        # Models list their parameters in any order.
        ordered = [params[name] for name in self._shapes]
        with self._guard.writing(), model_guard.writing(wait=True):
            state = [list(arrays.values()) for arrays in self._state.values()]
            self._update(ordered, list(values.values()), state)

    def _model_guard(self) -> _core.Guard:
        """By which calls of the model in other threads see all of a step or nothing."""
        params = getattr(self._source, "_params", None)
        return params.guard if isinstance(params, _core.Parameters) else _core.Guard("the arrays")

    def _refuse_change(self, params: dict[str, Array]) -> None:
        inplace.refuse_names("params", params, self._shapes)
        for name, (shape, dtype) in self._shapes.items():
            array = params[name]
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"params[{name!r}] was {dtype} {shape} when this optimiser was made, "
                    f"and is {array.dtype} {array.shape} now"
                )

    def state_dict(self) -> dict[str, Any]:
        """The state as one flat dict of numbers and arrays; the arrays are copies.

        Returns
        -------
        dict
            ``step``, the hyperparameters, and for every parameter the arrays that torch's
            optimisers keep, as ``"exp_avg.weight_ih_l0"`` and the like.

        Notes
        -----
        `load_state_dict` takes it back, also from a file::

            np.savez("opt.npz", **opt.state_dict())
            opt.load_state_dict(np.load("opt.npz"))

            arrays = {name: np.asarray(v) for name, v in opt.state_dict().items()}
            safetensors.numpy.save_file(arrays, "opt.safetensors")
            opt.load_state_dict(safetensors.numpy.load_file("opt.safetensors"))

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm import optim
        >>> sgd = optim.SGD({"w": np.zeros(2)}, lr=0.5, momentum=0.9)
        >>> sgd.step({"w": np.ones(2)})
        >>> [*sgd.state_dict()]
        ['step', 'lr', 'momentum', 'dampening', 'weight_decay', 'nesterov', 'momentum_buffer.w']
        """
        with self._guard.reading():
            state: dict[str, Any] = {"step": self.steps}
            for name in self._settings:
                value = getattr(self, name)
                state[name] = np.array(value) if isinstance(value, tuple) else value
            for slot, arrays in self._state.items():
                state |= {f"{slot}.{name}": array.copy() for name, array in arrays.items()}
        return state

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over a state, hyperparameters included: training goes on with the same bits.

        Either all of it is taken or, when an error is raised, nothing.

        Parameters
        ----------
        state_dict : mapping of str to number or array
            What `state_dict` of such an optimiser gave.

        Raises
        ------
        TypeError
            A value of a wrong type or dtype (nothing is converted).
        ValueError
            Names missing or unexpected, wrong shapes, values or flags (those that are True or
            False, and whether there is momentum, must be this optimiser's own).

        Examples
        --------
        >>> import numpy as np
        >>> from fastlstm import optim
        >>> params = {"w": np.zeros(2)}
        >>> adam, other = optim.Adam(params, lr=0.1), optim.Adam(params)
        >>> adam.step({"w": np.ones(2)})
        >>> np.savez("adam.npz", **adam.state_dict())
        >>> with np.load("adam.npz") as state:
        ...     other.load_state_dict(state)
        >>> other.lr, other.steps
        (0.1, 1)
        """
        state = inplace.mapping("state_dict", state_dict)
        names = ["step", *self._settings]
        names += [f"{slot}.{name}" for slot in self._slots for name in self._shapes]
        inplace.refuse_names("state_dict", state, names)
        state = {name: state[name] for name in names}  # each is asked for once
        step = checks.count("step", _plain(state["step"]), 0, MAX_STEPS)
        settings = self._checked({name: _plain(state[name]) for name in self._settings})
        for name, value in settings.items():
            if isinstance(value, bool) and value != getattr(self, name):
                raise ValueError(f"{name} must be {not value} as in this optimiser, got {value}")
        if self._slots_for(settings) != self._slots:
            raise ValueError(
                f"momentum must be {'> 0' if self._slots else '0'} as in this optimiser, "
                f"got {settings['momentum']}"
            )
        found: dict[str, dict[str, Array]] = {}
        for slot in self._slots:
            found[slot] = {}
            for name, (shape, dtype) in self._shapes.items():
                key = f"{slot}.{name}"
                checks.no_mask(key, state[key])
                # Our own from here on: NumPy believes an __array__ that says it has copied.
                value = np.array(np.asarray(state[key]), order="C")
                if value.dtype != dtype:
                    raise TypeError(f"{key} must have dtype {dtype}, got {value.dtype}")
                if value.shape != shape:
                    raise ValueError(f"{key} must have shape {shape}, got {value.shape}")
                found[slot][name] = value
        with self._guard.writing():
            self._take(settings, _state=found, _count=_optim.Count(step))


def _plain(value: Any) -> Any:
    """The Python number in a 0-d array, as files give back what was a number."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value
