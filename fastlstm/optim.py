# SPDX-License-Identifier: BSD-3-Clause
"""Optimisers that update NumPy arrays in place, with the names and semantics of torch.optim.

    opt = fastlstm.optim.AdamW(lstm, lr=1e-3)
    ...
    fastlstm.optim.clip_grad_norm(grads, 1.0)
    opt.step(grads)

An optimiser works on a mapping name -> array, or on a model; several models take one optimiser by
a mapping with names of its own: ``{"lstm." + k: v for k, v in lstm.parameters().items()} | head``.

Sources: SGD with Nesterov momentum in the form of Sutskever et al. 2013, with dampening and with
the learning rate outside the buffer, as torch.optim.SGD; Adam: Kingma & Ba 2015, algorithm 1;
AMSGrad: Reddi et al. 2018; AdamW: Loshchilov & Hutter 2019, algorithm 2, with lr in its decay as in
torch. The arithmetic is that of the array's dtype, bias corrections are worked out in float64, and
denormals count as zero; the bits depend on neither length nor CPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from . import _core, _optim, checks, clipping
from .checks import Array
from .clipping import clip_grad_norm, clip_grad_value

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm", "clip_grad_value"]

MAX_STEPS = 2**62


class Optimizer:
    """What `SGD`, `Adam` and `AdamW` have in common. Not to be made itself: TypeError.

    Attributes
        lr      learning rate; set it between steps to follow a schedule
        steps   number of steps taken

    All other hyperparameters are fixed when the optimiser is made or its state is loaded.
    An optimiser serves one thread at a time: RuntimeError for a second one.
    """

    _slots: tuple[str, ...] = ()  # kinds of arrays that an instance keeps for each parameter
    _settings: tuple[str, ...]  # hyperparameters, by the names of their attributes

    def __init__(self, params: object, settings: dict[str, Any]) -> None:
        if type(self) is Optimizer:
            raise TypeError("Optimizer is only a base class: make an SGD, Adam or AdamW")
        # A model may replace its arrays (by loading parameters, say): ask it anew each time.
        self._source = (
            params if hasattr(params, "parameters") else dict(clipping.mapping("params", params))
        )
        self._guard = _core.Guard("the optimiser")
        arrays = clipping.own_arrays("params", self._given_arrays())
        clipping.refuse_overlap("params", arrays, "params", arrays)
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
        self.__dict__["_lr"] = clipping.number("lr", value)

    @property
    def steps(self) -> int:
        """Number of steps taken."""
        return self._count.value

    def _given_arrays(self) -> dict[str, Array]:
        source = self._source
        return clipping.given_arrays(
            "params", source if isinstance(source, dict) else source.parameters()
        )

    def step(self, grads: object) -> None:
        """Update every parameter by its gradient, in place.

        Parameters
            grads   mapping name -> array, or anything with such a mapping as ``.params``, for
                    exactly the names of the parameters. An array has its parameter's shape and
                    dtype (float16, and float32 for float64, is widened), and shares no memory with
                    any parameter; one that is not contiguous is copied

        To leave parameters as they are, make the optimiser without them and step with the
        gradients of the others alone.

        Raises TypeError or ValueError for wrong gradients, and ValueError for parameters that are
        read-only or no longer what they were; nothing is changed then.
        """
        # Code of the caller's objects runs in the next lines only.
        model_guard = self._model_guard()
        own = self._given_arrays()
        mapping = clipping.mapping("grads", getattr(grads, "params", grads))
        clipping.refuse_names("grads", mapping, self._shapes)
        given = {}
        for name, (_, dtype) in self._shapes.items():
            given[name] = value = mapping[name]
            if type(value) is not np.ndarray:
                given[name] = checks.given(f"grads[{name!r}]", value, dtype)
        params = clipping.own_arrays("params", own)
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
        clipping.refuse_overlap("grads", values, "params", params)
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
        clipping.refuse_names("params", params, self._shapes)
        for name, (shape, dtype) in self._shapes.items():
            array = params[name]
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(
                    f"params[{name!r}] was {dtype} {shape} when this optimiser was made, "
                    f"and is {array.dtype} {array.shape} now"
                )

    def state_dict(self) -> dict[str, Any]:
        """The state as one flat dict of numbers and arrays; the arrays are copies.

        ``step``, the hyperparameters, and for every parameter the arrays that torch's optimisers
        keep, as ``"exp_avg.weight_ih_l0"`` and the like. `load_state_dict` takes it back, also from
        a file::

            np.savez("opt.npz", **opt.state_dict())
            opt.load_state_dict(np.load("opt.npz"))

            arrays = {name: np.asarray(v) for name, v in opt.state_dict().items()}
            safetensors.numpy.save_file(arrays, "opt.safetensors")
            opt.load_state_dict(safetensors.numpy.load_file("opt.safetensors"))
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

        Raises
            TypeError    a value of a wrong type or dtype (nothing is converted)
            ValueError   names missing or unexpected, wrong shapes, values or flags (those that are
                         True or False, and whether there is momentum, must be this optimiser's own)
        """
        state = clipping.mapping("state_dict", state_dict)
        names = ["step", *self._settings]
        names += [f"{slot}.{name}" for slot in self._slots for name in self._shapes]
        clipping.refuse_names("state_dict", state, names)
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


class SGD(Optimizer):
    """Stochastic gradient descent, with the options of ``torch.optim.SGD``.

    For each array p with gradient g::

        d = g + weight_decay p
        b = momentum b + (1 - dampening) d        in the first step b = d
        p -= lr b                                 with nesterov p -= lr (d + momentum b)

    Parameters
        params         model (anything with ``parameters()``) or mapping name -> array: writable,
                       C-contiguous, float32 or float64, no two of them sharing memory
        lr             learning rate, >= 0
        momentum       >= 0; without it there is no b, and p -= lr d
        dampening      of the momentum
        weight_decay   L2 penalty, >= 0
        nesterov       needs momentum > 0 and dampening = 0

    Raises TypeError or ValueError for a wrong argument.
    """

    _settings = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
    momentum: float
    dampening: float
    weight_decay: float
    nesterov: bool

    def __init__(
        self,
        params: object,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def _checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        checked: dict[str, Any] = {
            "lr": clipping.number("lr", settings["lr"]),
            "momentum": clipping.number("momentum", settings["momentum"]),
            "dampening": clipping.number("dampening", settings["dampening"], least=-math.inf),
            "weight_decay": clipping.number("weight_decay", settings["weight_decay"]),
            "nesterov": checks.flag("nesterov", settings["nesterov"]),
        }
        if checked["nesterov"] and (checked["momentum"] == 0 or checked["dampening"] != 0):
            raise ValueError(
                "nesterov needs momentum > 0 and dampening = 0, "
                f"got {checked['momentum']} and {checked['dampening']}"
            )
        return checked

    def _slots_for(self, settings: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if settings["momentum"] else ()

    def _update(self, params: list[Array], grads: list[Array], state: list[list[Array]]) -> None:
        buffers = state[0] if state else []
        settings = (self.lr, self.momentum, self.dampening, self.weight_decay, self.nesterov)
        _optim.sgd(params, grads, buffers, *settings, self._count)


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), with the options of ``torch.optim.Adam``.

    In step t, for each array p with gradient g::

        d = g + weight_decay p
        m = beta1 m + (1 - beta1) d         v = beta2 v + (1 - beta2) d^2
        p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)

    Parameters
        params         model (anything with ``parameters()``) or mapping name -> array: writable,
                       C-contiguous, float32 or float64, no two of them sharing memory
        lr             learning rate, >= 0
        betas          (beta1, beta2), each in [0, 1)
        eps            >= 0
        weight_decay   L2 penalty, >= 0: a part of the gradient, unlike that of `AdamW`
        amsgrad        the largest v so far takes the place of v (Reddi et al. 2018)

    Raises TypeError or ValueError for a wrong argument.
    """

    _settings = ("lr", "betas", "eps", "weight_decay", "amsgrad", "decoupled_weight_decay")
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    amsgrad: bool
    decoupled_weight_decay = False

    def __init__(
        self,
        params: object,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "decoupled_weight_decay": type(self).decoupled_weight_decay,
            },
        )

    def _checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        betas = settings["betas"]
        if isinstance(betas, np.ndarray):
            betas = betas.tolist()
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"betas must be a pair of numbers in [0, 1), got {betas!r}")
        return {
            "lr": clipping.number("lr", settings["lr"]),
            "betas": tuple(clipping.number("betas", beta, below=1.0) for beta in betas),
            "eps": clipping.number("eps", settings["eps"]),
            "weight_decay": clipping.number("weight_decay", settings["weight_decay"]),
            "amsgrad": checks.flag("amsgrad", settings["amsgrad"]),
            "decoupled_weight_decay": checks.flag(
                "decoupled_weight_decay", settings["decoupled_weight_decay"]
            ),
        }

    def _slots_for(self, settings: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if settings["amsgrad"] else ()))

    def _update(self, params: list[Array], grads: list[Array], state: list[list[Array]]) -> None:
        means, squares, *largest = state
        _optim.adam(
            params,
            grads,
            means,
            squares,
            largest[0] if largest else [],
            self.lr,
            *self.betas,
            self.eps,
            self.weight_decay,
            self.decoupled_weight_decay,
            self._count,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), as ``torch.optim.AdamW``.

    As `Adam`, but the decay stays out of the moments: d = g, and p *= 1 - lr weight_decay first.
    """

    decoupled_weight_decay = True

    def __init__(
        self,
        params: object,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


def _plain(value: Any) -> Any:
    """The Python number in a 0-d array, as files give back what was a number."""
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return value.item()
    return value
