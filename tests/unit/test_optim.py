# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.optim: the same bits as its equations in NumPy, and the same course as torch.optim."""

from __future__ import annotations

import ast
import copy
import inspect
import itertools
import pickle
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm.optim as optim
from fastlstm.optim import SGD, Adam, AdamW, clip_grad_norm, clip_grad_value
from support import processes
from support.memory import MALLINFO, needs_mallinfo, traced
from support.optim_reference import (
    OPTIONS,
    SHAPES,
    STEPS,
    Gradients,
    Reference,
    arrays,
    bound,
    doubled,
    made,
    run,
    torch_run,
)


def gradients(dtype: str) -> Iterator[dict[str, np.ndarray]]:
    """Entries of 0.5 to 1 in size and of either sign, so that float32 has a useful bound."""
    for step in range(STEPS):
        signs = arrays(dtype, 1000 + step)
        sizes = arrays(dtype, 1 + step, 0.5)
        yield {k: np.asarray(np.copysign(v, signs[k])) for k, v in sizes.items()}


# ---- values ----


@pytest.mark.parametrize("what", OPTIONS)
def test_bits_of_the_equations(what: str, dtype: str) -> None:
    """Each operation once, in the array's dtype, in the order of the equations, nothing fused."""
    kind, options = OPTIONS[what]
    ours, theirs = arrays(dtype, 0), arrays(dtype, 0)
    opt, reference = made(kind, ours, options), Reference(kind, theirs, options)
    for grads in gradients(dtype):
        opt.step(grads)
        reference.step(grads)
        for name in SHAPES:
            assert np.array_equal(ours[name], theirs[name]), (name, opt.steps)
    assert opt.steps == STEPS


@pytest.mark.parametrize("what", OPTIONS)
def test_torch_float64(what: str) -> None:
    kind, options = OPTIONS[what]
    ours = run(kind, options, arrays("float64", 0), gradients("float64"))
    theirs = torch_run(kind, options, arrays("float64", 0), gradients("float64"))
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("what", OPTIONS)
def test_torch_float32(what: str) -> None:
    """Ours against torch in float64 on the same numbers: `bound` derives the difference."""
    kind, options = OPTIONS[what]
    ours = run(kind, options, arrays("float32", 0), gradients("float32"))
    exact = torch_run(
        kind, options, doubled(arrays("float32", 0)), map(doubled, gradients("float32"))
    )
    single = torch_run(kind, options, arrays("float32", 0), gradients("float32"))
    for name in SHAPES:
        np.testing.assert_allclose(ours[name], exact[name], rtol=0, atol=bound(kind, options))
        np.testing.assert_allclose(ours[name], single[name], rtol=0, atol=2 * bound(kind, options))


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_arguments_of_torch(kind: str) -> None:
    """Names, order and defaults."""
    torch = pytest.importorskip("torch")
    ours = inspect.signature(getattr(optim, kind)).parameters
    theirs = inspect.signature(getattr(torch.optim, kind)).parameters
    assert list(ours) == list(theirs)[: len(ours)]
    for name, parameter in ours.items():
        assert parameter.default == theirs[name].default
        assert parameter.kind == theirs[name].kind


@pytest.mark.parametrize("what", ["sgd nesterov", "adam amsgrad", "adamw"])
def test_bits_do_not_depend_on_place(what: str, dtype: str) -> None:
    """An element's bits are the same in an array of any length, anywhere in memory."""
    kind, options = OPTIONS[what]
    whole = run(kind, options, arrays(dtype, 0), gradients(dtype))["long"]
    grads = list(gradients(dtype))
    for length in range(0, 70, 3):
        for offset in (0, 1, 7):
            memory = np.zeros(length + offset, dtype)
            part = {"w": memory[offset:]}
            part["w"][...] = arrays(dtype, 0)["long"][:length]
            steps = ({"w": g["long"][:length]} for g in grads)
            run(kind, options, part, steps)
            assert np.array_equal(part["w"], whole[:length])
            assert not memory[:offset].any()


def test_dtypes_side_by_side() -> None:
    """Each array in its own dtype; wider gradients are refused, narrower ones widened."""
    one = {"a": np.ones(5, np.float32), "b": np.ones(5)}
    two = copy.deepcopy(one)
    g = np.linspace(-1, 1, 5, dtype=np.float16)
    Adam(one).step({"a": g, "b": g})
    Adam(two).step({"a": g.astype(np.float32), "b": g.astype(np.float64)})
    assert one["a"].dtype == np.float32
    assert all(np.array_equal(one[k], two[k]) and (one[k] != 1).any() for k in one)
    assert not np.array_equal(one["a"].astype(float), one["b"])


def test_nan_and_infinity_travel() -> None:
    for kind, options in OPTIONS.values():
        params = {"w": np.zeros(40, np.float32)}
        grads = np.zeros(40, np.float32)
        grads[3], grads[39] = np.nan, np.inf
        opt = made(kind, params, options)
        opt.step({"w": grads})
        opt.step({"w": np.zeros(40, np.float32)})
        assert not np.isfinite(params["w"][[3, 39]]).any()
        assert np.isfinite(np.delete(params["w"], [3, 39])).all()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only there they are flushed")
def test_denormals_are_flushed(dtype: str) -> None:
    """Moments of a parameter without gradients fade to zero, and the caller's mode comes back."""
    params = {"w": np.ones(33, dtype)}
    opt = SGD(params, momentum=0.5)
    opt.step({"w": np.ones(33, dtype)})
    for _ in range(1100):
        opt.step({"w": np.zeros(33, dtype)})
    assert not opt.state_dict()["momentum_buffer.w"].any()
    tiny = np.finfo(dtype).smallest_subnormal
    assert (np.full(3, tiny, dtype) * np.ones(3, dtype)).all()


# ---- the object ----


class Model:
    """Anything with parameters()."""

    def __init__(self) -> None:
        self.arrays = {"a": np.ones(3), "b": np.ones((2, 2))}

    def parameters(self) -> dict[str, np.ndarray]:
        return dict(self.arrays)


def test_model_and_gradients_as_objects() -> None:
    model = Model()
    opt = SGD(model, lr=0.5)
    opt.step(Gradients(b=np.ones((2, 2)), a=np.arange(3.0)))
    assert model.arrays["a"].tolist() == [1.0, 0.5, 0.0]
    # A model may put new arrays in the place of the old ones, in another order.
    old = model.arrays
    model.arrays = {"b": np.full((2, 2), 7.0), "a": np.full(3, 5.0)}
    opt.step(Gradients(a=np.zeros(3), b=np.ones((2, 2))))
    assert (model.arrays["a"] == 5).all()
    assert (model.arrays["b"] == 6.5).all()
    assert (old["b"] == 0.5).all()


def test_mapping_is_read_once() -> None:
    """The arrays count, not the mapping that they came in."""
    params = {"a": np.ones(3)}
    opt, kept = SGD(params, lr=1), params["a"]
    params["a"] = np.zeros(3)
    opt.step({"a": np.ones(3)})
    assert not kept.any()
    assert not params["a"].any()


def test_gradients_may_have_any_layout() -> None:
    params = {"w": np.zeros((3, 4))}
    g = np.arange(12.0).reshape(4, 3).T
    SGD(params, lr=1).step({"w": g})
    assert np.array_equal(params["w"], -g)
    read_only = np.broadcast_to(np.float64(1), (3, 4))
    SGD(params, lr=1).step({"w": read_only})
    assert np.array_equal(params["w"], -g - 1)
    # One gradient may serve several parameters, as those of the two biases do.
    both = {"w": np.zeros(4), "v": np.zeros(4)}
    shared = np.arange(4.0)
    SGD(both, lr=1).step({"w": shared, "v": shared})
    assert np.array_equal(both["w"], -shared)
    assert np.array_equal(both["v"], -shared)


def test_gradients_stay_as_they_are() -> None:
    for kind, options in OPTIONS.values():
        params, grads = arrays("float32", 0), arrays("float32", 1)
        before = copy.deepcopy(grads)
        made(kind, params, options).step(grads)
        assert all(np.array_equal(grads[k], before[k]) for k in grads)


def test_nothing_to_do() -> None:
    for kind, options in OPTIONS.values():
        opt = made(kind, {}, options)
        opt.step({})
        opt.load_state_dict(opt.state_dict())
        assert opt.steps == 1


def test_lr_is_the_one_thing_to_set() -> None:
    for kind in (SGD, Adam, AdamW):
        opt = kind({"w": np.ones(2)})
        opt.lr = np.float32(0.25)
        assert opt.lr == 0.25
        assert type(opt.lr) is float
        for name in ("weight_decay", "steps", "learning_rate"):
            with pytest.raises(AttributeError, match=name):
                setattr(opt, name, 0.5)
        assert "lr=0.25" in repr(opt)
        assert repr(opt).startswith(f"{kind.__name__}(1 arrays, ")


def test_documented() -> None:
    for name in optim.__all__:
        part = getattr(optim, name)
        assert part.__doc__, name
        for member, value in vars(part).items() if isinstance(part, type) else ():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                assert value.__doc__, f"{name}.{member}"


def test_stub_lists_the_compiled_module() -> None:
    tree = ast.parse(Path(optim.__file__).with_name("_optim.pyi").read_text())
    listed = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    module = optim._optim
    own = {
        n for n, part in vars(module).items() if getattr(part, "__module__", "") == module.__name__
    }
    classes = {n.name for n in tree.body if isinstance(n, ast.ClassDef)}
    assert {n for n in own if not n.startswith("_")} - {"Memory"} == listed.keys() | classes
    for name, function in listed.items():
        arguments = [argument.arg for argument in function.args.args]
        assert list(inspect.signature(getattr(module, name)).parameters) == arguments, name


# ---- state ----


def through_npz(opt: optim.Optimizer, folder: Path) -> Any:
    np.savez(folder / "opt.npz", **opt.state_dict())
    return np.load(folder / "opt.npz")


def through_safetensors(opt: optim.Optimizer, folder: Path) -> Any:
    files = pytest.importorskip("safetensors.numpy")
    state = {name: np.asarray(value) for name, value in opt.state_dict().items()}
    files.save_file(state, folder / "opt.safetensors")
    return files.load_file(folder / "opt.safetensors")


WAYS: dict[str, Callable[[optim.Optimizer, Path], Any]] = {
    "dict": lambda opt, _: opt.state_dict(),
    "npz": through_npz,
    "safetensors": through_safetensors,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", OPTIONS)
def test_state_goes_on(what: str, way: str, dtype: str, tmp_path: Path) -> None:
    """Saved after 7 steps, loaded into an optimiser with another past: the same 8 steps follow."""
    kind, options = OPTIONS[what]
    grads = list(itertools.islice(gradients(dtype), 15))
    params = arrays(dtype, 0)
    opt = made(kind, params, options)
    opt.lr *= 0.9
    for g in grads[:7]:
        opt.step(g)
    saved, then = WAYS[way](opt, tmp_path), copy.deepcopy(params)
    for g in grads[7:]:
        opt.step(g)

    # Numbers come from the state; flags and the presence of momentum must be the same.
    structure = {k: v for k, v in options.items() if k in ("momentum", "nesterov", "amsgrad")}
    resumed = arrays(dtype, 5)
    other = made(kind, resumed, {**structure, "lr": 0.5})
    for g in grads[3:6]:
        other.step(g)
    for name, value in resumed.items():
        value[...] = then[name]
    other.load_state_dict(saved)
    assert other.steps == 7
    assert other.lr == 0.9 * options.get("lr", 1e-3)
    for g in grads[7:]:
        other.step(g)
    assert all(np.array_equal(resumed[k], params[k]) for k in params)
    one, two = opt.state_dict(), other.state_dict()
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[k], two[k]) for k in one)


def test_state_is_a_copy() -> None:
    opt = Adam({"w": np.ones(3)})
    state = opt.state_dict()
    opt.step({"w": np.ones(3)})
    assert state["step"] == 0
    assert not state["exp_avg.w"].any()
    fresh = Adam({"w": np.ones(3)})
    given = opt.state_dict()
    fresh.load_state_dict(given)
    given["exp_avg.w"][...] = 99
    assert (fresh.state_dict()["exp_avg.w"] != 99).all()


def test_copies() -> None:
    """Model and optimiser copied or pickled together stay together."""
    model = Model()
    opt = Adam(model, lr=0.1)
    g = Gradients(a=np.arange(3.0), b=np.ones((2, 2)))
    opt.step(g)
    for other, twin in (copy.deepcopy((model, opt)), pickle.loads(pickle.dumps((model, opt)))):
        start = model.arrays["a"].copy()
        assert np.array_equal(other.arrays["a"], start)
        twin.step(g)
        assert np.array_equal(model.arrays["a"], start)
        assert not np.array_equal(other.arrays["a"], start)
        assert twin.steps == 2
        assert opt.steps == 1


# ---- memory ----


def test_updates_allocate_nothing() -> None:
    """A step's peak stays far below the size of one array: nothing is copied, no temporaries."""
    for kind, options in OPTIONS.values():
        params = {"w": np.zeros(1 << 18, np.float32)}
        grads = {"w": np.ones(1 << 18, np.float32)}
        opt = made(kind, params, options)
        opt.step(grads)
        for update in (
            partial(opt.step, grads),
            partial(clip_grad_norm, grads, 1.0),
            partial(clip_grad_value, grads, 1e-4),
        ):
            _, peak = traced(update, warm=0, count=1)
            assert peak < 1 << 14, (kind, update, peak)


@needs_mallinfo
def test_no_growth() -> None:
    """After 500 rounds as warm-up, 5,000 more leave less than 10 bytes each in malloc's hands."""
    out = processes.check(
        MALLINFO
        + """
import numpy as np, fastlstm.optim as optim
params = {f"w{i}": np.zeros(50 * i, np.float32) for i in range(6)}
grads = {name: np.ones_like(v) for name, v in params.items()}
opts = [optim.SGD(params, momentum=0.5), optim.AdamW(params, amsgrad=True), optim.SGD(params)]
def call(i):
    opt = opts[i % 3]
    opt.step(grads)
    optim.clip_grad_norm(grads, 1.0)
    optim.clip_grad_value(grads, 1.0)
    opt.load_state_dict(opt.state_dict())
    for wrong in ({}, {**grads, "w2": params["w2"]}, {**grads, "w1": None}):
        try:
            opt.step(wrong)
        except (TypeError, ValueError):
            continue
        raise AssertionError("not refused")
for i in range(500): call(i)
before = in_use()
for i in range(5000): call(i)
print(in_use() - before)
""",
        env={"OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert int(out) < 10 * 5000, out
