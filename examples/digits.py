# SPDX-License-Identifier: BSD-3-Clause
"""Handwritten digits: a scan is a sequence of 8 rows of 8 pixels.

One classifier is bidirectional, sees the whole scan, and is trained in both engines; the other
reads row by row and names the digit after every row. Both engines then run the weights that PyTorch
has learned.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from classifier import Series
from classifier_torch import TorchClassifier
from digits_training import BATCH, HIDDEN, DigitTraining, train
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timing import ENGINES, Timing, compare
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from tqdm import tqdm

import fastlstm

ROWS = 8

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


class RowByRow(torch.nn.Module):
    """Causal LSTM whose every output names the digit as well as the rows so far allow."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(8, HIDDEN)
        self.linear = torch.nn.Linear(HIDDEN, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 8, 8) -> (B, 10, 8): logits after each row, laid out for cross_entropy."""
        y, _ = self.lstm(x.transpose(0, 1))
        return self.linear(y).permute(1, 2, 0)


def _train(model: RowByRow, x: Floats, labels: Ints, epochs: int) -> None:
    inputs, targets = torch.from_numpy(x), torch.from_numpy(labels)
    steps = epochs * -(-len(inputs) // BATCH)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    with tqdm(total=steps, desc="row by row", unit="update", mininterval=0.5) as bar:
        for _ in range(epochs):
            for chosen in torch.randperm(len(inputs)).split(BATCH):
                target = targets[chosen, None].expand(-1, ROWS)  # one answer per row
                loss = torch.nn.functional.cross_entropy(model(inputs[chosen]), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()


class TorchReader:
    """Both classifiers as PyTorch runs them."""

    def __init__(self, whole: TorchClassifier, by_row: RowByRow) -> None:
        self.whole, self.by_row = whole, by_row

    def bidirectional(self, x: torch.Tensor, lengths: torch.Tensor | None = None):  # type: ignore[no-untyped-def]
        """(B, 8, 8), with `lengths` only the first rows of each -> y, (h_n, c_n)."""
        if lengths is None:
            return self.whole.lstm(x)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, state = self.whole.lstm(packed)
        return pad_packed_sequence(y, batch_first=True, total_length=ROWS)[0], state

    def read(self, x: Floats, lengths: Ints | None = None) -> list[Floats]:
        """Everything computed on the way to the logits, which come last."""
        valid = None if lengths is None else torch.from_numpy(lengths)
        y, (h_n, c_n) = self.bidirectional(torch.from_numpy(x), valid)
        logits = self.whole.linear(torch.cat((h_n[0], h_n[1]), dim=1))
        return [a.numpy() for a in (y, h_n, c_n, logits)]

    def read_rows(self, x: Floats) -> list[Floats]:
        """Logits after each row, the state carried from row to row by the caller."""
        state, logits = None, []
        for row in torch.from_numpy(x).unbind(1):
            y, state = self.by_row.lstm(row[None], state)
            logits.append(self.by_row.linear(y[0]).numpy())
        return logits


class FastReader:
    """Both classifiers as fastlstm runs them; the linear layers are two NumPy arrays each."""

    def __init__(self, whole: TorchClassifier, by_row: RowByRow) -> None:
        self.bidirectional = fastlstm.LSTM(8, HIDDEN, batch_first=True, bidirectional=True)
        self.bidirectional.load_state_dict(whole.lstm.state_dict())
        self.causal = fastlstm.LSTM.from_torch(by_row.lstm)
        self.weight, self.bias = (p.detach().numpy() for p in whole.linear.parameters())
        self.row_weight, self.row_bias = (p.detach().numpy() for p in by_row.linear.parameters())

    def read(self, x: Floats, lengths: Ints | None = None) -> list[Floats]:
        """Everything computed on the way to the logits, which come last."""
        y, (h_n, c_n) = self.bidirectional(x, lengths=lengths)
        logits = np.concatenate((h_n[0], h_n[1]), axis=1) @ self.weight.T + self.bias
        return [y, h_n, c_n, logits]

    def read_rows(self, x: Floats) -> list[Floats]:
        """Logits after each row, the state carried by the stream."""
        stream = self.causal.stream(batch_size=len(x))
        rows = np.ascontiguousarray(x.transpose(1, 0, 2))
        return [stream(row) @ self.row_weight.T + self.row_bias for row in rows]


@dataclass(frozen=True)
class DigitsResult:
    """What the digits part found; the dictionaries are keyed by engine."""

    scans: Floats  # (N, 8, 8), the test scans
    labels: Ints  # (N,)
    predictions: dict[str, Ints]  # (N,), bidirectional, whole scans
    ragged_predictions: dict[str, Ints]  # (N,), bidirectional, the first 3 to 8 rows
    row_predictions: dict[str, Ints]  # (8, N), streamed, after each row
    difference: float  # largest |PyTorch - fastlstm| over all outputs, states and logits
    errors: dict[str, float]  # largest difference to PyTorch in float64, over the same
    timings: list[Timing]
    training: DigitTraining

    @property
    def same(self) -> bool:
        """Whether both engines made the same predictions in all three experiments."""
        return all(
            np.array_equal(*(by_engine[engine] for engine in ENGINES))
            for by_engine in (self.predictions, self.ragged_predictions, self.row_predictions)
        )

    def accuracy(self, predictions: dict[str, Ints]) -> dict[str, Floats]:
        """Share named rightly, by engine; of (8, N) predictions after each row."""
        return {engine: np.mean(p == self.labels, axis=-1) for engine, p in predictions.items()}


def run(quick: bool) -> DigitsResult:
    """Trains, hands PyTorch's weights over, compares the outputs, times both engines."""
    bunch = load_digits()
    scans = (bunch.images / 16).astype(np.float32)
    train_x, x, train_labels, labels = train_test_split(
        scans, bunch.target.astype(np.int64), test_size=450, random_state=0, stratify=bunch.target
    )
    epochs = 3 if quick else 40
    training = train(Series(train_x, train_labels), Series(x, labels), epochs)
    torch.manual_seed(0)
    whole, by_row = training.model, fastlstm.torch.accelerate(RowByRow())
    _train(by_row, train_x, train_labels, epochs)
    fastlstm.torch.restore(by_row)  # it is PyTorch's own again

    torch_reader, fast_reader = TorchReader(whole.eval(), by_row.eval()), FastReader(whole, by_row)
    readers = dict(zip(ENGINES, (torch_reader, fast_reader), strict=True))
    lengths = np.random.default_rng(0).integers(3, ROWS + 1, size=len(x))
    with torch.inference_mode():
        outputs = {engine: _experiments(readers[engine], x, lengths) for engine in ENGINES}
        wide = TorchReader(deepcopy(whole).double(), deepcopy(by_row).double())
        exact = _experiments(wide, x.astype(np.float64), lengths)
        budget = 0.05 if quick else 1.5
        with tqdm(total=4, desc="timing both engines on digits", unit="task") as bar:
            timings = [training.course.timing(f"training update, {BATCH} scans")]
            for task, calls in _tasks(torch_reader, fast_reader, x, lengths):
                timings.append(compare(task, calls, budget))
                bar.update()

    return DigitsResult(
        scans=x,
        labels=labels,
        predictions={e: outputs[e]["whole"][-1].argmax(-1) for e in ENGINES},
        ragged_predictions={e: outputs[e]["ragged"][-1].argmax(-1) for e in ENGINES},
        row_predictions={e: np.stack(outputs[e]["rows"]).argmax(-1) for e in ENGINES},
        difference=_largest_difference(*(outputs[e] for e in ENGINES)),
        errors={e: _largest_difference(outputs[e], exact) for e in ENGINES},
        timings=timings,
        training=training,
    )


def _experiments(
    reader: TorchReader | FastReader, x: Floats, lengths: Ints
) -> dict[str, list[Floats]]:
    return {
        "whole": reader.read(x),
        "ragged": reader.read(x, lengths),
        "rows": reader.read_rows(x),
    }


def _largest_difference(one: dict[str, list[Floats]], other: dict[str, list[Floats]]) -> float:
    return max(
        float(np.abs(a - b).max())
        for name in one
        for a, b in zip(one[name], other[name], strict=True)
    )


def _tasks(
    torch_reader: TorchReader, fast_reader: FastReader, x: Floats, lengths: Ints
) -> Iterator[tuple[str, dict[str, Callable[[], object]]]]:
    """Yields (task, engine -> call): LSTM calls only, inputs ready in the engine's own type."""
    theirs, ours = torch_reader.bidirectional, fast_reader.bidirectional
    for task, size in (("one scan", 1), (f"batch of {BATCH} scans", BATCH)):
        batch, batch_torch = x[:size], torch.from_numpy(x[:size])
        calls = (lambda b=batch_torch: theirs(b), lambda b=batch: ours(b))
        yield task, dict(zip(ENGINES, calls, strict=True))

    valid, valid_torch = lengths[:BATCH], torch.from_numpy(lengths[:BATCH])
    calls = (lambda: theirs(batch_torch, valid_torch), lambda: ours(batch, lengths=valid))
    yield f"ragged batch of {BATCH}", dict(zip(ENGINES, calls, strict=True))

    lstm_torch, state, stream = torch_reader.by_row.lstm, None, fast_reader.causal.stream()
    row = np.ascontiguousarray(x[:1, 3])
    row_torch = torch.from_numpy(row)[None]

    def torch_step() -> None:
        nonlocal state
        _, state = lstm_torch(row_torch, state)

    yield "one streaming step", dict(zip(ENGINES, (torch_step, lambda: stream(row)), strict=True))
