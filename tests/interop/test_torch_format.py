# SPDX-License-Identifier: BSD-3-Clause
"""Recurrent layers of PyTorch: modules, state dicts, files, and back with every bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastlstm
from fastlstm import LSTMOptions, interop
from support.labels import label

torch = pytest.importorskip("torch")

LAYERS = [
    ("LSTM", {"num_layers": 2, "bidirectional": True, "batch_first": True}),
    ("LSTM", {"proj_size": 2, "bias": False}),
    ("GRU", {"num_layers": 3, "dropout": 0.25}),
    ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
    ("LSTMCell", {}),
    ("GRUCell", {"bias": False}),
    ("RNNCell", {"nonlinearity": "relu"}),
]


class Whole(torch.nn.Module):  # type: ignore[misc]
    """A model with recurrent layers here and there."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(10, 3)
        self.encoder = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4, 2, batch_first=True)})
        self.head = torch.nn.Sequential(torch.nn.Linear(4, 2), torch.nn.ReLU())
        self.step = torch.nn.GRUCell(2, 3)


def same(model: Any, module: Any) -> None:
    expected = {name: values.numpy() for name, values in module.state_dict().items()}
    found = model.state_dict()
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("kind, options", LAYERS, ids=label)
@pytest.mark.parametrize("double", [False, True], ids=["float32", "float64"])
def test_modules_in_and_out(kind: str, options: dict[str, Any], double: bool) -> None:
    torch.manual_seed(0)
    dtype = torch.float64 if double else torch.float32
    module = getattr(torch.nn, kind)(3, 4, **options, dtype=dtype)
    imported = interop.from_torch(module)
    model = imported.model
    assert type(model) is getattr(fastlstm, kind)
    same(model, module)
    for name, value in options.items():
        assert getattr(model, name) == value
    back = interop.to_torch(model)
    assert type(back) is type(module)
    same(model, back)
    x = torch.randn(5, 2, 3, dtype=dtype) if "Cell" not in kind else torch.randn(2, 3, dtype=dtype)
    with torch.no_grad():
        mine, theirs = back(x), module.eval()(x)
    pairs = zip(mine, theirs, strict=True) if isinstance(mine, tuple) else [(mine, theirs)]
    assert torch.equal(*next(iter(pairs)))


def test_whole_model() -> None:
    module = Whole()
    imported = interop.from_torch(module)
    assert list(imported.layers) == ["encoder.rnn", "step"]
    same(imported.layers["encoder.rnn"], module.encoder["rnn"])
    assert imported.layers["encoder.rnn"].batch_first
    others = {other.name: other for other in imported.others}
    assert [other.kind for other in others.values()] == ["Embedding", "Linear", "ReLU"]
    assert others["head.0"].config == {"in_features": 4, "out_features": 2}
    np.testing.assert_array_equal(others["head.0"].weights["bias"], module.head[0].bias.detach())
    assert imported.order == ["embed", "encoder.rnn", "head.0", "head.1", "step"]


@pytest.mark.parametrize("ending", [".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
def test_files(tmp_path: Path, ending: str, nested: bool) -> None:
    module = Whole()
    path = tmp_path / f"model{ending}"
    state = {f"model.{key}": value for key, value in module.state_dict().items()}
    if ending == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, path)
    else:
        torch.save({"epoch": 3, "state_dict": state} if nested else state, path)
    imported = interop.from_torch(path, batch_first=True)
    assert set(imported.layers) == {"model.encoder.rnn", "model.step"}
    same(imported.layers["model.encoder.rnn"], module.encoder["rnn"])
    assert imported.layers["model.encoder.rnn"].batch_first
    assert type(imported.layers["model.step"]) is fastlstm.GRUCell
    assert any("prefix 'model.encoder.rnn.'" in note for note in imported.notes)
    assert {other.name for other in imported.others} == {"model.embed", "model.head.0"}


@pytest.mark.parametrize("name, kept", [("bfloat16", 8), ("float16", 11)])
def test_narrow_weights(tmp_path: Path, name: str, kept: int) -> None:
    """They are widened without a change, and a note says so."""
    module = torch.nn.LSTM(3, 4).to(getattr(torch, name))
    pytest.importorskip("safetensors.torch").save_file(
        module.state_dict(), tmp_path / "m.safetensors"
    )
    for source in (module.state_dict(), tmp_path / "m.safetensors"):
        model = interop.from_torch(source).model
        same(model, module.float())
        bits = model.weight_ih_l0.view(np.uint32) & ((1 << (24 - kept)) - 1)
        assert not bits.any()


def test_own_files(tmp_path: Path) -> None:
    model = fastlstm.LSTM(3, 4, 2, batch_first=True, options=LSTMOptions(peepholes=True), seed=0)
    interop.save_torch(model, tmp_path / "one.safetensors")
    back = interop.from_torch(tmp_path / "one.safetensors").model
    assert repr(back) == repr(model)
    both = {"a": fastlstm.GRU(2, 3, seed=0), "b.c": fastlstm.RNN(3, 4, seed=0)}
    for ending in (".safetensors", ".pt"):
        interop.save_torch(both, tmp_path / f"both{ending}")
        imported = interop.from_torch(tmp_path / f"both{ending}", nonlinearity="tanh")
        for name, layer in both.items():
            for key, values in layer.state_dict().items():
                np.testing.assert_array_equal(imported.layers[name].state_dict()[key], values)


def test_a_scripted_module() -> None:
    module = torch.nn.Sequential(torch.nn.LSTM(3, 4))
    imported = interop.from_torch(torch.jit.script(module))
    same(imported.layers["0"], module[0])


@pytest.mark.parametrize("wrap", ["accelerate", "compile"])
def test_what_stands_for_a_module(wrap: str) -> None:
    module = Whole()
    expected = {name: values.clone() for name, values in module.state_dict().items()}
    if wrap == "compile":
        module = torch.compile(module)
    else:
        pytest.importorskip("fastlstm.torch").accelerate(module)
    imported = interop.from_torch(module)
    assert list(imported.layers) == ["encoder.rnn", "step"]
    for name, values in imported.layers["encoder.rnn"].state_dict().items():
        np.testing.assert_array_equal(values, expected[f"encoder.rnn.{name}"].numpy())


def test_weights_behind_a_parametrization() -> None:
    module = torch.nn.LSTM(3, 4)
    torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    imported = interop.from_torch(torch.nn.Sequential(module))
    np.testing.assert_array_equal(imported.model.weight_hh_l0, module.weight_hh_l0.detach())
    with pytest.raises(interop.Unsupported, match="parametrization"):
        interop.from_torch(module.state_dict())


def test_what_is_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.LSTM(3, 4), tmp_path / "module.pt")
    with pytest.raises(interop.FormatError, match="more than weights"):
        interop.from_torch(tmp_path / "module.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(interop.FormatError, match=r"list\.pt: it must hold a state dict"):
        interop.from_torch(tmp_path / "list.pt")
    with pytest.raises(interop.FormatError, match="no recurrent layer"):
        interop.from_torch({"weight": torch.ones(2)})
    with pytest.raises(interop.FormatError, match="no recurrent layer"):
        interop.from_torch(torch.nn.Linear(2, 3))
    with pytest.raises(TypeError, match="source must be"):
        interop.from_torch(3)
    huge = torch.empty(1).expand(1 << 40)[None]
    torch.save({"weight_ih_l0": huge, "weight_hh_l0": torch.ones(4, 1)}, tmp_path / "huge.pt")
    with pytest.raises(interop.FormatError, match="in 4 bytes"):
        interop.from_torch(tmp_path / "huge.pt")
    for ending in (".pt", ".safetensors"):
        (tmp_path / f"cut{ending}").write_bytes(b"\x80\x02}q\x00")
        with pytest.raises(interop.FormatError, match="cut"):
            interop.from_torch(tmp_path / f"cut{ending}")


@pytest.mark.parametrize(
    "model",
    [
        fastlstm.LSTM(3, 4, options=LSTMOptions(peepholes=True)),
        fastlstm.LSTM(3, 4, options=LSTMOptions(gate_clip=1.0)),
        fastlstm.LSTM(3, 4, options=LSTMOptions(weight_drop=0.5)),
    ],
    ids=["peepholes", "clip", "weight_drop"],
)
def test_what_torch_has_not(model: Any) -> None:
    with pytest.raises(interop.Unsupported, match="PyTorch has no LSTM"):
        interop.to_torch(model)


def test_a_reset_before_the_product_is_not_torch_s() -> None:
    with pytest.raises(interop.Unsupported, match="reset_after=False"):
        interop.to_torch(fastlstm.GRU(3, 4, reset_after=False))


def test_initial_forget_bias_is_no_option_of_the_equations() -> None:
    model = fastlstm.LSTM(3, 4, options=LSTMOptions(forget_bias=1.0))
    same(model, interop.to_torch(model))


class Doubled(torch.nn.LSTM):  # type: ignore[misc]
    """A subclass that does something around what its base does."""

    def forward(self, x: Any, state: Any = None) -> Any:
        y, state = super().forward(x, state)
        return 2 * y, state


def test_what_a_module_does_beside_its_class_is_told() -> None:
    plain, hooked, before = (torch.nn.LSTM(3, 4) for _ in range(3))
    hooked.register_forward_hook(lambda module, given, made: None)
    before.register_forward_pre_hook(lambda module, given: None)
    for module in (Doubled(3, 4), hooked, before):
        (note,) = interop.from_torch(module).notes
        assert note == "lstm: what hooks or a forward of its own do is left out"
    assert not interop.from_torch(plain).notes


def test_what_is_no_dense_array_beside_layers(tmp_path: Path) -> None:
    layer = torch.nn.LSTM(3, 4).state_dict()
    odd = {"sparse.weight": torch.eye(4).to_sparse(), "complex": torch.ones(2, dtype=torch.cfloat)}
    odd |= {"eight.weight": torch.ones(2).to(torch.float8_e4m3fn)}
    torch.save({**layer, **odd}, tmp_path / "m.pt")
    found = interop.from_torch(tmp_path / "m.pt")
    assert [*found.layers] == ["lstm"]
    assert not found.others
    torch.save({**layer, "weight_ih_l0": torch.eye(16, 3).to_sparse()}, tmp_path / "m.pt")
    with pytest.raises(interop.FormatError, match="weight_ih_l0 must be dense"):
        interop.from_torch(tmp_path / "m.pt")


@pytest.mark.deep
@pytest.mark.parametrize("block", range(4))
def test_hundreds(block: int) -> None:
    rng = np.random.default_rng(block)
    for _ in range(75):
        kind = str(rng.choice(["LSTM", "GRU", "RNN"]))
        options: dict[str, Any] = {
            name: bool(rng.integers(2)) for name in ("bias", "batch_first", "bidirectional")
        }
        options["num_layers"] = int(rng.integers(1, 4))
        inputs, hidden = (int(n) for n in rng.integers(1, 20, 2))
        if kind == "LSTM" and hidden > 1 and rng.integers(2):
            options["proj_size"] = int(rng.integers(1, hidden))
        module = getattr(torch.nn, kind)(inputs, hidden, **options)
        model = interop.from_torch(torch.nn.ModuleDict({"it": module})).layers["it"]
        same(model, module)
        same(model, interop.to_torch(model))
        x = rng.standard_normal((3, 2, inputs)).astype(np.float32)
        with torch.no_grad():
            theirs = module(torch.from_numpy(x))[0].numpy()
        # Sums of at most 3 H terms below 1, three steps, layers over each other: see onnx_models.
        limit = 2 * 3 * 3 * (inputs + 3 * hidden + 12) * float(np.finfo(np.float32).eps)
        assert np.abs(model(x)[0] - theirs).max() <= limit
