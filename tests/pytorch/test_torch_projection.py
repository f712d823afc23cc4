# SPDX-License-Identifier: BSD-3-Clause
"""``fastlstm.torch.LSTM`` with a projection against ``torch.nn.LSTM``."""

from __future__ import annotations

import copy
import io
import itertools
import warnings
from typing import Any

import pytest

from support.torch_runs import assert_close, no_warnings, pair, run

torch = pytest.importorskip("torch")

import fastlstm.torch as fltorch  # noqa: E402
from fastlstm.torch.engines import spec_of  # noqa: E402

__all__ = ["no_warnings"]  # a fixture of every test here


@pytest.fixture(autouse=True)
def slow_in_torch(no_warnings: Any) -> None:
    """PyTorch's own modules say that its library lacks projections."""
    warnings.filterwarnings("ignore", message="LSTM with projections is not supported with oneDNN")


WAYS = list(itertools.product([False, True], [False, True], [False, True]))


def inputs(module: Any, steps: int, batch: int) -> tuple[Any, tuple[Any, Any]]:
    """x in the layout of the module, and a state."""
    x = torch.randn(steps, batch, module.input_size, dtype=torch.float64)
    rows = module.num_layers * (1 + module.bidirectional), batch
    h_0 = torch.randn(*rows, module.proj_size, dtype=torch.float64)
    c_0 = torch.randn(*rows, module.hidden_size, dtype=torch.float64)
    return x.transpose(0, 1) if module.batch_first else x, (h_0, c_0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("bias", "batch_first", "bidirectional"), WAYS)
def test_results_and_gradients(
    dtype: Any, bias: bool, batch_first: bool, bidirectional: bool
) -> None:
    options = {"bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    for layers, units, proj in ((1, 8, 5), (2, 20, 3), (2, 40, 33)):
        ours, theirs = pair("LSTM", 6, units, layers, dtype=dtype, proj_size=proj, **options)
        x, state = inputs(ours, 7, 4)
        for given in (None, state):
            assert_close(run(ours, x, given), run(theirs, x, given), dtype, outputs=3)
        packing = {"lengths": [3, 7, 1, 5], "batch_first": batch_first, "enforce_sorted": False}
        for given in (None, state):
            found = run(ours, x, given, packing), run(theirs, x, given, packing)
            assert_close(*found, dtype, outputs=3)


def test_unbatched_and_without_gradients() -> None:
    ours, theirs = pair("LSTM", 6, 20, 2, proj_size=7)
    x, (h_0, c_0) = inputs(ours, 5, 1)
    one = x[:, 0], (h_0[:, 0], c_0[:, 0])
    assert_close(run(ours, *one), run(theirs, *one), torch.float32, outputs=3)
    with torch.no_grad():
        y, (h_n, c_n) = ours(x.float(), (h_0.float(), c_0.float()))
        kept, _ = ours.eval()(x.float(), (h_0.float(), c_0.float()))
    assert (y.shape, h_n.shape, c_n.shape) == ((5, 1, 7), (2, 1, 7), (2, 1, 20))
    assert torch.equal(y, kept)


def test_dropout_is_differentiable() -> None:
    ours = fltorch.LSTM(3, 8, 2, dropout=0.5, proj_size=5, dtype=torch.float64)
    x, state = inputs(ours, 4, 2)

    def function(*tensors: Any) -> Any:
        torch.manual_seed(0)
        y, last = torch.func.functional_call(
            ours, dict(zip(names, tensors[3:], strict=True)), (tensors[0], tensors[1:3])
        )
        return y, *last

    names = [name for name, _ in ours.named_parameters()]
    leaves = [t.detach().requires_grad_() for t in (x, *state, *ours.parameters())]
    assert torch.autograd.gradcheck(function, leaves)


def test_accelerate_restore_and_copies() -> None:
    model = torch.nn.Sequential(torch.nn.LSTM(3, 8, 2, proj_size=5)).eval()
    x = torch.randn(4, 2, 3)
    want = model(x)[0].detach()
    for freeze in (False, True):
        fltorch.accelerate(model, freeze=freeze)
        assert type(model[0]) is fltorch.LSTM
        with torch.inference_mode():
            found = model(x)[0]
            again = copy.deepcopy(model)(x)[0]
        assert float((found - want).abs().max()) < 1e-6
        assert torch.equal(found, again)
    file = io.BytesIO()
    torch.save(model, file)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    assert type(loaded[0]) is torch.nn.LSTM
    assert torch.equal(loaded(x)[0], want)
    assert type(fltorch.restore(model)[0]) is torch.nn.LSTM
    assert torch.equal(model(x)[0], want)


def test_an_update_is_seen() -> None:
    ours, theirs = pair("LSTM", 3, 8, proj_size=5)
    x = torch.randn(4, 2, 3)
    with torch.no_grad():
        ours.eval()(x)
        ours.weight_hr_l0.data += 0.5  # behind the version counter
        theirs.load_state_dict(ours.state_dict())
        assert_close([ours(x)[0]], [theirs(x.double())[0]], torch.float32)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_compile_and_export(bidirectional: bool) -> None:
    lstm = fltorch.LSTM(3, 8, 2, proj_size=5, bidirectional=bidirectional)
    x, state = inputs(lstm, 4, 2)
    given = x.float(), tuple(one.float() for one in state)
    compiled = torch.compile(lstm, backend="aot_eager", fullgraph=True)
    for a, b in zip(run(compiled, *given), run(lstm, *given), strict=True):
        assert torch.equal(a, b)
    lstm.eval()
    with torch.no_grad():
        program = torch.export.export(lstm, given)
        for a, b in zip(program.module()(*given)[1], lstm(*given)[1], strict=True):
            assert torch.equal(a, b)


def test_specifications_tell_projections() -> None:
    for bias in (False, True):
        lstm = fltorch.LSTM(3, 9, 3, bias, bidirectional=True, proj_size=4)
        spec = spec_of(lstm._flat_weights, "lstm", True)
        assert (spec.proj_size, spec.num_layers, spec.bias) == (4, 3, bias)
        assert list(spec.shapes) == lstm._flat_weights_names


def test_flops_are_those_of_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    def counted(module: Any, learn: bool) -> int:
        x = torch.randn(5, 4, 3, requires_grad=learn)
        with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(learn):
            y, _ = module(x)
            if learn:
                y.sum().backward()
        return int(counter.get_total_flops())

    for layers, bidirectional in ((1, False), (2, True)):
        options = {"num_layers": layers, "bidirectional": bidirectional, "proj_size": 5}
        for learn in (False, True):
            ours = counted(fltorch.LSTM(3, 8, **options), learn)
            assert ours == counted(torch.nn.LSTM(3, 8, **options), learn), (options, learn)


def test_states_of_a_wrong_size_are_torch_s_errors() -> None:
    ours, theirs = fltorch.LSTM(3, 8, proj_size=5), torch.nn.LSTM(3, 8, proj_size=5)
    x, h, c = torch.randn(4, 2, 3), torch.zeros(1, 2, 5), torch.zeros(1, 2, 8)
    for state in ((c, c), (h, h), (c, h)):
        with pytest.raises(RuntimeError) as said:
            theirs(x, state)
        with pytest.raises(RuntimeError) as ours_said:
            ours(x, state)
        assert str(ours_said.value) == str(said.value)
