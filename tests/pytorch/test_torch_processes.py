# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm.torch in several processes: DistributedDataParallel and DataLoader workers."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import fastlstm
from support.processes import check, run

pytest.importorskip("torch")

MODEL = """
import torch, fastlstm.torch
torch.set_num_threads(1)

class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 16, 2, bidirectional=True, batch_first=True)
        self.rnn = torch.nn.RNN(32, 8, batch_first=True)
        self.out = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.rnn(self.lstm(x)[0])[0][:, -1])

def data():
    g = torch.Generator().manual_seed(1)
    return torch.randn(5, 8, 6, 3, generator=g), torch.randint(0, 4, (5, 8), generator=g)

def model():
    torch.manual_seed(0)
    return fastlstm.torch.accelerate(Tagger())

def train(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    gradients = []
    for x, labels in batches:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        gradients.append([p.grad.flatten().tolist() for p in model.parameters()])
        optimizer.step()
    return gradients
"""

DISTRIBUTED = (
    MODEL
    + """
import json, os, sys
rank, store = int(sys.argv[1]), sys.argv[2]
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
import torch.distributed as dist
dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
ddp = torch.nn.parallel.DistributedDataParallel(model())
assert type(ddp.module.lstm) is fastlstm.torch.LSTM
mine = [(x[rank::2], labels[rank::2]) for x, labels in zip(*data())]
print(json.dumps(train(ddp, mine)))
dist.destroy_process_group()
"""
)

ALONE = (
    MODEL
    + """
import json
print(json.dumps(train(model(), list(zip(*data())))))
"""
)


def test_distributed_data_parallel(tmp_path: Path) -> None:
    """Two processes with half of each batch: the gradients of one process with the whole."""
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(check, DISTRIBUTED, str(r), str(tmp_path / "store")) for r in (0, 1)]
        first, second = (json.loads(job.result().splitlines()[-1]) for job in jobs)
    want = json.loads(check(ALONE))
    assert first == second
    assert len(want) == 5
    for step_found, step_want in zip(first, want, strict=True):
        scale = max(abs(v) for tensor in step_want for v in tensor)
        for found, wanted in zip(step_found, step_want, strict=True):
            # The order of the sum over the batch differs, in five steps with feedback.
            assert found == pytest.approx(wanted, rel=0, abs=4e-6 * scale)


def test_data_loader_workers() -> None:
    """Forked workers run the model that their parent has used, with threads, while it trains."""
    check(
        MODEL
        + """
import fastlstm
from torch.utils.data import DataLoader, Dataset

teacher = fastlstm.torch.LSTM(64, 128, batch_first=True)
inputs = torch.randn(12, 30, 64)
fastlstm.set_num_threads(2)
with torch.no_grad():
    for _ in range(3):  # the packed weights that the workers inherit are kept ones
        want = teacher(inputs)[0]

class Features(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        with torch.no_grad():
            return index, teacher(inputs[index : index + 1])[0][0]

student = fastlstm.torch.LSTM(64, 128, batch_first=True)
loader = DataLoader(Features(), batch_size=4, num_workers=2, multiprocessing_context="fork")
seen = []
for rows, features in loader:
    assert torch.equal(features, want[rows])
    (student(inputs[rows])[0] - features).square().mean().backward()
    seen += rows.tolist()
assert sorted(seen) == list(range(12))
assert student.weight_hh_l0.grad.abs().max() > 0
"""
    )


def test_training_in_a_forked_child() -> None:
    """The whole training step works on the other side of a fork, with the same gradients."""
    check(
        MODEL
        + """
import multiprocessing
batches = list(zip(*data()))
want = train(model(), batches)
context = multiprocessing.get_context("fork")
queue = context.Queue()
child = context.Process(target=lambda: queue.put(train(model(), batches)))
child.start()
assert queue.get(timeout=50) == want
child.join()
assert child.exitcode == 0
"""
    )


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_saved_model_loads_without_fastlstm(tmp_path: Path, protocol: int) -> None:
    """As plain PyTorch modules: the reader may not import fastlstm."""
    file = tmp_path / "model.pt"
    check(
        MODEL
        + f"""
import pickle
class Lazy(torch.nn.LSTMCell):  # a class of the script's own is found by its name
    def extra_repr(self):
        return "mine"

whole = torch.nn.ModuleDict({{"lstm": torch.nn.LSTM(3, 8), "cell": torch.nn.LSTMCell(8, 4)}})
whole["rnn"] = torch.nn.RNN(8, 8, 2)
torch.manual_seed(0)
fastlstm.torch.accelerate(whole)
x = torch.ones(4, 2, 3)
y = whole["lstm"](x)[0]
torch.save([whole, x, y], {str(file)!r}, pickle_protocol={max(protocol, 2)})
open({str(file) + ".pkl"!r}, "wb").write(pickle.dumps([whole, x, y], {protocol}))
"""
    )
    check(
        f"""
        import sys
        sys.modules["fastlstm"] = None  # an import of it fails
        import pickle, torch
        torch.set_num_threads(1)
        for whole, x, y in (
            torch.load({str(file)!r}, weights_only=False),
            pickle.load(open({str(file) + ".pkl"!r}, "rb")),
        ):
            assert type(whole["lstm"]) is torch.nn.LSTM
            assert type(whole["cell"]) is torch.nn.LSTMCell
            assert type(whole["rnn"]) is torch.nn.RNN
            found = whole["lstm"](x)[0]
            assert torch.allclose(found, y, atol=1e-6)
            whole["cell"](found[-1])[0].sum().backward()
            assert whole["lstm"].weight_hh_l0.grad is not None
            copied = whole["lstm"].double()(x.double())[0]
            assert torch.allclose(copied.float(), y, atol=1e-6)
        """
    )


def test_accelerated_model_travels_to_a_spawned_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        MODEL
        + """
def work(model, x, queue):
    assert type(model.lstm) is torch.nn.LSTM
    plain = model(x).detach()
    queue.put([plain.tolist(), fastlstm.torch.accelerate(model)(x).tolist()])

if __name__ == "__main__":
    import torch.multiprocessing
    context = torch.multiprocessing.get_context("spawn")
    queue, whole, x = context.Queue(), model(), torch.ones(2, 4, 3)
    child = context.Process(target=work, args=(whole, x, queue))
    child.start()
    plain, fast = (torch.tensor(found) for found in queue.get(timeout=50))
    child.join()
    assert child.exitcode == 0
    assert torch.equal(fast, whole(x))
    assert torch.allclose(plain, whole(x), atol=1e-6)
"""
    )
    check(f"import runpy; runpy.run_path({str(script)!r}, run_name='__main__')")


def test_an_exported_program_says_what_to_import(tmp_path: Path) -> None:
    file = tmp_path / "program.pt2"
    check(
        f"""
        import torch, fastlstm.torch
        lstm = fastlstm.torch.accelerate(torch.nn.LSTM(3, 8))
        torch.export.save(torch.export.export(lstm, (torch.ones(4, 2, 3),)), {str(file)!r})
        """
    )
    finished = run(
        f"""
        import torch
        try:
            torch.export.load({str(file)!r})
        except Exception:
            pass
        else:
            raise AssertionError
        import fastlstm.torch
        program = torch.export.load({str(file)!r})
        assert program.module()(torch.ones(4, 2, 3))[0].shape == (4, 2, 8)
        """
    )
    assert finished.code == 0, finished
    assert "import the custom op" in finished.err
    assert "as_string=fastlstm.torch" in finished.err


@pytest.mark.deep
def test_inductor_keeps_builds_apart(tmp_path: Path) -> None:
    """What it wrote to disk for one instruction set has tapes of another size than the next."""
    for isa in fastlstm.available_isas():
        check(
            """
            import torch, fastlstm.torch
            lstm = fastlstm.torch.accelerate(torch.nn.LSTM(3, 40))
            x = torch.randn(4, 2, 3)
            torch.compile(lstm, fullgraph=True)(x)[0].sum().backward()
            found = lstm.weight_hh_l0.grad.clone()
            lstm.zero_grad()
            lstm(x)[0].sum().backward()
            assert torch.allclose(found, lstm.weight_hh_l0.grad, atol=1e-5)
            """,
            env={"FASTLSTM_ISA": isa, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
        )
