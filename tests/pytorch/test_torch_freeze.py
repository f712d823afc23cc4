# SPDX-License-Identifier: BSD-3-Clause
"""`accelerate(model, freeze=True)`: weights are not read at every call; what is seen anyway."""

from __future__ import annotations

import copy
import io
import threading
from typing import Any

import pytest

from fastlstm import _core

torch = pytest.importorskip("torch")

import fastlstm.torch  # noqa: E402
from fastlstm.torch.copies import FROZEN  # noqa: E402


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the weights that were read to see whether they changed."""
    found: list[int] = []
    real = _core.hash_memory

    def counted(addresses: list[int], sizes: list[int], isa: str) -> int:
        found.append(sum(sizes))
        return real(addresses, sizes, isa)

    monkeypatch.setattr(_core, "hash_memory", counted)
    return found


def pair(kind: Any = None, **options: Any) -> tuple[Any, Any]:
    """A frozen module and PyTorch's with the same weights."""
    torch.manual_seed(0)
    theirs = (kind or torch.nn.LSTM)(5, 7, **options).eval()
    ours = fastlstm.torch.accelerate(copy.deepcopy(theirs), freeze=True)
    return ours, theirs


def run(module: Any, x: Any) -> Any:
    with torch.inference_mode():
        return module(x)[0]


@pytest.mark.parametrize(
    "kind", [torch.nn.LSTM, torch.nn.LSTMCell, torch.nn.RNN, torch.nn.RNNCell, torch.nn.GRU]
)
def test_weights_are_read_once(kind: Any, hashes: list[int]) -> None:
    ours, theirs = pair(kind)
    x = torch.randn(3, 5) if issubclass(kind, torch.nn.RNNCellBase) else torch.randn(4, 3, 5)
    for _ in range(3):
        torch.testing.assert_close(run(ours, x), run(theirs, x))
    first = len(hashes)
    assert first <= 2  # before and after the weights are packed
    for _ in range(5):
        run(ours, x)
    assert len(hashes) == first
    fastlstm.torch.accelerate(ours)  # thawed
    assert FROZEN not in ours.__dict__
    run(ours, x)
    assert len(hashes) > first


def test_packed_sequences_and_batches(hashes: list[int]) -> None:
    ours, theirs = pair(num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(4, 6, 5)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, [6, 5, 2, 1], batch_first=True)
    for _ in range(3):
        torch.testing.assert_close(run(ours, x), run(theirs, x))
        torch.testing.assert_close(run(ours, packed), run(theirs, packed))
    assert len(hashes) <= 2


@pytest.mark.parametrize("how", ["copy_", "load_state_dict", "step", "new parameter"])
def test_writes_that_torch_sees_are_seen(how: str) -> None:
    ours, theirs = pair()
    x = torch.randn(4, 3, 5)
    run(ours, x)
    for module in (ours, theirs):
        with torch.no_grad():
            if how == "copy_":
                module.weight_hh_l0.copy_(torch.full_like(module.weight_hh_l0, 0.1))
            elif how == "load_state_dict":
                state = {name: 0.5 * value for name, value in module.state_dict().items()}
                module.load_state_dict(state)
            elif how == "step":
                for parameter in module.parameters():
                    parameter.grad = torch.ones_like(parameter)
                torch.optim.SGD(module.parameters(), lr=0.1).step()
            else:
                module.weight_ih_l0 = torch.nn.Parameter(0.3 * module.weight_ih_l0)
    torch.testing.assert_close(run(ours, x), run(theirs, x))


def test_other_writes_are_seen_when_frozen_again() -> None:
    ours, theirs = pair()
    x = torch.randn(4, 3, 5)
    before = run(ours, x)
    for module in (ours, theirs):
        module.weight_hh_l0.data.numpy()[:] = 0.1
    assert torch.equal(run(ours, x), before)  # as documented
    fastlstm.torch.accelerate(ours, freeze=True)
    torch.testing.assert_close(run(ours, x), run(theirs, x))


def test_training_reads_weights(hashes: list[int]) -> None:
    ours, theirs = pair()
    x = torch.randn(4, 3, 5)
    run(ours, x)
    ours.train(), theirs.train()
    for module in (ours, theirs):
        module.weight_hh_l0.data.numpy()[:] = 0.1
    torch.testing.assert_close(run(ours, x), run(theirs, x))
    ours(x)[0].sum().backward()
    theirs(x)[0].sum().backward()
    torch.testing.assert_close(ours.weight_ih_l0.grad, theirs.weight_ih_l0.grad)
    with pytest.raises(ValueError, match="freeze=True is for inference"):
        fastlstm.torch.accelerate(ours, freeze=True)
    assert FROZEN in ours.__dict__  # refused: as it was


def test_refused_before_anything_changes() -> None:
    model = torch.nn.Sequential(torch.nn.LSTM(5, 7).eval(), torch.nn.LSTM(7, 7).train())
    with pytest.raises(ValueError, match="a layer is in training mode"):
        fastlstm.torch.accelerate(model, freeze=True)
    assert [type(module) for module in model] == [torch.nn.LSTM, torch.nn.LSTM]
    with pytest.raises(TypeError, match="freeze must be"):
        fastlstm.torch.accelerate(model, freeze=1.5)  # type: ignore[arg-type]


def test_restore_and_files_know_nothing_of_it() -> None:
    ours, _ = pair()
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert type(loaded) is torch.nn.LSTM
    assert FROZEN not in loaded.__dict__
    twin = copy.deepcopy(ours)
    assert FROZEN in twin.__dict__
    x = torch.randn(4, 3, 5)
    with torch.no_grad():
        twin.weight_hh_l0.mul_(2)
    assert not torch.equal(run(twin, x), run(ours, x))
    assert FROZEN not in fastlstm.torch.restore(ours).__dict__


def test_threads_share_a_frozen_model() -> None:
    ours, theirs = pair()
    x = torch.randn(4, 3, 5)
    expected, wrong = run(theirs, x), []

    def work() -> None:
        for _ in range(50):
            if not torch.allclose(run(ours, x), expected, atol=1e-6):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
