# SPDX-License-Identifier: BSD-3-Clause
"""``fastlstm.torch.LSTM`` and ``LSTMCell`` with options, which PyTorch has none like."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

from support.labels import label
from support.torch_runs import no_warnings

torch = pytest.importorskip("torch")

import fastlstm  # noqa: E402
import fastlstm.torch as fltorch  # noqa: E402
from fastlstm import LSTMOptions  # noqa: E402
from fastlstm.torch.engines import spec_of  # noqa: E402
from fastlstm.torch.kernels import tape_bytes  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here

T, B, I, H = 5, 3, 4, 7  # noqa: E741
FULL = LSTMOptions(
    peepholes=True,
    coupled=True,
    gate_clip=2.0,
    cell_clip=0.5,
    gate_activation=("hard_sigmoid", 1 / 6, 0.5),
    candidate_activation="softsign",
)
SOME = [
    LSTMOptions(peepholes=True),
    LSTMOptions(forget_gate=False, output_activation="elu"),
    LSTMOptions(layer_norm="separate", peepholes=True),
    LSTMOptions(layer_norm="sums", zoneout_h=0.3),  # which at inference is no noise
    FULL,
]
NOISE = LSTMOptions(
    zoneout_c=0.2, recurrent_dropout=0.3, variational_dropout=0.2, input_dropout=0.1
)


def made(options: Any = FULL, *args: Any, **others: Any) -> Any:
    torch.manual_seed(0)
    return fltorch.LSTM(I, H, *args, options=options, **others)


def drawn(*shape: int, dtype: str = "float32") -> Any:
    rng = np.random.default_rng(shape)
    return torch.tensor(rng.standard_normal(shape).astype(dtype))


@pytest.mark.parametrize("options", SOME, ids=label)
@pytest.mark.parametrize(
    ("bias", "both", "proj"), [(True, True, 0), (False, True, 3), (True, False, 3)]
)
def test_results_and_gradients(
    options: LSTMOptions, bias: bool, both: bool, proj: int, dtype: str
) -> None:
    """The bits of the NumPy model, by the same core, onto tapes as well."""
    kind = getattr(torch, dtype)
    lstm = made(options, 2, bias, bidirectional=both, proj_size=proj, dtype=kind).eval()
    twin = fastlstm.LSTM.from_torch(lstm)
    assert twin.options == options
    assert list(twin.parameters()) == list(lstm.state_dict())
    x, dy = drawn(T, B, I, dtype=dtype), drawn(T, B, (1 + both) * (proj or H), dtype=dtype)
    rows = 2 * (1 + both)
    state = [drawn(rows, B, n, dtype=dtype).requires_grad_() for n in (proj or H, H)]
    y, (h_n, c_n) = lstm(x.requires_grad_(), tuple(state))
    y.backward(dy)
    given = tuple(s.detach().numpy() for s in state)
    expected, final, tape = twin.forward(x.detach().numpy(), given)
    grads = twin.backward(tape, dy.numpy())
    pairs = [(y, expected), (h_n, final[0]), (c_n, final[1]), (x.grad, grads.x)]
    pairs += [(state[0].grad, grads.h_0), (state[1].grad, grads.c_0)]
    pairs += [(value.grad, grads.params[name]) for name, value in lstm.named_parameters()]
    for found, wanted in pairs:
        assert np.array_equal(found.detach().numpy(), wanted)
    with torch.no_grad():
        assert np.array_equal(lstm(x, tuple(state))[0].numpy(), expected)


@pytest.mark.parametrize("options", SOME, ids=label)
@pytest.mark.parametrize("bias", [True, False])
def test_cells(options: LSTMOptions, bias: bool) -> None:
    torch.manual_seed(0)
    cell = fltorch.LSTMCell(I, H, bias, options=options).eval()
    twin = fastlstm.LSTMCell.from_torch(cell)
    assert repr(options) in repr(cell)
    assert twin.options == options
    assert list(twin.parameters()) == list(cell.state_dict())
    x, state = drawn(B, I), (drawn(B, H), drawn(B, H) / 2)
    expected = twin(x.numpy(), tuple(s.numpy() for s in state))
    found = cell(x, state)
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a.detach().numpy(), b)
    sum(part.sum() for part in found).backward()
    for name, value in cell.named_parameters():
        assert value.grad is not None, name
    one = cell(x[1], tuple(s[1] for s in state))
    assert np.array_equal(one[0].detach().numpy(), expected[0][1])


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_noise(dropout: float) -> None:
    """By one seed the bits of the NumPy model, in both passes; none in evaluation mode."""
    lstm = made(NOISE, 2, dropout=dropout)
    twin = fastlstm.LSTM.from_torch(lstm).train()
    x, dy = drawn(T, B, I), drawn(T, B, H)
    torch.manual_seed(5)
    seed = int(torch.randint(0, 2**63 - 1, (), dtype=torch.int64))
    expected, _, tape = twin.forward(x.numpy(), seed=seed)
    grads = twin.backward(tape, dy.numpy())
    for run in (lstm, torch.compile(lstm, backend="aot_eager", fullgraph=True)):
        torch.manual_seed(5)
        lstm.zero_grad()
        y, _ = run(x.requires_grad_())
        y.backward(dy)
        assert np.array_equal(y.detach().numpy(), expected)
        assert not torch.equal(lstm(x)[0], y)
        for name, value in lstm.named_parameters():
            assert np.array_equal(value.grad.numpy(), grads.params[name])
    torch.manual_seed(5)
    with torch.no_grad():
        assert np.array_equal(lstm(x)[0].numpy(), expected)
        assert np.array_equal(lstm.eval()(x)[0].numpy(), twin.eval()(x.detach().numpy())[0])


def test_noise_of_cells() -> None:
    cell = fltorch.LSTMCell(I, H, options=LSTMOptions(zoneout_c=1.0, zoneout_h=1.0))
    state = drawn(B, H), drawn(B, H)
    for part, before in zip(cell(drawn(B, I), state), state, strict=True):
        assert torch.equal(part, before)
    cell = fltorch.LSTMCell(I, H, options=LSTMOptions(recurrent_dropout=0.5))
    x = drawn(B, I)
    assert not torch.equal(cell(x)[1], cell(x)[1])
    assert torch.equal(cell.eval()(x)[1], cell(x)[1])


def test_weight_drop() -> None:
    """Masks of W_hh, alone, and the gradients that go with them: those of what is left."""
    options = LSTMOptions(weight_drop=0.5)
    for module in (
        made(options, 2, bidirectional=True),
        fltorch.LSTMCell(I, H, options=options),
    ):
        layer = isinstance(module, torch.nn.LSTM)
        x, state = drawn(T, B, I), (drawn(B, H), drawn(B, H))
        given = (x,) if layer else (x[0], state)
        first, second = (module(*given)[0] for _ in range(2))
        if layer:
            first, second = first[1:], second[1:]
        assert not torch.equal(first, second)
        (first * drawn(*first.shape)).sum().backward()
        for name, value in module.named_parameters():
            zeros = int((value.grad == 0).sum())
            assert 0.3 * value.numel() < zeros if name.startswith("weight_hh") else zeros == 0
        module.eval()
        assert torch.equal(module(*given)[0], module(*given)[0])
        with pytest.raises(NotImplementedError, match=r"weight_drop=0\.5"):
            fltorch.restore(module)


def test_packed_sequences() -> None:
    lstm = made(FULL, 2, bidirectional=True)
    x, lengths = drawn(T, B, I), [2, 5, 3]
    rnn = torch.nn.utils.rnn
    packed, (h_n, _) = lstm(rnn.pack_padded_sequence(x, lengths, enforce_sorted=False))
    y, _ = rnn.pad_packed_sequence(packed)
    expected, final = fastlstm.LSTM.from_torch(lstm)(x.numpy(), lengths=lengths)
    assert np.array_equal(y.detach().numpy(), expected)
    assert np.array_equal(h_n.detach().numpy(), final[0])


def test_first_values() -> None:
    lstm = made(LSTMOptions(peepholes=True, forget_bias=1.5))
    names = list(fastlstm.LSTM(I, H, options={"peepholes": True}).parameters())
    assert [name for name, _ in lstm.named_parameters()] == names
    assert lstm.all_weights[0][0] is lstm.weight_ih_l0
    before = copy.deepcopy(lstm.state_dict())
    for _ in range(2):
        assert (lstm.bias_ih_l0[H : 2 * H] == 1.5).all()
        assert not lstm.bias_hh_l0[H : 2 * H].any()
        for name, value in lstm.named_parameters():
            others = value.detach()
            if name.startswith("bias"):
                others = torch.cat([others[:H], others[2 * H :]])
            assert 0 < float(others.abs().max()) <= H**-0.5, name
        lstm.reset_parameters()
    assert not torch.equal(lstm.weight_co_l0, before["weight_co_l0"])
    torch.manual_seed(0)
    again = made(LSTMOptions(peepholes=True, forget_bias=1.5))
    assert all(torch.equal(value, before[name]) for name, value in again.state_dict().items())
    assert made(device="meta").weight_co_l0.is_meta


def test_a_forget_bias_alone_leaves_a_module_of_torch_s_kind() -> None:
    lstm = made({"forget_bias": 1.0})
    x = drawn(T, B, I)
    y = lstm(x)[0]
    loaded = pickle.loads(pickle.dumps(lstm))
    assert type(loaded) is torch.nn.LSTM
    assert not [name for name in vars(loaded) if "options" in name]
    assert type(fltorch.restore(lstm)) is torch.nn.LSTM
    torch.testing.assert_close(lstm(x)[0], y)


def test_copies_and_files() -> None:
    lstm = made(FULL, 2)
    x = drawn(T, B, I)
    expected = lstm(x)[0]
    file = io.BytesIO()
    torch.save(lstm, file)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    other = fltorch.LSTM(I, H, 2, options=FULL)
    other.load_state_dict(lstm.state_dict())
    for twin in (copy.deepcopy(lstm), copy.copy(lstm), loaded, other):
        assert type(twin) is fltorch.LSTM
        assert repr(twin) == repr(lstm)
        assert torch.equal(twin(x)[0], expected)
    double = copy.deepcopy(lstm).double()
    # A few roundings of float32 in each of the steps, whose errors do not grow: as in torch_runs.
    assert float((double(x.double())[0] - expected).detach().abs().max()) < 4e-6
    with pytest.raises(RuntimeError, match=r"Missing key.*weight_ci_l0"):
        lstm.load_state_dict(torch.nn.LSTM(I, H, 2).state_dict())


def test_accelerate_freezes_and_restore_refuses() -> None:
    model = torch.nn.Sequential(torch.nn.LSTM(I, H), made()).eval()
    x = drawn(T, B, I)
    with torch.no_grad():
        expected = model[1](x)[0]
        fltorch.accelerate(model, freeze=True)
        for _ in range(2):
            assert torch.equal(model[1](x)[0], expected)
    assert f"1: LSTM({I}, {H}, options=LSTMOptions(" in str(fltorch.report(model))
    words = r"restore would make a torch.nn.LSTM of one with LSTMOptions\(peepholes=True"
    with pytest.raises(NotImplementedError, match=words):
        fltorch.restore(model)
    assert type(model[0]) is fltorch.LSTM  # nothing was changed


def test_compile_and_export() -> None:
    lstm = made(FULL, 2, bidirectional=True)
    x = drawn(T, B, I)
    compiled = torch.compile(lstm, backend="aot_eager", fullgraph=True)
    lstm(x)[0].sum().backward()
    expected = [value.grad.clone() for value in lstm.parameters()]
    lstm.zero_grad()
    compiled(x)[0].sum().backward()
    for value, wanted in zip(lstm.parameters(), expected, strict=True):
        assert torch.equal(value.grad, wanted)
    lstm.eval()
    with torch.no_grad():
        program = torch.export.export(lstm, (x,))
        assert torch.equal(program.module()(x)[0], lstm(x)[0])


def test_gradients_of_several_losses_at_once() -> None:
    lstm = made(dtype=torch.float64)
    x = drawn(T, B, I, dtype="float64").requires_grad_()
    y, _ = lstm(x)
    ways = drawn(2, *y.shape, dtype="float64")

    def back(way: Any) -> Any:
        return torch.autograd.grad(y, (x, lstm.weight_co_l0), way, retain_graph=True)

    mapped = torch.func.vmap(back)(ways)
    for at in range(2):
        for a, b in zip(mapped, back(ways[at]), strict=True):
            assert torch.equal(a[at], b)


def test_what_pytorch_refuses_too() -> None:
    lstm, plain = made(), fltorch.LSTM(I, H)
    x = drawn(T, B, I)
    for given in (
        (x[..., :2],),
        (x.double(),),
        (x[:0],),
        (x, (drawn(1, B, H + 1), drawn(1, B, H))),
        (x, (drawn(1, B, H),)),
        (x[None],),
    ):
        with pytest.raises((RuntimeError, ValueError, IndexError)) as theirs:
            plain(*given)
        with pytest.raises(type(theirs.value)) as ours:
            lstm(*given)
        assert str(ours.value) == str(theirs.value)
    assert lstm(x[:, :0])[0].shape == (T, 0, H)
    lstm.weight_co_l0 = None
    with pytest.raises(RuntimeError, match="cannot run on these parameters"):
        lstm(x)


def test_what_the_core_lacks() -> None:
    warnings.filterwarnings("ignore", message=r"`torch.jit.\w*` is deprecated")
    lstm, cell, x = made(), fltorch.LSTMCell(I, H, options=FULL), drawn(T, B, I)
    for call, what in (
        (lambda: copy.deepcopy(lstm).half()(x.half()), "dtype float16"),
        (lambda: copy.deepcopy(cell).half()(x[0].half()), "dtype float16"),
        (lambda: torch.jit.trace(lstm, (x,)), "TorchScript"),
        (lambda: torch.func.jvp(lambda v: lstm(v)[0], (x,), (x,)), "torch.func"),
    ):
        with pytest.raises(NotImplementedError, match=f"with options .* not support {what}"):
            call()
    with pytest.raises(NotImplementedError, match=r"TorchScript would make a torch.nn.LSTM of"):
        torch.jit.script(lstm)
    with torch.autocast("cpu", torch.bfloat16):
        y = lstm(x)[0]
    assert y.dtype is torch.bfloat16
    assert torch.equal(y, lstm(x)[0].bfloat16())


def test_second_derivatives_are_not_promised_by_restore() -> None:
    """The error names a way out that there is."""
    lstm, x = made(), drawn(T, B, I).requires_grad_()
    (grad,) = torch.autograd.grad(lstm(x)[0].sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match=r"restore first \(not one with options"):
        grad.sum().backward()


@pytest.mark.parametrize("options", [None, FULL], ids=label)
def test_cells_made_without_first_values(options: Any) -> None:
    """`skip_init` asks the signature for a device."""
    cell = torch.nn.utils.skip_init(fltorch.LSTMCell, I, H, options=options)
    assert {value.device.type for value in cell.parameters()} == {"cpu"}
    cell.reset_parameters()
    assert cell(drawn(B, I))[0].shape == (B, H)


def test_bad_options() -> None:
    with pytest.raises(TypeError, match="options must be LSTMOptions, a mapping"):
        made(3)
    with pytest.raises(ValueError, match="options must be some of"):
        made({"holes": True})
    with pytest.raises(ValueError, match="options with a forget_bias need bias=True"):
        made({"forget_bias": 1.0}, bias=False)
    x, weights = drawn(T, B, I), list(made().parameters())
    call = torch.ops.fastlstm.lstm_forward
    rest = (None, None, weights, None, None, "tbi", False, 0.0, 0)
    for text in ("gru", "{", "{}", '{"holes": 1}', '{"peepholes": 3}', '{"coupled": true}'):
        with pytest.raises(ValueError, match=r"^(options|weights) must"):
            call(x, *rest, options=text)


def test_specifications_tell_layers_and_biases() -> None:
    for options in SOME:
        for bias in (False, True):
            for proj in (0, 3):
                lstm = made(options, 3, bias, bidirectional=True, proj_size=proj)
                spec = spec_of(list(lstm.parameters()), lstm._fastlstm_cell, True)
                assert spec.shapes == {n: tuple(v.shape) for n, v in lstm.named_parameters()}
                assert (spec.num_layers, spec.bias, spec.proj_size) == (3, bias, proj)
                assert spec.options == options
                for steps, batch in ((1, 1), (3, 5), (64, 7), (65, 129)):
                    needed = fastlstm._core.tape_bytes(spec, fastlstm.config()["isa"], steps, batch)
                    assert tape_bytes(spec, steps, batch) >= needed
