# SPDX-License-Identifier: BSD-3-Clause
"""What the fuzzers found: the code of callers' objects runs in places where nobody thinks of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastlstm
from fuzz.hostile import Asked, Classy, Hook, Name, Source
from support import processes

pytestmark = pytest.mark.sanitize

Array = np.ndarray[Any, Any]
optim = fastlstm.optim


class Sub(np.ndarray):  # type: ignore[type-arg]
    pass


def own(value: Array, kind: type = Sub) -> Array:
    """A copy as a subclass with memory of its own, which can be resized."""
    made = np.ndarray.__new__(kind, value.shape, value.dtype)
    made[...] = value
    return made


def hook(act: Callable[[], object]) -> Hook:
    made = Hook(lambda: (act(), None)[1], 0)
    made.active = True
    return made


def shrink(array: Array) -> Callable[[], None]:
    return lambda: np.ndarray.resize(array, (1,), refcheck=False)


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


@pytest.fixture
def lstm() -> fastlstm.LSTM:
    return fastlstm.LSTM(64, 64, seed=0)


def test_a_subclass_that_array_returned_is_resized(lstm: fastlstm.LSTM) -> None:
    """No view of its memory was kept while later arguments were asked."""
    x = own(ones(4, 160, 64))
    lengths = Asked(np.full(160, 4), hook(shrink(x)))
    with pytest.raises(ValueError, match="x must have shape"):
        lstm(Asked(x, hook(lambda: None)), lengths=lengths)  # type: ignore[arg-type]


def test_an_output_that_only_calls_itself_an_array(lstm: fastlstm.LSTM) -> None:
    """It is refused, and its code does not run after x has been read."""
    x = ones(4, 160, 64)
    out = Classy(ones(4, 160, 64), hook(shrink(x)))
    with pytest.raises(TypeError, match="out must be a NumPy array"):
        lstm(x, out=out)  # type: ignore[arg-type]
    y, _, tape = lstm.forward(ones(4, 160, 64))
    into = {name: own(np.zeros_like(value)) for name, value in lstm.parameters().items()}
    last = list(into)[-1]
    given = {**into, last: Classy(into[last], hook(shrink(into["weight_ih_l0"])))}
    with pytest.raises(TypeError, match=last):
        lstm.backward(tape, y, into=given)  # type: ignore[arg-type]


def test_lengths_are_copied_whatever_they_say(lstm: fastlstm.LSTM) -> None:
    """NumPy believes an __array__ with a parameter `copy` that it has copied."""
    lengths = np.array([4, 4])
    values = fastlstm.checks.given_lengths(Asked(lengths, hook(lambda: None)))  # type: ignore[arg-type]
    assert not np.shares_memory(values, lengths)


def test_a_loaded_state_is_the_optimisers_own() -> None:
    opt = optim.Adam({"a": ones(3)})
    state = opt.state_dict()
    given = ones(3)
    opt.load_state_dict({**state, "exp_avg.a": Asked(given, hook(lambda: None))})
    given.flags.writeable = False
    opt.step({"a": ones(3)})
    assert np.array_equal(given, ones(3))


@pytest.mark.parametrize("use", ["step", "clip"])
def test_names_run_code_where_they_are_hashed(use: str) -> None:
    """They are not hashed any more where views of arrays are held."""
    first, name = own(ones(400_000)), Name("b")
    name.hook = hook(lambda: None)
    arrays = {"a": first, name: ones(3)}
    name.hook = Hook(shrink(first), 1)
    name.hook.active = True
    if use == "clip":
        optim.clip_grad_value(arrays, 0.5)
    else:
        optim.SGD(arrays, lr=0.5).step({"a": ones(400_000), "b": ones(3)})
    assert not name.hook.fired
    assert (np.asarray(first) == 0.5).all()


def test_a_source_runs_code_where_it_is_asked_for_a_guard() -> None:
    """That is before its arrays are taken, and while the optimiser may still be used."""
    array = own(ones(400_000))
    asked = Hook(lambda: None, 0)
    opt = optim.SGD(Source({"a": array}, asked))
    grads = {"a": ones(400_000)}
    opt.step(grads)
    asked.act = lambda: (opt.state_dict(), shrink(array)(), None)[2]
    asked.left = 1  # `parameters` comes first, or `_params` does
    asked.active = True
    with pytest.raises(ValueError, match=r"params\['a'\] was float32 \(400000,\)"):
        opt.step(grads)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_state_of_a_stream_whose_arrays_were_retyped() -> None:
    """Copies of the state were as large as its arrays said, and not as the state is."""
    processes.check(
        """
        import numpy as np, fastlstm
        stream = fastlstm.LSTM(4, 64, seed=0).stream(1600)
        stream(np.ones((1600, 4), np.float32))
        wanted = [part.copy() for part in stream.state]
        stream.h.dtype = stream.c.dtype = np.complex128
        found = stream.state
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted))
        stream.state = found
        """
    )


def test_a_handler_may_not_wait_for_what_it_interrupts() -> None:
    """A signal in the midst of a step whose handler calls the model: it waited for ever."""
    processes.check(
        """
        import sys
        import numpy as np, fastlstm
        lstm = fastlstm.LSTM(3, 4, seed=0).train()
        opt = fastlstm.optim.SGD(lstm)
        grads = lstm.state_dict()
        x = np.ones((2, 1, 3), np.float32)
        refused = 0
        def trace(frame, event, _):
            global refused
            frame.f_trace_opcodes = True
            if event == "opcode" and frame.f_code.co_filename == optim_file:
                sys.settrace(None)
                try:
                    lstm(x)
                except RuntimeError as error:
                    assert "interrupted" in str(error), error
                    refused += 1
                sys.settrace(trace)
            return trace
        optim_file = fastlstm.optim.__file__
        sys.settrace(trace)
        opt.step(grads)
        sys.settrace(None)
        assert refused
        lstm(x)
        opt.step(grads)
        """,
        timeout=60,
    )


@pytest.mark.parametrize("given", ["float16", "float32"])
def test_a_chunk_that_is_converted_and_then_copied(given: str) -> None:
    """What was copied was the argument as it came, read as if it had been converted."""
    model = fastlstm.LSTM(3, 4, dtype="float32" if given == "float16" else "float64", seed=0)
    x = np.random.default_rng(0).standard_normal((3, 5, 3)).astype(given)
    wanted = model.stream(5)(x)
    assert np.array_equal(model.stream(5)(np.asfortranarray(x)), wanted)
    asked = Asked(np.asfortranarray(x), hook(lambda: None))
    assert np.array_equal(model.stream(5)(asked), wanted)  # type: ignore[arg-type]
