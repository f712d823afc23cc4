# SPDX-License-Identifier: BSD-3-Clause
"""accelerate, restore and report: nothing of a model changes but who does the arithmetic."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest

from support.helpers import shared_data

torch = pytest.importorskip("torch")
parametrizations = torch.nn.utils.parametrizations
prune = pytest.importorskip("torch.nn.utils.prune")

import fastlstm.torch as fltorch  # noqa: E402


class Subclass(torch.nn.LSTM):
    def forward(self, input: Any, hx: Any = None) -> Any:
        y, state = super().forward(input, hx)
        return y + 1, state


class Model(torch.nn.Module):
    """Most of what a model can hold; one LSTM is reachable by two names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torch.nn.LSTM(3, 8, 2, bidirectional=True)
        self.stack = torch.nn.ModuleList([torch.nn.LSTM(16, 8), torch.nn.LSTMCell(8, 4)])
        self.alias = self.stack[0]
        self.projected = torch.nn.LSTM(3, 8, proj_size=2)
        self.rnn, self.rnn_cell = torch.nn.RNN(3, 8, 2), torch.nn.RNNCell(8, 8, nonlinearity="relu")
        self.own = Subclass(3, 8)
        self.gru = torch.nn.GRU(3, 8)

    def forward(self, x: Any) -> Any:
        y, _ = self.encoder(x)
        y, _ = self.alias(y)
        h, c = self.stack[1](y[-1])
        z, _ = self.projected(x)
        others = self.rnn_cell(self.rnn(x)[0][-1]).mean() + self.gru(x)[0].mean()
        return h + c + z.sum() + self.own(x)[0].sum() + others


def gradients(model: Any, x: Any) -> dict[str, Any]:
    model.zero_grad()
    model(x).cos().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_close(found: dict[str, Any], want: dict[str, Any]) -> None:
    """Within a few 1e-6 of the largest entry, in float64 1e-10."""
    scale = max(float(b.abs().max()) for b in want.values())
    scale *= 1e-10 if all(b.dtype is torch.float64 for b in want.values()) else 4e-6
    assert found.keys() == want.keys()
    for name, a in found.items():
        assert float((a - want[name]).abs().max()) <= scale, name


def test_accelerate_and_restore() -> None:
    model = Model().double()  # in float32 the cosine of large sums would tell roundings apart
    twin = copy.deepcopy(model)
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    state = model.state_dict()
    x = torch.randn(6, 2, 3, dtype=torch.float64)

    assert fltorch.accelerate(model) is model
    assert type(model.encoder) is fltorch.LSTM
    assert type(model.alias) is fltorch.LSTM
    assert model.alias is model.stack[0]
    assert type(model.stack[1]) is fltorch.LSTMCell
    assert (type(model.rnn), type(model.rnn_cell)) == (fltorch.RNN, fltorch.RNNCell)
    assert type(model.projected) is fltorch.LSTM
    assert type(model.own) is Subclass
    assert dict(model.named_modules()) == modules
    assert all(p is parameters[name] for name, p in model.named_parameters())
    assert model.state_dict().keys() == state.keys()
    assert_close(gradients(model, x), gradients(twin, x))

    assert fltorch.restore(model) is model
    assert [type(m) for m in model.modules()] == [type(m) for m in twin.modules()]
    assert all(torch.equal(a, b) for a, b in zip(model(x), twin(x), strict=True))


def test_report() -> None:
    model = Model()
    before = fltorch.report(model)
    assert not before.swapped
    names = {"encoder", "stack.0", "stack.1", "projected", "rnn", "rnn_cell", "own", "gru"}
    assert set(before.left) == names
    fltorch.accelerate(model)
    report = fltorch.report(model)
    assert report.swapped == {
        "encoder": "LSTM(3, 8, num_layers=2, bidirectional=True)",
        "stack.0": "LSTM(16, 8)",
        "stack.1": "LSTMCell(8, 4)",
        "rnn": "RNN(3, 8, num_layers=2)",
        "rnn_cell": "RNNCell(8, 8, nonlinearity=relu)",
        "gru": "GRU(3, 8)",
        "projected": "LSTM(3, 8, proj_size=2)",
    }
    assert report.left == {"own": "Subclass is a subclass with its own forward"}
    assert str(report).splitlines()[0] == "7 modules run in fastlstm, 1 was left"
    assert "own: left, Subclass is a subclass" in str(report)
    model.half()
    assert set(fltorch.report(model).left) == {*report.left, *report.swapped}


@pytest.mark.parametrize("kind", ["LSTM", "LSTMCell", "RNN", "RNNCell", "GRU", "GRUCell"])
def test_a_model_that_is_one(kind: str) -> None:
    model = getattr(torch.nn, kind)(3, 8)
    assert fltorch.accelerate(model) is model
    assert type(model) is getattr(fltorch, kind)
    assert "(the model)" in str(fltorch.report(model))
    assert type(fltorch.restore(model)) is getattr(torch.nn, kind)


@pytest.mark.parametrize("function", [fltorch.accelerate, fltorch.restore, fltorch.report])
def test_no_model(function: Any) -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got dict"):
        function({})


def test_again_is_no_change() -> None:
    model = fltorch.accelerate(fltorch.accelerate(Model()))
    assert len(fltorch.report(model).swapped) == 7
    fltorch.restore(fltorch.restore(model))
    assert not fltorch.report(model).swapped


@pytest.mark.parametrize("why,make", [
    ("dtype bfloat16", lambda: torch.nn.LSTM(3, 8, dtype=torch.bfloat16)),
    ("device meta", lambda: torch.nn.LSTM(3, 8, device="meta")),
    ("TorchScript", lambda: torch.jit.script(torch.nn.LSTM(3, 8))),
])  # fmt: skip
def test_left_alone(why: str, make: Any) -> None:
    model = torch.nn.Sequential(make())
    kind = type(model[0])
    fltorch.accelerate(model)
    assert type(model[0]) is kind
    assert why in fltorch.report(model).left["0"]


def test_hooks_flags_and_frozen_parameters_stay() -> None:
    model = torch.nn.LSTM(3, 8, 2, dropout=0.5).eval()
    model.weight_ih_l0.requires_grad_(False)
    calls: list[str] = []
    model.register_forward_pre_hook(lambda *_: calls.append("pre"))
    model.register_forward_hook(lambda *_: calls.append("post"))
    model.register_full_backward_hook(lambda *_: calls.append("back"))
    model.weight_hh_l0.register_hook(lambda g: calls.append("grad"))
    model.note = "mine"
    fltorch.accelerate(model)
    model(torch.randn(4, 2, 3, requires_grad=True))[0].sum().backward()
    assert calls[:2] == ["pre", "post"]
    assert sorted(calls[2:]) == ["back", "grad"]
    assert not model.training
    assert model.note == "mine"
    assert model.weight_ih_l0.grad is None


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "torch.save", "state_dict"])
@pytest.mark.parametrize("used", [False, True])
def test_copies(copied: str, used: bool) -> None:
    model = fltorch.accelerate(torch.nn.Sequential(torch.nn.LSTM(3, 8, 2)))
    x = torch.randn(6, 2, 3)
    if used:  # with packed weights at hand
        for _ in range(3):
            model(x)[0].sum().backward()
    if copied == "deepcopy":
        other = copy.deepcopy(model)
    elif copied == "pickle":
        other = pickle.loads(pickle.dumps(model))
    elif copied == "torch.save":
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    else:
        other = torch.nn.Sequential(torch.nn.LSTM(3, 8, 2))  # a plain model takes our state dict
        other.load_state_dict(model.state_dict())
    if copied != "deepcopy":
        assert type(other[0]) is torch.nn.LSTM
        fltorch.accelerate(other)
    assert type(other[0]) is fltorch.LSTM
    assert torch.equal(other(x)[0], model(x)[0])
    with torch.no_grad():
        other[0].weight_hh_l0.mul_(2)
    assert not torch.equal(other(x)[0], model(x)[0])
    other(x)[0].sum().backward()
    assert other[0].weight_hh_l0.grad is not model[0].weight_hh_l0.grad


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("how", ["weight_norm", "old weight_norm", "prune", "spectral_norm"])
def test_parametrized_weights(when: str, how: str) -> None:
    torch.manual_seed(0)

    def parametrize(lstm: Any) -> None:
        torch.manual_seed(1)
        if how == "weight_norm":
            parametrizations.weight_norm(lstm, "weight_hh_l0")
        elif how == "spectral_norm":
            parametrizations.spectral_norm(lstm, "weight_hh_l0")
        elif how == "prune":
            prune.random_unstructured(lstm, "weight_ih_l0", 0.5)
        else:
            with pytest.warns(FutureWarning):
                torch.nn.utils.weight_norm(lstm, "weight_hh_l0")

    theirs = torch.nn.LSTM(3, 8)
    ours = copy.deepcopy(theirs)
    for model in (theirs, ours):
        if model is ours and when == "before":
            fltorch.accelerate(model)
        parametrize(model)
        if model is ours and when == "after":
            fltorch.accelerate(model)
        model.eval()  # spectral_norm's power iteration rests
    assert isinstance(ours, fltorch.LSTM)
    x = torch.randn(6, 2, 3)
    for _ in range(3):
        found, want = ({}, {})
        for model, grads in ((ours, found), (theirs, want)):
            model.zero_grad()
            model(x)[0].cos().sum().backward()
            grads.update((name, p.grad.clone()) for name, p in model.named_parameters())
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
        assert_close(found, want)
    fltorch.restore(ours)
    assert not isinstance(ours, fltorch.LSTM)
    assert_close({"y": ours(x)[0].detach()}, {"y": theirs(x)[0].detach()})


def train(model: Any, head: Any, x: Any, labels: Any, steps: int) -> list[float]:
    """A script that knows nothing of fastlstm."""
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    losses = []
    for step in range(steps):
        rows = slice(step * 32 % 1024, step * 32 % 1024 + 32)
        optimizer.zero_grad()
        y, _ = model(x[rows])
        loss = torch.nn.functional.cross_entropy(head(y[:, -1]), labels[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def test_training_follows_pytorch() -> None:
    """The digits of scikit-learn, row by row: the same losses to 1e-4 over 100 steps."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    x = torch.tensor(digits.images / 16, dtype=torch.float32)
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)
    lstm = torch.nn.LSTM(8, 32, 2, batch_first=True, bidirectional=True)
    head = torch.nn.Linear(64, 10)
    twins = copy.deepcopy((lstm, head))
    want = train(lstm, head, x, labels, 100)
    found = train(fltorch.accelerate(twins[0]), twins[1], x, labels, 100)
    assert want[-1] < 0.7 * want[0]
    assert found == pytest.approx(want, rel=1e-4)


def test_optimizers_made_before_keep_working() -> None:
    lstm = torch.nn.LSTM(3, 8)
    optimizer = torch.optim.SGD(lstm.parameters(), lr=0.1)
    fltorch.accelerate(lstm)
    before = lstm.weight_hh_l0.detach().clone()
    lstm(torch.randn(6, 2, 3))[0].sum().backward()
    optimizer.step()
    assert torch.allclose(lstm.weight_hh_l0, before - 0.1 * lstm.weight_hh_l0.grad)


def test_text_with_truncated_backpropagation() -> None:
    """Character model on real text, the state carried from chunk to chunk: the same losses."""
    path = shared_data("text")
    file = next(f for f in sorted(path.rglob("*")) if f.suffix == ".txt")
    data = torch.tensor(list(file.read_bytes()[:40_000]))
    alphabet, data = torch.unique(data, return_inverse=True)
    streams = data[: len(data) // 8 * 8].view(8, -1).T
    torch.manual_seed(0)
    parts = torch.nn.ModuleList(
        [
            torch.nn.Embedding(len(alphabet), 16),
            torch.nn.LSTM(16, 48, 2),
            torch.nn.Linear(48, len(alphabet)),
        ]
    )
    curves = []
    for model in (copy.deepcopy(parts), fltorch.accelerate(copy.deepcopy(parts))):
        optimizer, state, losses = torch.optim.Adam(model.parameters(), lr=1e-3), None, []
        for start in range(0, 100 * 20, 20):
            chunk, target = streams[start : start + 20], streams[start + 1 : start + 21]
            optimizer.zero_grad()
            y, state = model[1](model[0](chunk), state)
            state = tuple(s.detach() for s in state)
            loss = torch.nn.functional.cross_entropy(model[2](y).flatten(0, 1), target.flatten())
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        curves.append(losses)
    assert curves[0][-1] < 0.9 * curves[0][0]
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
