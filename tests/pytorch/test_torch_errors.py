# SPDX-License-Identifier: BSD-3-Clause
"""Wrong arguments of fastlstm.torch's modules: PyTorch's own errors, no crash where it has none.

Shapes are large where a missing check would read or write beyond a tensor's end: the process would
die, and other tests with it.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest

torch = pytest.importorskip("torch")
PackedSequence = torch.nn.utils.rnn.PackedSequence

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch import fallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:fastlstm.torch")  # that PyTorch does the work
MANY = 100_000
NO_MEMORY = r"has no memory|needs \d+ bytes|out of bounds for storage"  # the last is PyTorch's


def refused(function: Any) -> Any:
    """The error that a function raises."""
    with pytest.raises((TypeError, RuntimeError, ValueError, IndexError, AttributeError)) as error:
        function()
    return error.value


def twins(kind: str, *args: Any, **options: Any) -> tuple[Any, Any]:
    """A module of PyTorch's, and the same accelerated."""
    theirs = getattr(torch.nn, kind)(*args, **options)
    return fltorch.accelerate(copy.deepcopy(theirs)), theirs


# ---- PyTorch's own errors ----


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int32", "uint8", "bool"])
def test_batch_sizes_of_another_dtype_are_pytorchs_error(dtype: str) -> None:
    """They would be read as 64-bit integers."""
    ours, theirs = fltorch.LSTM(3, 8), torch.nn.LSTM(3, 8)
    sizes = torch.tensor([3, 2, 1]).to(getattr(torch, dtype))
    packed = torch.nn.utils.rnn.PackedSequence(torch.randn(6, 3), sizes)
    caught = []
    for module in (ours, theirs):
        with pytest.raises((TypeError, RuntimeError, ValueError)) as error:
            module(packed)
        caught.append(error.value)
    assert type(caught[0]) is type(caught[1])


@pytest.mark.parametrize("dropout", [3.0, -0.5, float("nan")])
def test_dropout_that_was_set_wrong_is_pytorchs_error(dropout: float) -> None:
    lstm = fltorch.LSTM(3, 8, 2)
    lstm.dropout = dropout
    with pytest.raises(RuntimeError, match="dropout"):
        lstm(torch.randn(6, 2, 3))


@pytest.mark.parametrize(
    "shape,state",
    [
        ((6, 2, 4), None),  # I
        ((6,), None),  # rank
        ((0, 2, 3), None),  # T = 0
        ((6, 2, 3), (1, 3, 8)),  # B of the state
        ((6, 2, 3), (2, 2, 8)),  # layers of the state
        ((6, 2, 3), (2, 8)),  # rank of the state
        ((6, 3), (1, 1, 8)),
    ],
)
@pytest.mark.parametrize("kind", ["LSTM", "RNN", "GRU"])
def test_errors_are_pytorchs(kind: str, shape: Any, state: Any) -> None:
    ours, theirs = twins(kind, 3, 8)
    hx = state and torch.zeros(state)
    hx = (hx, hx) if state and kind == "LSTM" else hx
    with pytest.raises((RuntimeError, ValueError)) as want:
        theirs(torch.zeros(shape), hx)
    with pytest.raises(type(want.value)) as got:
        ours(torch.zeros(shape), hx)
    assert str(got.value) == str(want.value)


@pytest.mark.parametrize("kind", ["LSTMCell", "RNNCell", "GRUCell"])
@pytest.mark.parametrize("hx", [torch.zeros(2, 8, dtype=torch.float64), torch.zeros(3, 8)])
def test_errors_of_the_cell_are_pytorchs(kind: str, hx: Any) -> None:
    ours, theirs = twins(kind, 3, 8)
    hx = (hx, hx) if kind == "LSTMCell" else hx
    with pytest.raises(RuntimeError) as want:
        theirs(torch.zeros(2, 3), hx)
    with pytest.raises(RuntimeError) as got:
        ours(torch.zeros(2, 3), hx)
    assert str(got.value) == str(want.value)


def test_wrong_dtype_and_empty_batch() -> None:
    lstm = fltorch.LSTM(3, 8)
    with pytest.raises(ValueError, match="does not match weight dtype"):
        lstm(torch.zeros(6, 2, 3, dtype=torch.float64))
    assert lstm(torch.zeros(6, 0, 3))[0].shape == (6, 0, 8)


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell", "RNN", "RNNCell", "GRU", "GRUCell"])
@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
def test_a_parameter_that_is_none(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "_warned", set())
    modules = twins(kind, 3, 8)
    cell = "Cell" in kind
    x = torch.randn(*((2, 3) if cell else (6, 2, 3)))
    for module in modules:
        setattr(module, name + "_l0" * (not cell), None)
    if cell and "bias" in name:  # which PyTorch takes
        with pytest.warns(UserWarning, match="one bias without the other"):
            found = modules[0](x)
        assert torch.equal(found[0], modules[1](x)[0])
        return
    found, want = (refused(lambda m=m: m(x)) for m in modules)
    assert (type(found), str(found)) == (type(want), str(want))


def test_a_cell_whose_biases_are_none_runs_in_the_core() -> None:
    ours, theirs = twins("LSTMCell", 3, 8)
    for module in (ours, theirs):
        module.bias_ih = module.bias_hh = None
    x = torch.randn(2, 3)
    assert torch.allclose(ours(x)[0], theirs(x)[0], atol=1e-6)


H_0 = torch.zeros(2, 1, 3, 8)


@pytest.mark.parametrize(
    "hx",
    [H_0, H_0[0], H_0[:1], (H_0[0],), (H_0[0],) * 3, (None, None), 5, "hc", {0: H_0[0], 1: H_0[1]}],
    ids=["two", "one", "rank 4", "1-tuple", "3-tuple", "none", "int", "str", "dict"],
)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell", "RNN", "RNNCell", "GRU", "GRUCell"])
def test_states_that_are_none(kind: str, packed: bool, hx: Any) -> None:
    x = torch.zeros(4, 3, 2)
    ours, theirs = twins(kind, 2, 8)
    given = x[0] if "Cell" in kind else rnn_packed(12, 3) if packed else x
    if kind in ("RNN", "GRU") and getattr(hx, "shape", None) == (1, 3, 8):  # which is one
        hx = (hx, hx)
    found, want = (refused(lambda m=m: m(given, hx)) for m in (ours, theirs))
    assert (type(found), str(found)) == (type(want), str(want))


def rnn_packed(rows: int, batch: int, order: Any = None) -> Any:
    sizes = torch.full((rows // batch,), batch)
    return PackedSequence(torch.zeros(rows, 2), sizes, order, order)


def test_states_that_change_while_they_are_checked() -> None:
    """They are read once."""

    class Shrinking(list):  # type: ignore[type-arg]
        reads = 0

        def __iter__(self) -> Any:
            Shrinking.reads += 1
            return iter([torch.zeros(1, 3 if Shrinking.reads == 1 else 0, 8)] * 2)

        def __getitem__(self, index: Any) -> Any:
            return torch.zeros(1, 0, 8)

    lstm = fltorch.LSTM(2, 8)
    x = torch.randn(4, 3, 2)
    assert torch.equal(lstm(x, Shrinking([0, 0]))[0], lstm(x)[0])
    assert Shrinking.reads == 1


# ---- what PyTorch itself would not survive ----


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize(
    "h,c,message",
    [
        ((1, 1, 8), (1, 1, 8), r"Expected hidden\[0\] size"),
        ((1, MANY, 8), (1, 1, 8), r"Expected hidden\[1\] size"),
        ((1, MANY, 1), (1, MANY, 1), r"Expected hidden\[0\] size"),
        ((1, 2 * MANY, 8), (1, 2 * MANY, 8), r"Expected hidden\[0\] size"),
        ((1, MANY, 8, 1), (1, MANY, 8, 1), r"Expected hidden\[0\] size"),
        ((MANY, 8), (MANY, 8), r"Expected hidden\[0\] size"),
    ],
    ids=str,
)
def test_states_beside_a_packed_sequence(low: bool, h: Any, c: Any, message: str) -> None:
    lstm = fltorch.LSTM(2, 8)
    packed, states = rnn_packed(2 * MANY, MANY), (torch.zeros(h), torch.zeros(c))
    if low:  # bfloat16 falls back at once
        lstm, packed = lstm.bfloat16(), packed.to(torch.bfloat16)
        states = (states[0].bfloat16(), states[1].bfloat16())
    with torch.no_grad(), pytest.raises(RuntimeError, match=message):
        lstm(packed, states)


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("low", [False, True])
def test_orders_of_another_length(low: bool, states: bool) -> None:
    dtype = torch.bfloat16 if low else torch.float32
    lstm = fltorch.LSTM(2, 8).to(dtype)
    sizes, few = torch.tensor([MANY]), torch.tensor([0])
    packed = PackedSequence(torch.zeros(MANY, 2, dtype=dtype), sizes, few, few.expand(MANY))
    h_0 = torch.zeros(1, MANY, 8, dtype=dtype)
    with torch.no_grad():
        if states:
            with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size"):
                lstm(packed, (h_0, h_0))
        else:
            assert lstm(packed)[1][0].shape == h_0.shape


@pytest.mark.parametrize(
    "sizes", [torch.zeros(0, dtype=torch.int64), torch.ones(1, 0, dtype=torch.int64)], ids=str
)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_batch_sizes_without_elements(sizes: Any, kind: str) -> None:
    dtype = getattr(torch, kind)
    states = (torch.zeros(1, 3, 8, dtype=dtype),) * 2
    for hx in (None, states):
        with pytest.raises(RuntimeError, match="batch_sizes must have 1 dimension"):
            fltorch.LSTM(2, 8, dtype=dtype)(
                PackedSequence(torch.zeros(3, 2, dtype=dtype), sizes), hx
            )


def test_strided_batch_sizes() -> None:
    """PyTorch's own forward reads them as if they were contiguous."""
    x = torch.randn(4, 2, dtype=torch.bfloat16)
    lstm = fltorch.LSTM(2, 8, dtype=torch.bfloat16)
    several = torch.tensor([2, 2]), torch.tensor([2, 9, 2])[::2], torch.tensor([2]).expand(2)
    y = [lstm(PackedSequence(x, sizes))[0].data for sizes in several]
    assert torch.equal(y[0], y[1])
    assert torch.equal(y[0], y[2])


@pytest.mark.parametrize("x,h,c", [
    ((2,), (3, 3), (3, 3)), ((2,), (8, MANY), (8, MANY)), ((2,), (1, 8), (1, 8)),
    ((2,), (8,), (1, 8)), ((1, 2), (8,), (8,)), ((1, 2), (1, 8), (8,)),
], ids=str)  # fmt: skip
def test_states_of_a_cell_of_another_rank(x: Any, h: Any, c: Any) -> None:
    cell = fltorch.LSTMCell(2, 8)
    with pytest.raises(RuntimeError, match=r"hx and cx should also be \d-D but got"):
        cell(torch.zeros(x), (torch.zeros(h), torch.zeros(c)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name,shape", [
    ("weight_ih_l0", (1, 1)), ("weight_hh_l0", (32, 1)), ("weight_ih_l0", (0, 2)),
    ("bias_ih_l0", (1,)), ("weight_ih_l0", (64, 2)), ("weight_hh_l1", (8, 8)),
])  # fmt: skip
def test_weights_of_another_size(dtype: str, name: str, shape: Any) -> None:
    """PyTorch's own forward takes them, and reads beyond them."""
    kind = getattr(torch, dtype)
    lstm = fltorch.LSTM(2, 8, 2, dtype=kind)
    setattr(lstm, name, torch.nn.Parameter(torch.zeros(shape, dtype=kind)))
    x = torch.zeros(3, 2, 2, dtype=kind)
    for given in (x, PackedSequence(x.view(6, 2), torch.tensor([2, 2, 2]))):
        with pytest.raises(
            (ValueError, RuntimeError), match=r"weights|Expected weight|Expected bias"
        ):
            lstm(given)


@pytest.mark.parametrize("attribute,value", [
    ("hidden_size", 1), ("num_layers", 1), ("bidirectional", False), ("input_size", 1),
])  # fmt: skip
def test_attributes_that_were_changed(attribute: str, value: Any) -> None:
    """The weights decide what is read, so what does not fit them is refused."""
    lstm = fltorch.LSTM(2, 64, 2, bidirectional=True)
    setattr(lstm, attribute, value)
    layers = lstm.num_layers * (2 if lstm.bidirectional else 1)
    states = (torch.zeros(layers, MANY, lstm.hidden_size),) * 2
    with torch.no_grad(), pytest.raises((ValueError, RuntimeError), match=r"must (be|hold)|size"):
        lstm(torch.zeros(1, MANY, lstm.input_size), states)


@pytest.mark.parametrize(
    "kind,which",
    [
        ("packed", "batch_sizes"),
        *itertools.product(("LSTM", "packed", "LSTMCell"), ("x", "h_0", "c_0", "weight", "bias")),
        *itertools.product(("RNN", "RNN packed", "RNNCell"), ("x", "h_0", "weight")),
    ],
)
@pytest.mark.parametrize("left", [0, 64])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_storages_that_were_made_shorter(kind: str, which: str, left: int, dtype: str) -> None:
    dt = getattr(torch, dtype)
    cell, packed = "Cell" in kind, "packed" in kind
    name = "LSTM" if kind == "packed" else kind.removesuffix(" packed")
    module = getattr(fltorch, name)(2, 1024, dtype=dt)
    x, sizes = torch.zeros(1000, 2, dtype=dt), torch.full((100,), 10)
    states = [torch.zeros(1000 if cell else 10, 1024, dtype=dt) for _ in range(2)]
    suffix = "" if cell else "_l0"
    if not cell:
        states = [state.unsqueeze(0) for state in states]
    given = x if cell else PackedSequence(x, sizes) if packed else x.view(100, 10, 2)
    victim = {
        "x": x, "h_0": states[0], "c_0": states[1], "batch_sizes": sizes,
        "weight": getattr(module, f"weight_hh{suffix}"),
        "bias": getattr(module, f"bias_hh{suffix}"),
    }[which]  # fmt: skip
    victim.untyped_storage().resize_(left)
    with torch.no_grad(), pytest.raises(RuntimeError, match=NO_MEMORY):
        module(given, tuple(states) if "LSTM" in name else states[0])
