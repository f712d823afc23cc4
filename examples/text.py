# SPDX-License-Identifier: BSD-3-Clause
"""A character model of the English documentation inside CPython, and its continuation.

An ordinary PyTorch script trains embedding -> two-layer LSTM -> linear on an accelerated model, and
for its first updates on a plain one, to compare; both engines then read a held-out part and write
on, character by character, with the state kept from step to step.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
import torch
from documentation import documentation
from numpy.typing import NDArray
from timing import ENGINES, Timing, Training, compare, train_in_turn
from tqdm import tqdm

import fastlstm

EMBEDDING, HIDDEN, LAYERS = 32, 128, 2
BATCH, STEPS = 16, 64  # sequences side by side in training, characters before a weight update
PROMPT = "The statement is executed, and then "
TEMPERATURE = 0.5  # below 1: the likelier characters even more often
SEED = 7

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]


class CharacterModel(torch.nn.Module):
    """Logits of the next character for each character read so far."""

    def __init__(self, characters: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(characters, EMBEDDING)
        self.lstm = torch.nn.LSTM(EMBEDDING, HIDDEN, LAYERS)
        self.linear = torch.nn.Linear(HIDDEN, characters)

    def forward(self, ids: torch.Tensor, state=None):  # type: ignore[no-untyped-def]
        """(T, B) -> (T, B, characters), state."""
        y, state = self.lstm(self.embedding(ids), state)
        return self.linear(y), state


def _train(model: CharacterModel, ids: Ints, updates: int) -> Iterator[float]:
    """Yields bits per character of every update; the state runs on from one to the next."""
    rows = len(ids) // BATCH
    columns = torch.from_numpy(ids[: rows * BATCH].reshape(BATCH, rows).T.copy())
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 8e-3, updates, pct_start=0.1)
    position, state = 0, None
    for _ in range(updates):
        if position + STEPS >= rows:
            position, state = 0, None
        window = columns[position : position + STEPS + 1]
        position += STEPS
        logits, state = model(window[:-1], state)
        state = tuple(s.detach() for s in state)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), window[1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield loss.item() / np.log(2)


def _trained(model: CharacterModel, ids: Ints, updates: int, compared: int):  # type: ignore[no-untyped-def]
    """An accelerated copy of the model, trained, and a course that has a plain one's beginning."""
    ways = {"PyTorch": deepcopy(model), "fastlstm": fastlstm.torch.accelerate(deepcopy(model))}
    warm = {engine: _train(deepcopy(way), ids, updates) for engine, way in ways.items()}
    train_in_turn(warm, 5, "warm-up")
    runs = {engine: _train(way, ids, updates) for engine, way in ways.items()}
    course = train_in_turn(runs, compared, "training on text, both")
    rest = train_in_turn({"fastlstm": runs["fastlstm"]}, updates - compared, "accelerated alone")
    course.losses["fastlstm"] += rest.losses["fastlstm"]
    course.seconds["fastlstm"] += rest.seconds["fastlstm"]
    return fastlstm.torch.restore(ways["fastlstm"]), course


class TorchWriter:
    """The model as PyTorch runs it, one character at a time with the state carried along."""

    def __init__(self, model: CharacterModel) -> None:
        self.model = model
        self.reset()

    def reset(self) -> None:
        """Forgets everything read."""
        self.state = None

    def next_logits(self, character: int) -> Floats:
        """Reads one character; (characters,) logits of the next."""
        logits, self.state = self.model(torch.tensor([[character]]), self.state)
        return logits[0, 0].numpy()

    def read(self, ids: Ints) -> Floats:
        """(T,) -> (T, characters), the whole text in one call."""
        return self.model(torch.from_numpy(ids)[:, None])[0][:, 0].numpy()


class FastWriter:
    """The model as fastlstm runs it; embedding and linear layer are NumPy arrays."""

    def __init__(self, model: CharacterModel) -> None:
        self.table = model.embedding.weight.detach().numpy()
        self.weight, self.bias = (p.detach().numpy() for p in model.linear.parameters())
        self.lstm = fastlstm.LSTM.from_torch(model.lstm)
        self.stream = self.lstm.stream()

    def reset(self) -> None:
        """Forgets everything read."""
        self.stream.reset()

    def next_logits(self, character: int) -> Floats:
        """Reads one character; (characters,) logits of the next."""
        h = self.stream(self.table[character : character + 1])
        return self.weight @ h[0] + self.bias

    def read(self, ids: Ints) -> Floats:
        """(T,) -> (T, characters), the whole text in one call."""
        y, _ = self.lstm(self.table[ids])
        return y @ self.weight.T + self.bias


def _write(writer: TorchWriter | FastWriter, prompt: Ints, length: int) -> tuple[list[int], float]:
    """`length` sampled characters after the prompt, and the seconds that each took."""
    draws = np.random.default_rng(SEED).random(length)
    writer.reset()
    for character in prompt:
        logits = writer.next_logits(int(character))
    written: list[int] = []
    start = perf_counter()
    for draw in draws:
        p = np.exp((logits - logits.max()) / TEMPERATURE, dtype=np.float64)
        cumulative = p.cumsum()
        written.append(int(cumulative.searchsorted(draw * cumulative[-1], side="right")))
        logits = writer.next_logits(written[-1])
    return written, (perf_counter() - start) / length


def _bits_per_character(logits: Floats, following: Ints) -> float:
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    nats = np.log(np.exp(wide).sum(axis=1)) - wide[np.arange(len(wide)), following]
    return float(nats.mean() / np.log(2))


@dataclass(frozen=True)
class TextResult:
    """What the text part found; the dictionaries are keyed by engine."""

    characters: int  # read in all, before the held-out part is cut off
    alphabet: int
    held_out: int
    training: Training  # of PyTorch the first updates only
    bits: dict[str, float]  # per held-out character
    prompt: str
    continuation: dict[str, str]
    difference: float  # largest |PyTorch - fastlstm| over all held-out logits
    largest_errors: dict[str, float]  # largest difference of those logits to PyTorch in float64
    errors: dict[str, float]  # mean of those differences
    timings: list[Timing]

    @property
    def same(self) -> bool:
        """Whether both engines wrote the same characters."""
        return self.continuation["PyTorch"] == self.continuation["fastlstm"]


def run(quick: bool) -> TextResult:
    """Trains, hands the weights over, reads, writes on, times both engines."""
    text = documentation()
    alphabet = sorted(set(text))
    number = {character: index for index, character in enumerate(alphabet)}
    ids = np.array([number[character] for character in text])
    held_out = ids[int(0.95 * len(ids)) :]
    torch.manual_seed(0)
    model = CharacterModel(len(alphabet))
    updates, compared = (40, 40) if quick else (2000, 250)
    model, training = _trained(model, ids[: -len(held_out)], updates, compared)
    if quick:
        held_out = held_out[:2000]

    torch_writer, fast_writer = TorchWriter(model.eval()), FastWriter(model)
    writers = dict(zip(ENGINES, (torch_writer, fast_writer), strict=True))
    prompt = np.array([number[character] for character in PROMPT])
    with torch.inference_mode():
        logits = {engine: writer.read(held_out[:-1]) for engine, writer in writers.items()}
        exact = TorchWriter(deepcopy(model).double()).read(held_out[:-1])
        written: dict[str, list[int]] = {}
        seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        rounds = 2 if quick else 9
        for _ in tqdm(range(rounds), desc="writing on with both engines", unit="text"):
            for engine, writer in writers.items():
                written[engine], spent = _write(writer, prompt, 60 if quick else 500)
                seconds[engine].append(spent)
        whole = Timing("one character, sampling included", {e: median(seconds[e]) for e in ENGINES})
        timings = [
            training.timing(f"training update, {STEPS} x {BATCH} characters"),
            compare(
                "one character, LSTM only", _steps(model.lstm, fast_writer), 0.05 if quick else 1.5
            ),
            whole,
        ]
    wrong = {engine: np.abs(logits[engine] - exact) for engine in ENGINES}
    return TextResult(
        characters=len(ids),
        alphabet=len(alphabet),
        held_out=len(held_out),
        training=training,
        bits={engine: _bits_per_character(logits[engine], held_out[1:]) for engine in ENGINES},
        prompt=PROMPT,
        continuation={e: "".join(alphabet[i] for i in written[e]) for e in ENGINES},
        difference=float(np.abs(logits["PyTorch"] - logits["fastlstm"]).max()),
        largest_errors={engine: float(wrong[engine].max()) for engine in ENGINES},
        errors={engine: float(wrong[engine].mean()) for engine in ENGINES},
        timings=timings,
    )


def _steps(lstm_torch: torch.nn.LSTM, fast_writer: FastWriter) -> dict[str, Callable[[], object]]:
    """One step of each engine's two layers, the input ready in the engine's own type."""
    stream, state = fast_writer.lstm.stream(), None
    x = np.ascontiguousarray(fast_writer.table[:1])
    x_torch = torch.from_numpy(x)[None]

    def torch_step() -> None:
        nonlocal state
        _, state = lstm_torch(x_torch, state)

    return dict(zip(ENGINES, (torch_step, lambda: stream(x)), strict=True))
