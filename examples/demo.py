# SPDX-License-Identifier: BSD-3-Clause
"""fastlstm against PyTorch on real input, training and inference: handwritten digits, English text.

Run it with `make demo`, or `python examples/demo.py` where fastlstm, torch, scikit-learn,
matplotlib and tqdm are installed. Prints a report, writes demo.png to the current directory and
ends with status 1 should the two engines ever disagree on a digit or a character.
"""

import argparse
import sys
import textwrap
from time import perf_counter

import digits
import numpy as np
import text
import torch
from digits_training import WAYS, DigitTraining
from figure import draw
from settings import use_threads
from timing import ENGINES, readable

import fastlstm

PICTURE = "demo.png"


def heading(title: str) -> None:
    """A title over what follows."""
    print(f"\n{title}\n{'-' * len(title)}", flush=True)


def yes(same: bool) -> str:
    """How a report says it."""
    return "yes" if same else "NO"


def errors(by_engine: dict[str, float]) -> str:
    """One number for each engine."""
    return ", ".join(f"{engine} {by_engine[engine]:.1e}" for engine in ENGINES)


def report_digit_training(training: DigitTraining) -> None:
    """Seconds, accuracies and how far apart the loss curves are."""
    course = training.course
    updates, whole = len(course.losses["PyTorch"]), course.total("PyTorch")
    print(f"{updates} updates from the same weights with the same batches, then test accuracy:")
    for way in WAYS:
        seconds = course.total(way)
        print(f"{way:<21} {seconds:6.2f} s ({whole / seconds:.1f} x), {training.accuracy[way]:.2%}")
    print("largest relative difference of the losses to PyTorch's:")
    for way in WAYS[1:]:
        first, all_ = (course.difference(way, "PyTorch", count) for count in (100, None))
        print(f"  {way:<21} {first:.1e} over the first 100 updates, {all_:.1e} over all")


def report_digits(result: digits.DigitsResult) -> None:
    """Accuracy, agreement, and what reading row by row yields."""
    report_digit_training(result.training)
    accuracy = result.accuracy(result.predictions)
    by_row = result.accuracy(result.row_predictions)
    for engine in ENGINES:
        print(f"{engine:<9} test accuracy: {accuracy[engine]:.2%} of {len(result.labels)} scans")
    print(f"same predictions: {yes(result.same)} (whole scans, 3 to 8 rows of each, row by row)")
    print(f"largest difference of outputs, states and logits: {result.difference:.1e}")
    print("  largest error against float64:", errors(result.errors))
    print("right after 1, 2, ... 8 rows, streamed through fastlstm:", end=" ")
    print(", ".join(f"{share:.0%}" for share in np.atleast_1d(by_row["fastlstm"])))


def report_text(result: text.TextResult) -> None:
    """Bits per character and the continuation, twice should they differ."""
    print(
        f"{result.characters:,} characters of Python's own documentation, {result.alphabet} "
        f"different ones; the last {result.held_out:,} held out"
    )
    training = result.training
    print("an unchanged PyTorch training script on a plain and on an accelerated model:")
    updates = len(training.losses["PyTorch"])
    for engine, kind in zip(ENGINES, ("plain", "accelerated"), strict=True):
        seconds = sum(training.seconds[engine][:updates])
        print(f"  {kind:<11} first {updates} updates in {seconds:.2f} s")
    print(
        f"  {'accelerated':<11} all {len(training.losses['fastlstm'])} updates in "
        f"{training.total('fastlstm'):.2f} s; largest relative difference of the first 100 losses: "
        f"{training.difference('fastlstm', 'PyTorch', 100):.1e}"
    )
    for engine in ENGINES:
        print(f"{engine:<9} bits per held-out character: {result.bits[engine]:.6f}")
    print(f"largest difference of held-out logits: {result.difference:.1e}")
    print("  largest error against float64:", errors(result.largest_errors))
    print("  mean error against float64:", errors(result.errors))
    print(f"same continuation: {yes(result.same)}")
    for engine in ENGINES if not result.same else ENGINES[-1:]:
        print(
            f"\n{'both engines' if result.same else engine} wrote after the prompt in brackets:\n"
        )
        written = f"[{result.prompt}]{result.continuation[engine]}"
        for line in written.split("\n"):
            # The model does not always remember to break its lines; indents are its own.
            for piece in textwrap.wrap(line, 90, replace_whitespace=False) or [""]:
                print(f"  | {piece}".rstrip())


def report_summary(digit: digits.DigitsResult, prose: text.TextResult) -> None:
    """All times in one table, all agreements in one line."""
    row = "{:<34}{:>12}{:>12}{:>10}".format
    print(row("time per call or update", *ENGINES, "ratio"))
    for timing in (*digit.timings, *prose.timings):
        times = (readable(timing.seconds[engine]) for engine in ENGINES)
        print(row(timing.task, *times, f"{timing.ratio:.1f} x"))
    accuracy = digit.accuracy(digit.predictions)
    print(row("test accuracy", *(f"{accuracy[e]:.2%}" for e in ENGINES), ""))
    print(row("bits per character", *(f"{prose.bits[e]:.4f}" for e in ENGINES), ""))
    print(f"same predictions: {yes(digit.same)}; same continuation: {yes(prose.same)}")


def main() -> int:
    """Runs both parts; the exit status says whether the engines agreed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="train for a moment only (for tests)")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of both engines (default 1: models this small gain nothing in PyTorch)",
    )
    options = parser.parse_args()
    start = perf_counter()
    use_threads(options.threads)
    print(
        f"fastlstm {fastlstm.__version__} ({fastlstm.available_isas()[0]}) and "
        f"PyTorch {torch.__version__}, float32, threads for each: {options.threads}"
    )

    heading("Handwritten digits")
    digit = digits.run(options.quick)
    report_digits(digit)
    heading("English text")
    prose = text.run(options.quick)
    report_text(prose)
    heading("Summary: medians of warm calls, the engines in turn")
    report_summary(digit, prose)
    draw(digit, prose, PICTURE)
    print(f"picture: {PICTURE}; the demo took {perf_counter() - start:.0f} s")
    return 0 if digit.same and prose.same else 1


if __name__ == "__main__":
    sys.exit(main())
