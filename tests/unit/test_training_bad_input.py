# SPDX-License-Identifier: BSD-3-Clause
"""Every argument of `forward` and `backward`, given what it must refuse.

A refusal is a TypeError or ValueError whose message names the argument. Nothing is computed then:
the tape, the arrays of `into` and the model are as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fastlstm
from support import processes
from support.refusals import BAD_COUNTS, misaligned, random, refused

pytestmark = pytest.mark.sanitize

T, B, F, H, L = 5, 3, 4, 6, 2
X, H_0, C_0 = random(T, B, F), random(L, B, H, seed=1), random(L, B, H, seed=2)
DY, DH, DC = random(T, B, H, seed=3), random(L, B, H, seed=4), random(L, B, H, seed=5)
LENGTHS = np.array([5, 0, 3])
LSTM = fastlstm.LSTM(F, H, L, dropout=0.5, seed=0).train()
TAPE = LSTM.forward(X, (H_0, C_0), lengths=LENGTHS, seed=1)[2]


def arrays(**others: Any) -> dict[str, Any]:
    """Arrays to accumulate into."""
    return {name: np.ones_like(p) for name, p in LSTM.parameters().items()} | others


INTO = arrays()


def gradients() -> list[np.ndarray]:
    grads = LSTM.backward(TAPE, DY, (DH, DC), dcells=DY)
    return [grads.x, grads.h_0, grads.c_0, *grads.params.values()]


EXPECTED = gradients()


@pytest.fixture(autouse=True)
def unharmed() -> Iterator[None]:
    """Whatever a test tried, the tape and the arrays are what they were."""
    yield
    for ours, theirs in zip(gradients(), EXPECTED, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert all((a == 1).all() for a in INTO.values())


FORWARD: dict[str, Callable[[Any], object]] = {
    "x": lambda v: LSTM.forward(v, tape=TAPE),
    "h_0": lambda v: LSTM.forward(X, (v, C_0), tape=TAPE),
    "c_0": lambda v: LSTM.forward(X, (H_0, v), tape=TAPE),
}
BACKWARD: dict[str, Callable[[Any], object]] = {
    "dy": lambda v: LSTM.backward(TAPE, v, into=INTO),
    "dh_n": lambda v: LSTM.backward(TAPE, None, (v, DC), into=INTO),
    "dc_n": lambda v: LSTM.backward(TAPE, DY, (None, v), into=INTO),
    "dcells": lambda v: LSTM.backward(TAPE, dcells=v, into=INTO),
}
GOOD = {"x": X, "h_0": H_0, "c_0": C_0, "dy": DY, "dh_n": DH, "dc_n": DC, "dcells": DY}
BAD_ARRAYS: dict[str, tuple[Callable[[np.ndarray], Any], type[Exception]]] = {
    "a list": (lambda a: a.tolist(), TypeError),
    "a number": (lambda a: 1.0, TypeError),
    "a string": (lambda a: "dy", TypeError),
    "an object": (lambda a: object(), TypeError),
    "a class": (lambda a: np.ndarray, TypeError),
    "float64": (lambda a: a.astype(np.float64), TypeError),
    "integers": (lambda a: a.astype(np.int32), TypeError),
    "booleans": (lambda a: a > 0, TypeError),
    "complex": (lambda a: a.astype(np.complex64), TypeError),
    "objects": (lambda a: a.astype(object), TypeError),
    "structured": (lambda a: a.view([("a", np.float32)]), TypeError),
    "masked": (lambda a: np.ma.masked_array(a, a > 0), TypeError),
    "no axes": (lambda a: np.array(1, a.dtype), ValueError),
    "one axis": (lambda a: a.ravel(), ValueError),
    "two axes too many": (lambda a: a[None, None], ValueError),
    "one feature too few": (lambda a: a[..., 1:], ValueError),
    "no features": (lambda a: a[..., :0], ValueError),
}
OF_A_KNOWN_SHAPE: dict[str, tuple[Callable[[np.ndarray], Any], type[Exception]]] = {
    "one step or layer too few": (lambda a: a[1:], ValueError),
    "one sequence too few": (lambda a: a[:, 1:], ValueError),
    "one sequence": (lambda a: a[:, :1], ValueError),
    "unbatched": (lambda a: a[:, 0], ValueError),
    "batch first": (lambda a: a.swapaxes(0, 1), ValueError),
    "steps of one": (lambda a: a[:1], ValueError),
}


@pytest.mark.parametrize("kind", BAD_ARRAYS)
@pytest.mark.parametrize("name", [*FORWARD, *BACKWARD])
def test_bad_array(name: str, kind: str) -> None:
    make, error = BAD_ARRAYS[kind]
    refused(name, error, lambda: (FORWARD | BACKWARD)[name](make(GOOD[name])))


@pytest.mark.parametrize("kind", OF_A_KNOWN_SHAPE)
@pytest.mark.parametrize("name", ["h_0", "c_0", *BACKWARD])
def test_bad_shape(name: str, kind: str) -> None:
    make, error = OF_A_KNOWN_SHAPE[kind]
    refused(name, error, lambda: (FORWARD | BACKWARD)[name](make(GOOD[name])))


@pytest.mark.parametrize("value", [1, "ab", DH, {1: DH}, (DH,), (DH, DC, DC), iter([DH, DC])])
def test_bad_dstate(value: Any) -> None:
    refused("dstate", TypeError, lambda: LSTM.backward(TAPE, DY, value, into=INTO))


@pytest.mark.parametrize("value", [1, "ab", H_0, (H_0,), (H_0, C_0, C_0)])
def test_bad_state(value: Any) -> None:
    refused("state", TypeError, lambda: LSTM.forward(X, value, tape=TAPE))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([5, 0], ValueError),
        ([5, 0, 6], ValueError),
        ([5, 0, -1], ValueError),
        ([[5, 0, 3]], ValueError),
        (5, ValueError),
        ([5.0, 0.0, 3.0], TypeError),
        ([True, False, True], TypeError),
        ("503", TypeError),
        (np.ma.masked_array([5, 0, 3], [0, 0, 1]), TypeError),
    ],
    ids=str,
)
def test_bad_lengths(value: Any, error: type[Exception]) -> None:
    refused("lengths", error, lambda: LSTM.forward(X, lengths=value, tape=TAPE))


def test_lengths_of_one_sequence() -> None:
    refused("lengths", ValueError, lambda: LSTM.forward(X[:, 0], lengths=[3], tape=TAPE))


# ---- plain values ----


@pytest.mark.parametrize(
    "bad", [bad for bad in BAD_COUNTS if bad not in ("None", "2**31", "2**63")]
)
@pytest.mark.parametrize("what", ["seed", "num_threads", "num_threads of backward"])
def test_bad_count(what: str, bad: str) -> None:
    value, error = BAD_COUNTS[bad]
    if what == "seed" and bad == "uint64":
        pytest.skip("the largest seed there is")
    calls: dict[str, Callable[[], object]] = {
        "seed": lambda: LSTM.forward(X, seed=value, tape=TAPE),
        "num_threads": lambda: LSTM.forward(X, num_threads=value, tape=TAPE),
        "num_threads of backward": lambda: LSTM.backward(TAPE, DY, into=INTO, num_threads=value),
    }
    refused(what.split()[0], error, calls[what])


@pytest.mark.parametrize("value", [0, 1025])
def test_bad_number_of_threads(value: int) -> None:
    refused("num_threads", ValueError, lambda: LSTM.forward(X, num_threads=value, tape=TAPE))
    call = lambda: LSTM.backward(TAPE, DY, into=INTO, num_threads=value)  # noqa: E731
    refused("num_threads", ValueError, call)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_bad_seed(value: int) -> None:
    """Refused in inference mode and in models without dropout as well."""
    for lstm in (LSTM, fastlstm.LSTM(F, H, L, seed=0), fastlstm.LSTM(F, H, seed=0)):
        refused("seed", ValueError, lambda lstm=lstm: lstm.forward(X, seed=value))


@pytest.mark.parametrize("value", [0, 1, None, 1.0, "True", [True], np.array([True])], ids=repr)
def test_bad_flag(value: Any) -> None:
    refused("return_cells", TypeError, lambda: LSTM.forward(X, return_cells=value, tape=TAPE))
    refused("input_grad", TypeError, lambda: LSTM.backward(TAPE, DY, into=INTO, input_grad=value))


# ---- tapes ----


@pytest.mark.parametrize("value", [True, 1, "tape", {}, X, fastlstm.Tape, LSTM, object()], ids=type)
def test_bad_tape(value: Any) -> None:
    refused("tape", TypeError, lambda: LSTM.forward(X, tape=value))
    refused("tape", TypeError, lambda: LSTM.backward(value, DY, into=INTO))


def test_no_tape() -> None:
    refused("tape", TypeError, lambda: LSTM.backward(None, DY, into=INTO))


OTHERS: dict[str, Callable[[], fastlstm.LSTM]] = {
    "input_size": lambda: fastlstm.LSTM(F + 1, H, L),
    "hidden_size": lambda: fastlstm.LSTM(F, H + 1, L),
    "num_layers": lambda: fastlstm.LSTM(F, H, L + 1),
    "bias": lambda: fastlstm.LSTM(F, H, L, bias=False),
    "directions": lambda: fastlstm.LSTM(F, H, L, bidirectional=True),
    "dtype": lambda: fastlstm.LSTM(F, H, L, dtype=np.float64),
    "layout": lambda: fastlstm.LSTM(F, H, L, batch_first=True),
}


@pytest.mark.parametrize("differs", OTHERS)
def test_tape_of_another_model(differs: str) -> None:
    other = OTHERS[differs]()
    refused("tape", ValueError, lambda: other.backward(TAPE))
    tape = other.forward(np.zeros((T, B, other.input_size), other.dtype))[2]
    refused("tape", ValueError, lambda: LSTM.backward(tape, DY, into=INTO))


def test_tape_never_used() -> None:
    refused("tape", ValueError, lambda: LSTM.backward(fastlstm.Tape(), into=INTO))


def test_tape_of_a_pass_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the old pass nor half of the new one is gone back through."""
    tape = LSTM.forward(X)[2]

    def no_memory(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("fastlstm.training._core.Block", no_memory)
        with pytest.raises(MemoryError):
            LSTM.forward(random(40, 20, F), tape=tape)
    refused("tape", ValueError, lambda: LSTM.backward(tape, into=INTO))
    assert tape.nbytes >= 0
    y, _, again = LSTM.forward(X, tape=tape, seed=3)
    fresh = LSTM.forward(X, seed=3)[2]
    ours, theirs = (LSTM.backward(t, np.ones_like(y)).params for t in (again, fresh))
    for name, a in ours.items():
        np.testing.assert_array_equal(a, theirs[name])


# ---- into ----

NAMES = list(INTO)
BAD_INTO: dict[str, tuple[Callable[[np.ndarray], Any], type[Exception]]] = {
    "None": (lambda a: None, TypeError),
    "a number": (lambda a: 1.0, TypeError),
    "a list": (lambda a: a.tolist(), TypeError),
    "float64": (lambda a: a.astype(np.float64), TypeError),
    "float16": (lambda a: a.astype(np.float16), TypeError),
    "integers": (lambda a: a.astype(np.int32), TypeError),
    "other byte order": (lambda a: a.astype(">f4"), TypeError),
    "masked": (lambda a: np.ma.masked_array(a, a > 2), TypeError),
    "a row too few": (lambda a: a[1:].copy(), ValueError),
    "no rows": (lambda a: a[:0].copy(), ValueError),
    "an axis too many": (lambda a: a[None].copy(), ValueError),
    "one axis": (lambda a: a.reshape(-1, 1).copy(), ValueError),
    "every other": (lambda a: np.repeat(a, 2, axis=0)[::2], ValueError),
    "backwards": (lambda a: a[::-1], ValueError),
    "rows that overlap": (
        lambda a: np.lib.stride_tricks.as_strided(a.copy(), a.shape, (4,) * a.ndim),
        ValueError,
    ),
    "one number for all": (
        lambda a: np.lib.stride_tricks.as_strided(a.copy(), a.shape, (0,) * a.ndim),
        ValueError,
    ),
    "misaligned": (misaligned, ValueError),
}


@pytest.mark.parametrize("kind", BAD_INTO)
@pytest.mark.parametrize("name", [NAMES[0], NAMES[3], NAMES[-1]])
def test_bad_array_in_into(name: str, kind: str) -> None:
    make, error = BAD_INTO[kind]
    if kind == "rows that overlap" and INTO[name].ndim == 1:
        pytest.skip("one axis of single numbers overlaps nowhere")
    value = make(INTO[name].copy())
    refused(name, error, lambda: LSTM.backward(TAPE, DY, into={**INTO, name: value}))


@pytest.mark.parametrize("name", NAMES)
def test_read_only_array_in_into(name: str) -> None:
    value = INTO[name].copy()
    value.flags.writeable = False
    refused(name, ValueError, lambda: LSTM.backward(TAPE, DY, into={**INTO, name: value}))


def test_columns_first_in_into() -> None:
    for name in ("weight_ih_l0", "weight_hh_l1"):
        value = np.asfortranarray(INTO[name])
        refused(
            name, ValueError, lambda n=name, v=value: LSTM.backward(TAPE, DY, into=arrays(**{n: v}))
        )


@pytest.mark.parametrize("value", [1, "into", True, [], list(INTO.items()), X, object()], ids=type)
def test_bad_into(value: Any) -> None:
    refused("into", TypeError, lambda: LSTM.backward(TAPE, DY, into=value))


def test_names_of_into() -> None:
    missing = {name: a for name, a in INTO.items() if name != "bias_hh_l1"}
    refused("bias_hh_l1", ValueError, lambda: LSTM.backward(TAPE, DY, into=missing))
    refused("weight", ValueError, lambda: LSTM.backward(TAPE, DY, into={**INTO, "weight": X}))
    refused("into", ValueError, lambda: LSTM.backward(TAPE, DY, into={}))
    refused("into", ValueError, lambda: LSTM.backward(TAPE, DY, into={**INTO, 3: X}))


def test_arrays_of_into_that_overlap() -> None:
    same = np.ones(4 * H, np.float32)
    values = {"bias_ih_l0": same, "bias_hh_l0": same}
    refused("into", ValueError, lambda: LSTM.backward(TAPE, DY, into=arrays(**values)))
    both = np.ones(8 * H, np.float32)
    values = {"bias_ih_l0": both[: 4 * H], "bias_hh_l0": both[4 * H - 1 : -1]}
    refused("into", ValueError, lambda: LSTM.backward(TAPE, DY, into=arrays(**values)))
    assert (same == 1).all()
    assert (both == 1).all()
    # Side by side in one block they are fine: this is how gradients are sent to other machines.
    values = {"bias_ih_l0": both[: 4 * H], "bias_hh_l0": both[4 * H :]}
    LSTM.backward(TAPE, DY, into=arrays(**values))
    assert (both != 1).any()


def test_calls_with_wrong_arguments() -> None:
    for call in (
        lambda: LSTM.forward(),
        lambda: LSTM.forward(X, None, [T] * B),
        lambda: LSTM.forward(X, out=None),
        lambda: LSTM.backward(),
        lambda: LSTM.backward(TAPE, DY, (DH, DC), DY),
        lambda: LSTM.backward(TAPE, dx=DY),
        lambda: LSTM.train(True, True),
        lambda: LSTM.eval(True),
    ):
        with pytest.raises(TypeError, match="argument"):
            call()


# ---- what is copied, not refused ----


def test_gradients_of_any_strides() -> None:
    """Also of the other byte order, misaligned and float16."""
    wide = np.full((2 * T, 3 * B, H + 2), np.nan, np.float32)
    wide[::2, ::-3, 1:-1] = DY
    columns = np.full((T, B, 2 * H), np.nan, np.float32)
    columns[:, :, ::-2] = DY
    states = np.asfortranarray(DH), np.repeat(DC, 2, axis=1)[:, ::2]
    for dy in (wide[::2, ::-3, 1:-1], columns[:, :, ::-2], misaligned(DY), DY.astype(">f4")):
        grads = LSTM.backward(TAPE, dy, states, dcells=dy)
        ours = [grads.x, grads.h_0, grads.c_0, *grads.params.values()]
        for a, b in zip(ours, EXPECTED, strict=True):
            np.testing.assert_array_equal(a, b)
    half = DY.astype(np.float16)
    ours, theirs = (LSTM.backward(TAPE, dy).x for dy in (half, half.astype(np.float32)))
    np.testing.assert_array_equal(ours, theirs)


# ---- sizes that do not fit ----

HUGE = {
    "steps": "lstm.forward(view(2**40, 1, 1))",
    "rows": "lstm.forward(view(1, 2**40, 1))",
    "rows of no steps": "lstm.forward(view(0, 2**40, 1))",
    "steps with cells": "lstm.forward(view(2**40, 1, 1), return_cells=True)",
    "a tape only": "LSTM(1, 1, 50, seed=0).forward(view(free(0.3) // 4 // 50, 1, 1))",
    "a tape of many layers": "LSTM(1, 64, 50, seed=0).forward(view(2**20, 8, 1))",
    "a tape nearly all of memory": "LSTM(1, 64, seed=0).forward(view(free(0.5) // 1600, 1, 1))",
    "a copy of x": "LSTM(64, 1, seed=0).forward(view(1, free(0.5) // 256, 64))",
    "another tape": "lstm.forward(view(2**40, 1, 1), tape=lstm.forward(view(3, 2, 1))[2])",
}


@pytest.mark.parametrize("what", HUGE)
def test_memory_error(what: str) -> None:
    done = processes.run(
        f"""
import numpy as np, fastlstm
from fastlstm import LSTM
def view(*shape):
    return np.broadcast_to(np.zeros((1,) * len(shape), np.float32), shape)
def free(share):  # so many bytes: a share of the way from what is free to all there is
    sizes = dict(line.split()[:2] for line in open("/proc/meminfo"))
    available, total = (int(sizes[name]) * 1024 for name in ("MemAvailable:", "MemTotal:"))
    return int(available + share * (total - available))
lstm = LSTM(1, 1, seed=0).train()
try:
    {HUGE[what]}
except MemoryError as error:
    print("refused:", error)
y, _, tape = lstm.forward(np.ones((3, 2, 1), np.float32))
print("works" if np.isfinite(lstm.backward(tape, y).x).all() else "does not work")
""",
        rss_limit=(6 if processes.SANITIZED else 1) << 30,
        timeout=30,
    )
    assert done.code == 0, str(done)
    assert done.out.startswith("refused: "), str(done)
    assert done.out.endswith("works\n"), str(done)
