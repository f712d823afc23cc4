# SPDX-License-Identifier: BSD-3-Clause
"""Which of nine speakers said it? Trains on a ragged data set, in NumPy or PyTorch.

270 training and 370 test utterances of 7 to 29 frames of 12 coefficients: a ragged batch through a
bidirectional LSTM. Utterances are made up by the rule in made_up.py, or are those of the data set
JapaneseVowels (UCI Machine Learning Repository, CC BY 4.0) with --data: the folder of its two files
in the .ts format of timeseriesclassification.com. Both engines start from the same weights and see
the same batches.
"""

import argparse
import sys
from pathlib import Path

import classifier
import made_up
import numpy as np
from classifier import Series, Update, planned
from settings import Floats, chosen_engines, use_threads
from timing import Training, train_in_turn

FILES = "JapaneseVowels_TRAIN.ts and JapaneseVowels_TEST.ts"
WHERE = "timeseriesclassification.com"
HIDDEN, BATCH, PEAK_RATE = 64, 30, 3e-3


def read_ts(path: Path) -> tuple[list[Floats], list[str]]:
    """Sequences (T, I) and labels of a .ts file: a line each, channels and label parted by ':'."""
    sequences, labels = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines[lines.index("@data") + 1 :]:
        *channels, label = line.split(":")
        columns = [np.array(channel.split(","), dtype=np.float32) for channel in channels]
        sequences.append(np.stack(columns, axis=1))
        labels.append(label.strip())
    return sequences, labels


def load(folder: Path) -> tuple[Series, Series]:
    """Training and test set; every coefficient has mean 0 and deviation 1 in training."""
    read = [read_ts(folder / f"JapaneseVowels_{part}.ts") for part in ("TRAIN", "TEST")]
    frames = np.concatenate(read[0][0])
    mean, deviation = frames.mean(axis=0), frames.std(axis=0)
    names = sorted(set(read[0][1]))
    longest = max(len(sequence) for sequences, _ in read for sequence in sequences)
    sets = []
    for sequences, labels in read:
        x = np.zeros((len(sequences), longest, len(mean)), dtype=np.float32)
        for row, sequence in zip(x, sequences, strict=True):
            row[: len(sequence)] = (sequence - mean) / deviation
        lengths = np.array([len(sequence) for sequence in sequences])
        sets.append(Series(x, np.array([names.index(label) for label in labels]), lengths))
    return sets[0], sets[1]


def run(
    engines: tuple[str, ...], seed: int, data: tuple[Series, Series], plan: list[Update], what: str
) -> tuple[Training, dict[str, float]]:
    """Trains in each engine from the same weights; losses and seconds, test accuracies."""
    series, test = data
    ours = classifier.Classifier(12, HIDDEN, 9, seed)
    scripts, models = {"fastlstm": classifier}, {"fastlstm": ours}
    if "torch" in engines:
        import classifier_torch

        scripts["torch"] = classifier_torch
        models["torch"] = classifier_torch.with_weights(ours.parameters())
    runs = {e: scripts[e].train(models[e], series, plan) for e in engines}
    course = train_in_turn(runs, len(plan), what)
    return course, {e: scripts[e].accuracy(models[e], test) for e in engines}


def main() -> int:
    """Trains with one engine or with both and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=("fastlstm", "torch", "both"), default="fastlstm")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the batches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, help=f"folder of {FILES}, from {WHERE}")
    options = parser.parse_args()
    engines = chosen_engines(options.engine)
    if options.data is not None and not (options.data / "JapaneseVowels_TRAIN.ts").exists():
        print(
            f"no JapaneseVowels_TRAIN.ts in {options.data}: download JapaneseVowels in the .ts "
            f"format from {WHERE} and name its folder with --data, or leave --data out",
            file=sys.stderr,
        )
        return 2
    use_threads(options.threads)
    data = made_up.utterances() if options.data is None else load(options.data)
    plan = planned(len(data[0].labels), BATCH, options.epochs, PEAK_RATE, options.seed)
    run(engines, options.seed, data, plan[:10], "warm-up")
    course, accuracies = run(engines, options.seed, data, plan, "training")
    for engine in engines:
        epochs = np.array_split(course.losses[engine], options.epochs)
        for epoch in range(0, options.epochs, 10):
            print(f"{engine:<8} epoch {epoch + 1:3}: mean loss {epochs[epoch].mean():.4f}")
        print(
            f"{engine:<8} last mean loss {epochs[-1].mean():.5f}, test accuracy "
            f"{accuracies[engine]:.2%}, {len(plan)} updates in {course.total(engine):.2f} s"
        )
    if len(engines) == 2:
        print(
            "largest relative difference of the losses: "
            f"{course.difference('fastlstm', 'torch', 100):.1e} over the first 100 updates"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
