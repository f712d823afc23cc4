# SPDX-License-Identifier: BSD-3-Clause
"""How long the estimators take to fit, and how good they are, beside PyTorch and Keras.

The same models, sizes of batches, rates, clipping and numbers of epochs, trained by each library as
its users would write it (tests/support). All fit by turns, so that whatever else the machine does
strikes all alike; each in a process of its own that may use as many cores as there are threads.
The least time of all rounds counts. Keras has one, since each fit compiles its network anew, which
its time holds. Scores are means over the folds of `cross_val_score` and over random states, with
their standard errors over the latter.

    python bench/sklearn_fit.py [--rounds 3] [--seeds 4] [--threads 1 2] [--cases NAME ...]
                                [--engines fastlstm PyTorch Keras] [--write bench/fits/CPU.md]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from fastlstm import runtime

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))


MODULES = {  # of the estimators, and how their names begin
    "fastlstm": ("fastlstm.sklearn", "LSTM"),
    "PyTorch": ("support.torch_estimators", "Torch"),
    "Keras": ("support.keras_estimators", "Keras"),
}


def work(engine: str, name: str, threads: int) -> None:
    """Answer every line on standard input: "fit" with seconds, a number of seeds with scores."""
    cores = sorted(os.sched_getaffinity(0))
    first = [*MODULES].index(engine) if threads == 1 else 0  # scores are found side by side
    os.sched_setaffinity(0, {cores[(first + k) % len(cores)] for k in range(threads)})
    from sklearn.model_selection import cross_val_score

    from support import fit_cases

    if engine == "PyTorch":
        import torch

        torch.set_num_threads(threads)
    case = fit_cases.CASES[name]
    data = case.read()
    module, prefix = MODULES[engine]
    kind = getattr(importlib.import_module(module), prefix + case.kind)
    own = {"num_threads": threads} if engine == "fastlstm" else {}

    def model(seed: int) -> Any:
        return fit_cases.model(case, kind, seed, **own)

    for line in sys.stdin:
        if line.strip() == "fit":
            start = perf_counter()
            model(0).fit(data.X, data.y)
            answer: Any = perf_counter() - start
        else:
            answer = [
                cross_val_score(model(seed), data.X, data.y, cv=data.cv).mean()
                for seed in range(int(line))
            ]
        print(json.dumps(answer), flush=True)


class Worker:
    """A process that fits one engine's model."""

    def __init__(self, engine: str, name: str, threads: int) -> None:
        own = {"OMP_NUM_THREADS": str(threads), "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--work", engine, name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | own,
        )

    def ask(self, what: str) -> None:
        """Send a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """What it says to it."""
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a worker has ended: python {' '.join(self.process.args[1:])}")  # type: ignore[index,arg-type]
        return json.loads(answer)

    def close(self) -> None:
        """Let it end."""
        self.process.communicate()


def measured(name: str, given: argparse.Namespace) -> list[str]:
    """The rows of a table for one case."""
    from support import fit_cases

    case = fit_cases.CASES[name]
    try:
        case.read()
    except BaseException as skipped:  # what pytest.skip raises is no Exception
        if type(skipped).__name__ != "Skipped":
            raise
        return [f"| {case.kind} | {case.what} | {skipped} |{' |' * (1 + len(given.threads))}"]
    seconds: dict[tuple[str, int], float] = {}
    scores: dict[str, list[float]] = {}
    for threads in given.threads:
        workers = {engine: Worker(engine, name, threads) for engine in given.engines}
        for turn in range(given.rounds):
            for engine, worker in workers.items():
                if engine != "Keras" or turn == 0:
                    worker.ask("fit")
                    took = worker.answer()
                    seconds[engine, threads] = min(took, seconds.get((engine, threads), np.inf))
        if threads == min(given.threads):
            for engine, worker in workers.items():
                worker.ask("1" if engine == "Keras" else str(given.seeds))
            scores = {engine: worker.answer() for engine, worker in workers.items()}
        for worker in workers.values():
            worker.close()
    rows = []
    for engine in given.engines:
        times = " | ".join(f"{seconds[engine, threads]:.2f}" for threads in given.threads)
        score = f"{np.mean(scores[engine]):.3f}"
        if len(scores[engine]) > 1:
            error = np.std(scores[engine], ddof=1) / np.sqrt(len(scores[engine]))
            score += f" ± {error:.3f}"
        rows.append(f"| {case.kind} | {case.what} | {engine} | {times} | {case.score} {score} |")
    return rows


def versions(engines: list[str]) -> str:
    """Of Python and all that is compared."""
    names = {"fastlstm": ["fastlstm"], "PyTorch": ["torch"], "Keras": ["keras", "jax"]}
    found = [f"Python {platform.python_version()}"]
    for engine in engines:
        for package in names[engine]:
            from importlib.metadata import version

            found.append(f"{package} {version(package)}")
    return ", ".join(found)


def main() -> None:
    """Compare all cases, or serve one side of a comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--engines", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--write", type=Path, help="a file for the table")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(given.work[0], given.work[1], int(given.work[2]))
        return
    from support import fit_cases

    columns = [f"fit, {n} thread{'s' if n > 1 else ''}, s" for n in given.threads]
    lines = [
        "# Fitting: estimators beside PyTorch and Keras",
        "",
        f"{date.today()}, {runtime.cpu_name()}, {len(os.sched_getaffinity(0))} cores. "
        f"{versions(given.engines)}. Least of {given.rounds} fits; scores of {given.seeds} random "
        "states (Keras: one fit, one state), mean ± standard error. Layers are LSTMs of "
        f"{fit_cases.UNITS} units unless said otherwise.",
        "",
        f"| estimator | data, model | trained by | {' | '.join(columns)} | cross-validated |",
        f"|---|---|---|{'---:|' * len(columns)}---:|",
    ]
    print("\n".join(lines))
    for name in given.cases or fit_cases.CASES:
        rows = measured(name, given)
        print("\n".join(rows), flush=True)
        lines += rows
    if given.write is not None:
        given.write.parent.mkdir(parents=True, exist_ok=True)
        given.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
