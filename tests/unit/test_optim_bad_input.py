# SPDX-License-Identifier: BSD-3-Clause
"""What optimisers and clipping must refuse: the message names the argument, nothing is changed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm.optim import SGD, Adam, AdamW, Optimizer, clip_grad_norm, clip_grad_value
from support.labels import label
from support.optim_reference import Gradients, made
from support.refusals import misaligned, refused

NAN, INF = float("nan"), float("inf")


def params() -> dict[str, np.ndarray]:
    return {"w": np.ones((3, 4), np.float32), "b": np.ones(4), "c": np.ones(2, np.float32)}


def good() -> dict[str, np.ndarray]:
    return {"w": np.full((3, 4), 2, np.float32), "b": np.ones(4), "c": np.ones(2, np.float32)}


MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": SGD,
    "SGD momentum": lambda p: SGD(p, momentum=0.5),
    "Adam": Adam,
    "Adam amsgrad": lambda p: Adam(p, amsgrad=True),
    "AdamW": AdamW,
}

# ---- hyperparameters ----

NUMBERS: dict[str, tuple[str, float, Callable[[Any], object]]] = {
    "SGD lr": ("lr", 0, lambda v: SGD(params(), v)),
    "SGD momentum": ("momentum", 0, lambda v: SGD(params(), momentum=v)),
    "SGD dampening": ("dampening", -INF, lambda v: SGD(params(), momentum=0.5, dampening=v)),
    "SGD weight_decay": ("weight_decay", 0, lambda v: SGD(params(), weight_decay=v)),
    "Adam lr": ("lr", 0, lambda v: Adam(params(), v)),
    "Adam beta1": ("betas", 0, lambda v: Adam(params(), betas=(v, 0.9))),
    "Adam beta2": ("betas", 0, lambda v: Adam(params(), betas=(0.9, v))),
    "Adam eps": ("eps", 0, lambda v: Adam(params(), eps=v)),
    "Adam weight_decay": ("weight_decay", 0, lambda v: Adam(params(), weight_decay=v)),
    "AdamW lr": ("lr", 0, lambda v: AdamW(params(), v)),
    "AdamW weight_decay": ("weight_decay", 0, lambda v: AdamW(params(), weight_decay=v)),
    "set lr": ("lr", 0, lambda v: setattr(Adam(params()), "lr", v)),
    "max_norm": ("max_norm", 0, lambda v: clip_grad_norm(good(), v)),
    "clip_value": ("clip_value", 0, lambda v: clip_grad_value(good(), v)),
}
BAD_NUMBERS: dict[str, tuple[Any, type[Exception]]] = {
    "NaN": (NAN, ValueError),
    "NumPy's NaN": (np.float32(NAN), ValueError),
    "minus infinity": (-INF, ValueError),
    "infinity": (INF, ValueError),
    "beyond float64": (10**400, ValueError),
    "too long to print": (10**5000, ValueError),
    "negative": (-1e-9, ValueError),
    "True": (True, TypeError),
    "NumPy's True": (np.True_, TypeError),
    "None": (None, TypeError),
    "a string": ("0.1", TypeError),
    "complex": (1j, TypeError),
    "a fraction": (Fraction(1, 2), TypeError),
    "an array": (np.array([0.1]), TypeError),
    "a list": ([0.1], TypeError),
}


@pytest.mark.parametrize("bad", BAD_NUMBERS)
@pytest.mark.parametrize("what", NUMBERS)
def test_bad_number(what: str, bad: str) -> None:
    name, least, call = NUMBERS[what]
    value, error = BAD_NUMBERS[bad]
    if (bad == "infinity" and name in ("max_norm", "clip_value")) or (
        bad == "negative" and least < 0
    ):
        call(value)
        return
    refused(name, error, lambda: call(value))


@pytest.mark.parametrize("betas", [(1.0, 0.5), (0.5, 1.0), (0.5, 1), (2, 0.5)])
def test_beta_of_one(betas: Any) -> None:
    refused("betas", ValueError, lambda: Adam(params(), betas=betas))


@pytest.mark.parametrize(
    "betas", [0.9, None, (0.9,), (0.9, 0.9, 0.9), "ab", {0.9, 0.99}, np.ones((2, 2)) / 2], ids=label
)
def test_betas_are_a_pair(betas: Any) -> None:
    refused("betas", TypeError, lambda: Adam(params(), betas=betas))


@pytest.mark.parametrize("value", [0, 1, None, "yes", np.array(True)], ids=label)
def test_bad_flag(value: Any) -> None:
    refused("nesterov", TypeError, lambda: SGD(params(), momentum=0.5, nesterov=value))
    refused("amsgrad", TypeError, lambda: Adam(params(), amsgrad=value))
    refused(
        "error_if_nonfinite",
        TypeError,
        lambda: clip_grad_norm(good(), 1.0, error_if_nonfinite=value),
    )


def test_nesterov_needs_plain_momentum() -> None:
    refused("nesterov", ValueError, lambda: SGD(params(), nesterov=True))
    refused("nesterov", ValueError, lambda: SGD(params(), 0.1, 0.9, 0.1, nesterov=True))


def test_lr_stays_after_a_refusal() -> None:
    opt = Adam(params(), lr=0.25)
    refused("lr", ValueError, lambda: setattr(opt, "lr", NAN))
    assert opt.lr == 0.25


# ---- parameters, and gradients that are changed in place ----


def read_only(a: np.ndarray) -> np.ndarray:
    a.flags.writeable = False
    return a


IN_PLACE: dict[str, tuple[Any, type[Exception]]] = {
    "read-only": (read_only(np.ones(4)), ValueError),
    "not contiguous": (np.ones(8)[::2], ValueError),
    "Fortran order": (np.ones((3, 4), order="F"), ValueError),
    "broadcast": (np.broadcast_to(np.ones(1), (4,)), ValueError),
    "misaligned": (misaligned(np.ones(4)), ValueError),
    "float16": (np.ones(4, np.float16), TypeError),
    "integers": (np.ones(4, int), TypeError),
    "complex": (np.ones(4, complex), TypeError),
    "big-endian": (np.ones(4, ">f8"), TypeError),
    "objects": (np.ones(4, object), TypeError),
    "masked": (np.ma.ones(4), TypeError),
    "a list": ([1.0, 2.0], TypeError),
    "a number": (1.0, TypeError),
    "NumPy's number": (np.float64(1), TypeError),
    "None": (None, TypeError),
}


@pytest.mark.parametrize("bad", IN_PLACE)
@pytest.mark.parametrize("maker", MAKERS)
def test_bad_parameter(maker: str, bad: str) -> None:
    value, error = IN_PLACE[bad]
    refused("b", error, lambda: MAKERS[maker]({**params(), "b": value}))


@pytest.mark.parametrize("bad", IN_PLACE)
def test_bad_gradient_to_clip(bad: str) -> None:
    value, error = IN_PLACE[bad]
    grads = {**good(), "b": value}
    for given in (grads, Gradients(**grads)):
        refused("b", error, lambda g=given: clip_grad_norm(g, 1e-3))
        refused("b", error, lambda g=given: clip_grad_value(g, 1e-3))
    assert (grads["w"] == 2).all()


@pytest.mark.parametrize(
    "value", [None, 1, "w", [np.ones(3)], np.ones(3), {1: np.ones(3)}, iter(()), SGD({})], ids=label
)
def test_no_mapping(value: Any) -> None:
    for maker in MAKERS.values():
        refused("params", TypeError, lambda make=maker: make(value))
    opt = SGD(params())
    refused("grads", TypeError, lambda: opt.step(value))
    refused("grads", TypeError, lambda: clip_grad_norm(value, 1.0))
    refused("grads", TypeError, lambda: clip_grad_value(value, 1.0))
    refused("state_dict", TypeError, lambda: opt.load_state_dict(value))


def test_a_torch_module_is_no_mapping() -> None:
    torch = pytest.importorskip("torch")
    refused("params", TypeError, lambda: Adam(torch.nn.Linear(2, 2)))
    refused("w", TypeError, lambda: Adam({"w": torch.zeros(3)}))


def test_parameters_that_share_memory() -> None:
    memory = np.ones(10)
    shared = {"b": memory[:6], "x": np.ones(3), "c": memory[5:]}
    refused("b", ValueError, lambda: Adam(shared))
    refused("c", ValueError, lambda: Adam(shared))
    refused("again", ValueError, lambda: Adam({"w": memory, "again": memory}))
    SGD({"b": memory[:5], "c": memory[5:], "nothing": memory[3:3]})  # neighbours are no overlap


def test_gradients_to_clip_that_share_memory() -> None:
    memory = np.ones(10)
    for call in (clip_grad_norm, clip_grad_value):
        refused("y", ValueError, lambda f=call: f({"x": memory[:6], "y": memory[4:]}, 0.1))
        refused("y", ValueError, lambda f=call: f({"x": memory, "y": memory[:4]}, 0.1))
    assert (memory == 1).all()


def test_model_in_inference_mode() -> None:
    """Its parameters are read-only, and the message says what to do."""
    kept = fastlstm.LSTM(3, 4, seed=0)

    class Model:
        def parameters(self) -> dict[str, np.ndarray]:
            return kept.state_dict()

    refused("weight_ih_l0", ValueError, lambda: Adam(Model()))
    with pytest.raises(ValueError, match="train"):
        Adam(Model())


# ---- steps ----


def unchanged(opt: Optimizer, owned: dict[str, np.ndarray], call: Callable[[], object]) -> None:
    """After the call, which must raise, parameters and state are what they were."""
    state, before = opt.state_dict(), copy.deepcopy(owned)
    call()
    assert all(np.array_equal(owned[k], before[k]) for k in owned)
    after = opt.state_dict()
    assert state.keys() == after.keys()
    assert all(np.array_equal(state[k], after[k]) for k in state)


BAD_GRADIENTS: dict[str, tuple[Any, type[Exception]]] = {
    "shape": (np.ones(5), ValueError),
    "rank": (np.ones((4, 1)), ValueError),
    "broadcastable": (np.ones(1), ValueError),
    "integers": (np.ones(4, int), TypeError),
    "flags": (np.ones(4, bool), TypeError),
    "complex": (np.ones(4, complex), TypeError),
    "long double": (np.ones(4, np.longdouble), TypeError),
    "masked": (np.ma.ones(4), TypeError),
    "a list": ([1.0] * 4, TypeError),
    "a number": (1.0, TypeError),
    "None": (None, TypeError),
}


@pytest.mark.parametrize("bad", BAD_GRADIENTS)
@pytest.mark.parametrize("maker", MAKERS)
def test_bad_gradient(maker: str, bad: str) -> None:
    value, error = BAD_GRADIENTS[bad]
    owned = params()
    opt = MAKERS[maker](owned)
    opt.step(good())
    for grads in ({**good(), "b": value}, Gradients(**{**good(), "b": value})):
        unchanged(opt, owned, lambda g=grads: refused("b", error, lambda: opt.step(g)))


def test_gradient_of_more_precision() -> None:
    """float64 for a float32 parameter would lose digits."""
    opt = SGD(params())
    refused("w", TypeError, lambda: opt.step({**good(), "w": np.ones((3, 4))}))


@pytest.mark.parametrize("maker", MAKERS)
def test_names_of_gradients(maker: str) -> None:
    owned = params()
    opt = MAKERS[maker](owned)
    grads = good()
    del grads["w"], grads["c"]
    grads["typo"] = np.ones(3)
    for name in ("grads", "w", "c", "typo", "missing", "unexpected"):
        unchanged(opt, owned, lambda n=name: refused(n, ValueError, lambda: opt.step(grads)))
    extra = {**good(), "extra": np.ones(1)}
    unchanged(opt, owned, lambda: refused("extra", ValueError, lambda: opt.step(extra)))
    unchanged(opt, owned, lambda: refused("missing", ValueError, lambda: opt.step({})))


@pytest.mark.parametrize("maker", MAKERS)
def test_gradient_in_the_memory_of_a_parameter(maker: str) -> None:
    memory = np.ones(10, np.float32)
    owned = {"x": memory[:4], "y": np.ones(4, np.float32)}
    opt = MAKERS[maker](owned)
    for x, y in (
        (memory[:4], np.ones(4, np.float32)),
        (memory[2:6], np.ones(4, np.float32)),
        (np.ones(4, np.float32), memory[3:7]),
        (owned["y"], np.ones(4, np.float32)),
    ):
        grads = {"x": x, "y": y}
        unchanged(opt, owned, lambda g=grads: refused("share", ValueError, lambda: opt.step(g)))
    opt.step({"x": memory[4:8], "y": memory[6:]})  # beside it, and overlapping one another


@pytest.mark.parametrize("maker", MAKERS)
def test_parameter_turned_read_only(maker: str) -> None:
    owned = params()
    opt = MAKERS[maker](owned)
    owned["c"].flags.writeable = False
    unchanged(opt, owned, lambda: refused("c", ValueError, lambda: opt.step(good())))
    owned["c"].flags.writeable = True
    opt.step(good())


def test_model_that_has_changed() -> None:
    class Model:
        arrays = params()

        def parameters(self) -> dict[str, np.ndarray]:
            return self.arrays

    model = Model()
    opt = Adam(model)
    opt.step(good())
    model.arrays = {**params(), "b": np.ones(5)}
    refused("b", ValueError, lambda: opt.step(good()))
    model.arrays = {**params(), "b": np.ones(4, np.float32)}
    refused("b", ValueError, lambda: opt.step(good()))
    model.arrays = {**params(), "new": np.ones(4)}
    refused("new", ValueError, lambda: opt.step(good()))
    model.arrays = params()
    opt.step(good())
    assert opt.steps == 2


# ---- state ----


@pytest.mark.parametrize("maker", MAKERS)
def test_bad_state(maker: str) -> None:
    owned = params()
    opt = MAKERS[maker](owned)
    opt.step(good())
    state = opt.state_dict()
    wrong: list[tuple[str, Any, type[Exception]]] = [
        ("step", -1, ValueError),
        ("step", 2**63, ValueError),
        ("step", 1.0, TypeError),
        ("step", np.array([1]), TypeError),
        ("step", None, TypeError),
        ("lr", NAN, ValueError),
        ("lr", np.array(-1.0), ValueError),
        ("weight_decay", "0", TypeError),
    ]
    wrong += [(k, 1, TypeError) for k, v in state.items() if isinstance(v, bool)]
    wrong += [(k, not v, ValueError) for k, v in state.items() if isinstance(v, bool)]
    for name in (k for k in state if k.endswith(".w")):
        wrong += [
            (name, np.ones((3, 4)), TypeError),
            (name, np.ones((3, 4), np.float16), TypeError),
            (name, np.ones((4, 3), np.float32), ValueError),
            (name, np.ma.ones((3, 4), np.float32), TypeError),
            (name, None, TypeError),
        ]
    for name, value, error in wrong:
        given = {**state, name: value}
        unchanged(
            opt,
            owned,
            lambda n=name, e=error, g=given: refused(n, e, lambda: opt.load_state_dict(g)),
        )
    for name in state:
        less = {k: v for k, v in state.items() if k != name}
        unchanged(
            opt,
            owned,
            lambda n=name, g=less: refused(n, ValueError, lambda: opt.load_state_dict(g)),
        )
    unchanged(
        opt,
        owned,
        lambda: refused("x", ValueError, lambda: opt.load_state_dict({**state, "x": 1})),
    )


def test_state_of_another_optimiser() -> None:
    for one, make in MAKERS.items():
        for two, other in MAKERS.items():
            state = other(params()).state_dict()
            if one == two:
                make(params()).load_state_dict(state)
            else:
                with pytest.raises(ValueError, match=r"missing|unexpected|must be"):
                    make(params()).load_state_dict(state)


def test_momentum_of_a_state() -> None:
    """Whether there is a buffer is the optimiser's own affair."""
    opt = SGD(params(), momentum=0.5)
    refused(
        "momentum", ValueError, lambda: opt.load_state_dict({**opt.state_dict(), "momentum": 0})
    )
    plain = SGD(params())
    given = {**plain.state_dict(), "momentum": 0.5}
    refused("momentum", ValueError, lambda: plain.load_state_dict(given))
    opt.load_state_dict({**opt.state_dict(), "momentum": 0.75})
    assert made("SGD", params(), {"momentum": 0.75}).state_dict().keys() == opt.state_dict().keys()
    assert "momentum=0.75" in repr(opt)


def test_the_base_class_is_no_optimiser() -> None:
    with pytest.raises(TypeError, match="base class: make an SGD, Adam or AdamW"):
        Optimizer(params(), {})
