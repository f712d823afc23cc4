# SPDX-License-Identifier: BSD-3-Clause
"""ONNX graphs that are a plain chain, run whole: PyTorch's export, ONNX Runtime and us."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastlstm import interop
from support import onnx_models

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
nn = torch.nn


class Model(nn.Module):  # type: ignore[misc]
    """Modules one after another; of a recurrent one the outputs, or those of the last step."""

    def __init__(self, *parts: Any, last: bool = False) -> None:
        super().__init__()
        self.parts, self.last = nn.ModuleList(parts), last

    def forward(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
            if isinstance(x, tuple):
                x = x[0]
                if self.last:
                    x = x[:, -1] if part.batch_first else x[-1]
        return x


def floats(*shape: int) -> Any:
    return torch.rand(*shape) - 0.5


def exported(model: Any, x: Any) -> bytes:
    file = io.BytesIO()
    axes = {"x": {0: "first", 1: "second"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(), (x,), file, dynamo=False, input_names=["x"], dynamic_axes=axes
        )
    return file.getvalue()


CHAINS: dict[str, tuple[Callable[[], Any], Callable[[], Any], list[str]]] = {
    "LSTM, dense, softmax": (
        lambda: Model(nn.LSTM(3, 4, 2, batch_first=True), nn.Linear(4, 2), nn.Softmax(-1)),
        lambda: floats(5, 7, 3),
        ["LSTM", "dense", "activation"],
    ),
    "dense first, two directions, time first": (
        lambda: Model(
            nn.Linear(3, 5), nn.Tanh(), nn.GRU(5, 4, bidirectional=True),
            nn.Linear(8, 2, bias=False),
        ),
        lambda: floats(7, 5, 3),
        ["dense", "activation", "GRU", "dense"],
    ),
    "embedding, two stacks": (
        lambda: Model(
            nn.Embedding(9, 3), nn.LSTM(3, 4, batch_first=True), nn.LeakyReLU(0.2),
            nn.RNN(4, 2, batch_first=True), nn.Linear(2, 2), nn.ELU(),
        ),
        lambda: torch.randint(9, (5, 7)),
        ["embedding", "LSTM", "activation", "RNN", "dense", "activation"],
    ),
    "last step": (
        lambda: Model(nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2), nn.Sigmoid(), last=True),
        lambda: floats(5, 7, 3),
        ["LSTM", "dense", "activation"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_chain(name: str) -> None:
    torch.manual_seed(0)
    make, example, kinds = CHAINS[name]
    model, x = make(), example()
    proto = exported(model, x)
    imported = interop.from_onnx(proto)
    others = {other.name: other.kind for other in imported.others}
    found = [others.get(part) or type(imported.layers[part]).__name__ for part in imported.order]
    assert found == kinds
    (theirs,) = onnx_models.by_runtime(proto, {"x": x.numpy()})
    time_first = name.endswith("time first")
    given = x.numpy().transpose(1, 0, 2) if time_first else x.numpy()
    ours = imported.sequential()(np.ascontiguousarray(given))
    ours = ours.transpose(1, 0, 2) if time_first else ours
    assert ours.shape == theirs.shape
    # Seven steps and some six layers, of at most 30 operations each: see onnx_models.tolerance.
    assert np.abs(ours - theirs).max() <= 2 * 7 * 6 * 30 * float(np.finfo(np.float32).eps)
    if time_first:
        assert any("(B, T, ...)" in note for note in imported.notes)


def test_a_chain_as_a_stream() -> None:
    torch.manual_seed(0)
    model = Model(nn.LSTM(3, 4, 2, batch_first=True), nn.Linear(4, 2))
    chain = interop.from_onnx(exported(model, floats(2, 7, 3))).sequential()
    x = floats(2, 7, 3).numpy()
    stream = chain.stream(2)
    parts = [stream(x[:, :3]), stream(x[:, 3:])]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), chain(x), rtol=0, atol=1e-6)


class Odd(nn.Module):  # type: ignore[misc]
    """A residual connection, or another use of the states."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.rnn, self.how = nn.LSTM(4, 4), how

    def forward(self, x: Any) -> Any:
        y, (h, _) = self.rnn(x)
        return {
            "residual": lambda: x + y,
            "state": lambda: h,
            "twice": lambda: (y, y.tanh()),
            "state read": lambda: (y, h, h.tanh()),
            "state used": lambda: (y * h, h),
            "exchanged": lambda: self.rnn(y.transpose(0, 1))[0],
            "first step": lambda: y[0],
            "cosine": lambda: y.cos(),
        }[self.how]()


@pytest.mark.parametrize(
    "how, why",
    [
        ("residual", "times"),
        ("state", "state"),
        ("twice", "2 outputs"),
        ("state read", "2 outputs, beside 1 of final states"),
        ("state used", "times|final state|no layer|dense"),
        ("exchanged", "exchanged"),
        ("first step", "Gather"),
        ("cosine", "Cos"),
    ],
)
def test_no_chain(how: str, why: str) -> None:
    imported = interop.from_onnx(exported(Odd(how), floats(5, 3, 4)))
    names = ", ".join(imported.layers)
    with pytest.raises(interop.Unsupported, match=f"no plain chain: .*({why})") as caught:
        imported.sequential()
    assert caught.value.what.endswith(f"`layers` has its recurrent ones: {names}")


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("both", [False, True], ids=["one direction", "two directions"])
def test_final_states_beside_the_output(kind: str, both: bool) -> None:
    """As of `to_onnx`, and of an exported module alone: outputs that no chain has, left out."""
    torch.manual_seed(0)
    module = getattr(nn, kind)(3, 4, 2, batch_first=True, bidirectional=both)
    x = floats(5, 7, 3)
    ours = interop.to_onnx(interop.from_torch(module).model).SerializeToString()
    for proto in (exported(module, x), ours):
        imported = interop.from_onnx(proto)
        theirs = onnx_models.by_runtime(proto, {"x": x.numpy()})[0]
        # As in test_chain, of two layers.
        limit = 2 * 7 * 2 * 30 * float(np.finfo(np.float32).eps)
        assert np.abs(imported.sequential()(x.numpy()) - theirs).max() <= limit
        assert any("no final states" in note for note in imported.notes)
        assert not imported.others


def test_shapes_are_those_of_a_chain() -> None:
    """Not those of the file, which has time first."""
    torch.manual_seed(0)
    chain = interop.from_onnx(exported(Model(nn.LSTM(3, 4)), floats(7, 5, 3))).sequential()
    for shape in ((5, 7, 4), (5, 7)):
        for run in (chain, chain.stream(5)):
            with pytest.raises(ValueError, match=r"takes \(B, T, 3\), got shape \(5, 7"):
                run(np.zeros(shape, np.float32))
