# SPDX-License-Identifier: BSD-3-Clause
"""The training steps that the benchmark runs: batches that real models are trained with, and the
targets. As in `zoo`, but for the task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from . import zoo
from .shapes import Shape
from .zoo import Target


def _of_zoo(name: str, **changes: Any) -> Shape:
    """A model of the inference zoo, with what training changes."""
    (shape,) = (shape for shape in zoo.ZOO if shape.name == name)
    return replace(shape, train=True, **changes)


ZOO: tuple[Shape, ...] = (
    _of_zoo("uci-har"),
    _of_zoo("uci-har-double"),
    _of_zoo("neuralhydrology"),
    _of_zoo("neuralhydrology-531"),
    _of_zoo("deepar-electricity"),
    _of_zoo("ptb-small"),
    _of_zoo("ptb-medium"),
    Shape(
        "word-language-model",
        "word language model of PyTorch's examples",
        "pytorch/examples word_language_model/main.py: 200 -> 200 x 2, bptt 35, batch 20",
        *(35, 20, 200, 200),
        layers=2,
        train=True,
    ),
    _of_zoo("char-rnn"),
    _of_zoo(
        "awd-lstm-middle",
        model="AWD-LSTM language model, middle layer",
        source="salesforce/awd-lstm-lm main.py: nhid 1150, bptt 70, batch 80",
        B=80,
    ),
    Shape(
        "flair-tutorial",
        "Flair character language model, as its tutorial trains one",
        "flairNLP/flair TUTORIAL_9_TRAINING_LM_EMBEDDINGS.md: hidden 128, sequence 10, batch 10; "
        "embedding 100",
        *(10, 10, 100, 128),
        train=True,
    ),
    _of_zoo("crnn"),
    _of_zoo("japanese-vowels"),
    _of_zoo("ner-blstm"),
    _of_zoo("esim-encoder"),
    _of_zoo("keras-imdb"),
    _of_zoo("deepfilternet-clip", B=32),
    _of_zoo("dcase-crnn", B=48),
    _of_zoo("lstnet"),
    _of_zoo("ett-gru"),
    _of_zoo("tacotron-cbhg", B=32),
    _of_zoo("seq2seq-encoder"),
    Shape(
        "tf-text-generation",
        "text generation tutorial of TensorFlow",
        "tensorflow/docs tutorials/text/text_generation.ipynb: 256 -> 1024, 100 steps, batch 64",
        *(100, 64, 256, 1024),
        train=True,
        cell="gru",
    ),
    _of_zoo("ge2e-speaker"),
    _of_zoo("min-char-rnn"),
    _of_zoo("word-language-rnn"),
)


def _plain(T: int, B: int, I: int, H: int, **options: Any) -> Shape:  # noqa: E741
    return zoo.plain(T, B, I, H, train=True, **options)


RATIOS: tuple[tuple[Shape, float], ...] = (
    (_plain(100, 8, 256, 256), 1.15),
    (_plain(100, 32, 256, 256), 1.3),
    (_plain(50, 64, 512, 512), 1.1),
    (_plain(25, 128, 1024, 1024), 1.05),
    (_plain(365, 256, 32, 64), 3.0),
    (_plain(128, 64, 9, 32), 1.9),
    *((_plain(100, 1, h, h), 1.5) for h in (128, 256, 512, 1024)),
    *((_plain(100, 32, h, h, ragged=True), 3.0) for h in (128, 256)),
    (_plain(29, 32, 12, 64, bidirectional=True, ragged=True), 4.0),
    (_plain(100, 32, 256, 256, dtype="float64"), 1.8),
    (_plain(128, 64, 9, 32, dtype="float64"), 1.8),
    (_plain(100, 32, 256, 256, cell="gru"), 2.5),
    (_plain(100, 32, 256, 256, proj=128), 1.8),
)
"""Each shape, and how many times as fast as PyTorch's training step ours must be."""


def _targets() -> tuple[Target, ...]:
    targets = []
    for threads in (1, 2):
        for shape, ratio in RATIOS:
            adapter = "fastlstm.torch-packed" if shape.ragged else "fastlstm.torch"
            targets += [
                Target(shape, "torch", ratio, threads),
                Target(shape, "torch", 1.0, threads, "memory"),
                Target(shape, adapter, 1.0, threads, "adapter"),
            ]
    return tuple(targets)


TARGETS: tuple[Target, ...] = _targets()


def find(names: list[str]) -> list[Shape]:
    """The training steps of these names; names of the inference zoo are trained as they are.

    Raises ValueError for others, and for streams.
    """
    known = {shape.name: shape for shape in (*ZOO, *(target.shape for target in TARGETS))}
    others = [name for name in names if name not in known]
    if others:
        known |= {shape.name: replace(shape, train=True) for shape in zoo.find(others)}
    return [known[name] for name in names]
