# SPDX-License-Identifier: BSD-3-Clause
"""How long LSTMClassifier takes to fit, beside the same model trained in PyTorch.

Both fit by turns, so that whatever else the machine does strikes both alike; each in a process of
its own, whose least time counts. Accuracies are those of cross-validation, three folds of the
training set, means over random states. Data: JapaneseVowels and BasicMotions in ../shared/data, as
the tests read them.

    python bench/sklearn_fit.py [--rounds 5] [--threads 1 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
ENGINES = ("fastlstm", "PyTorch")
SEEDS = 5
SHARED: dict[str, Any] = {"bidirectional": True, "batch_size": 16, "random_state": 0}
MODELS: dict[str, dict[str, Any]] = {
    "japanese_vowels": {"hidden_size": 64, "max_iter": 12, "learning_rate": 5e-3},
    "basic_motions": {
        "cell": "gru",
        "hidden_size": 64,
        "max_iter": 40,
        "learning_rate": 1e-2,
        "batch_size": 8,
        "pooling": "mean",
    },
}


def work(engine: str, data: str, threads: int) -> None:
    """Answers every line on standard input: "fit" with seconds, "score" with an accuracy."""
    sys.path.append(str(TESTS))
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline

    from fastlstm.sklearn import LSTMClassifier, SequenceScaler
    from support.series import read_ts

    options = SHARED | MODELS[data]
    if engine == "fastlstm":
        model: Any = LSTMClassifier(num_threads=threads, **options)
    else:
        import torch

        from support.torch_classifier import TorchClassifier

        torch.set_num_threads(threads)
        model = TorchClassifier(**options)
    X, y = read_ts(data, "TRAIN")
    scaled = SequenceScaler().fit_transform(X)
    for line in sys.stdin:
        if line.strip() == "fit":
            start = perf_counter()
            model.fit(scaled, y)
            print(json.dumps(perf_counter() - start), flush=True)
        else:
            folds = StratifiedKFold(3, shuffle=True, random_state=0)
            scores = []
            for seed in range(SEEDS):
                pipeline = make_pipeline(SequenceScaler(), model.set_params(random_state=seed))
                scores.append(cross_val_score(pipeline, X, y, cv=folds).mean())
            print(json.dumps(sum(scores) / SEEDS), flush=True)


def compare(data: str, threads: int, rounds: int) -> None:
    """Prints a line of each engine."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    workers = {
        engine: subprocess.Popen(
            [sys.executable, __file__, "--work", engine, data, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for engine in ENGINES
    }

    def ask(engine: str, what: str) -> float:
        worker = workers[engine]
        assert worker.stdin is not None
        assert worker.stdout is not None
        worker.stdin.write(what + "\n")
        worker.stdin.flush()
        return float(json.loads(worker.stdout.readline()))

    seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine in ENGINES:
            seconds[engine].append(ask(engine, "fit"))
    for engine in ENGINES:
        accuracy = ask(engine, "score")
        print(
            f"{data:<16} {threads} thread{'s' if threads > 1 else ' '} {engine:<9} "
            f"fit {min(seconds[engine]):7.3f} s, cross-validated accuracy {accuracy:.4f}",
            flush=True,
        )
    for worker in workers.values():
        worker.communicate()


def main() -> None:
    """Compares on both data sets, or serves one side of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work[0], options.work[1], int(options.work[2]))
        return
    for data in MODELS:
        for threads in options.threads:
            compare(data, threads, options.rounds)


if __name__ == "__main__":
    main()
