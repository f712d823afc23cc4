# SPDX-License-Identifier: BSD-3-Clause
"""Optimisers that update NumPy arrays in place, with the names and semantics of ``torch.optim``.

>>> import numpy as np
>>> import fastlstm
>>> lstm = fastlstm.LSTM(3, 4, seed=0).train()
>>> adamw = fastlstm.optim.AdamW(lstm, lr=1e-3)
>>> y, state, tape = lstm.forward(np.ones((5, 2, 3), np.float32))
>>> grads = lstm.backward(tape, np.ones_like(y))
>>> norm = fastlstm.optim.clip_grad_norm(grads, 1.0)
>>> adamw.step(grads)

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
from typing import Any

import numpy as np

from . import _optim, checks
from .checks import Array
from .clipping import clip_grad_norm, clip_grad_value
from .optimizer import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm", "clip_grad_value"]


class SGD(Optimizer):
    """Stochastic gradient descent, with the options of ``torch.optim.SGD``.

    Parameters
    ----------
    params : model, or mapping of str to ndarray
        A model is anything with ``parameters()``. Arrays are writable, C-contiguous, float32 or
        float64, and no two of them share memory.
    lr : float, default 1e-3
        Learning rate, >= 0.
    momentum : float, default 0
        >= 0; without it there is no b, and p -= lr d.
    dampening : float, default 0
        Of the momentum.
    weight_decay : float, default 0
        L2 penalty, >= 0.
    nesterov : bool, default False
        Needs momentum > 0 and dampening = 0.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Notes
    -----
    For each array p with gradient g::

        d = g + weight_decay p
        b = momentum b + (1 - dampening) d        in the first step b = d
        p -= lr b                                 with nesterov p -= lr (d + momentum b)

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import optim
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> sgd = optim.SGD(params, lr=0.1, momentum=0.9)
    >>> sgd.step({"w": np.array([1.0, -1.0])})
    >>> params["w"]
    array([0.9, 2.1])
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
            "lr": checks.number("lr", settings["lr"]),
            "momentum": checks.number("momentum", settings["momentum"]),
            "dampening": checks.number("dampening", settings["dampening"], least=-math.inf),
            "weight_decay": checks.number("weight_decay", settings["weight_decay"]),
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

    Parameters
    ----------
    params : model, or mapping of str to ndarray
        A model is anything with ``parameters()``. Arrays are writable, C-contiguous, float32 or
        float64, and no two of them share memory.
    lr : float, default 1e-3
        Learning rate, >= 0.
    betas : (float, float), default (0.9, 0.999)
        (beta1, beta2), each in [0, 1).
    eps : float, default 1e-8
        >= 0.
    weight_decay : float, default 0
        L2 penalty, >= 0: a part of the gradient, unlike that of `AdamW`.
    amsgrad : bool, default False
        Whether the largest v so far takes the place of v (Reddi et al. 2018).

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    Notes
    -----
    In step t, for each array p with gradient g::

        d = g + weight_decay p
        m = beta1 m + (1 - beta1) d         v = beta2 v + (1 - beta2) d^2
        p -= lr / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + eps)

    References
    ----------
    D. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    S. Reddi, S. Kale and S. Kumar, "On the convergence of Adam and beyond", ICLR 2018.

    Examples
    --------
    >>> import numpy as np
    >>> import fastlstm
    >>> lstm = fastlstm.LSTM(3, 4, seed=0).train()
    >>> adam = fastlstm.optim.Adam(lstm, lr=1e-2)
    >>> x = np.ones((5, 2, 3), np.float32)
    >>> y, state, tape = lstm.forward(x)
    >>> adam.step(lstm.backward(tape, 2 * (y - 1)))  # of the loss ((y - 1) ** 2).sum()
    >>> bool(((lstm(x)[0] - 1) ** 2).sum() < ((y - 1) ** 2).sum())
    True
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
            "lr": checks.number("lr", settings["lr"]),
            "betas": tuple(checks.number("betas", beta, below=1.0) for beta in betas),
            "eps": checks.number("eps", settings["eps"]),
            "weight_decay": checks.number("weight_decay", settings["weight_decay"]),
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

    As `Adam`, but the decay stays out of the moments: d = g, and p becomes
    (1 - lr weight_decay) p first.

    Parameters
    ----------
    params, lr, betas, eps
        As for `Adam`.
    weight_decay : float, default 1e-2
        >= 0.
    amsgrad : bool, default False
        As for `Adam`.

    Raises
    ------
    TypeError, ValueError
        A wrong argument.

    References
    ----------
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from fastlstm import optim
    >>> params = {"w": np.array([1.0])}
    >>> adamw = optim.AdamW(params, lr=0.1, weight_decay=0.5)
    >>> adamw.step({"w": np.array([0.0])})  # the decay alone
    >>> params["w"]
    array([0.95])
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
