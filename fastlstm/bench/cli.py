# SPDX-License-Identifier: BSD-3-Clause
"""The ``bench`` command: which shapes, which engines, and what is written where."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import (
    chart,
    drawing,
    files,
    limits,
    peers,
    planner,
    protocol,
    report,
    runner,
    training_zoo,
    zoo,
)
from .shapes import GATES, Shape

_NEEDS = {name: engine.package for name, engine in peers.ENGINES.items()}
_NEEDS |= {
    "fastlstm.torch": "torch",
    "fastlstm.torch-frozen": "torch",
    "fastlstm.torch-packed": "torch",
    "fastlstm.torch-least": "torch",
    "onnxruntime": "onnxruntime and onnx",
    "openvino": "openvino and onnx",
}
QUICK_FLOPS = 2e9  # --quick leaves out calls of more arithmetic than this


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return value


def _engine(text: str) -> str:
    """A key of `peers.ENGINES`, also of what charts call it."""
    called = {chart.name(name).lower(): name for name in peers.ENGINES}
    return called.get(text.lower(), text)


def _options(text: str) -> dict[str, Any]:
    from ..options import given

    try:
        found = json.loads(text)
        if not isinstance(found, dict):
            raise TypeError(f"{text!r} is no object of JSON")
        given(found)
    except (TypeError, ValueError) as problem:
        raise argparse.ArgumentTypeError(str(problem)) from problem
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``python -m fastlstm bench``."""
    parser.add_argument(
        "--train",
        action="store_true",
        help="measure training steps, forward and backward, instead of inference",
    )
    parser.add_argument(
        "--planner",
        type=_positive,
        nargs="?",
        const=60,
        metavar="N",
        help="force every plan on N random shapes (60), with --train of both passes, and tell how "
        "good the chosen ones are",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shapes of --planner")
    which = parser.add_argument_group("which shapes (the zoo, unless sizes are given)")
    which.add_argument("--zoo", action="store_true", help="the shapes of real models")
    which.add_argument("--targets", action="store_true", help="the shapes with a required ratio")
    which.add_argument("--sweep", action="store_true", help="odd sizes that nothing is tuned for")
    which.add_argument("--shapes", nargs="+", metavar="NAME", help="some of them by name")
    own = parser.add_argument_group("one shape of your own")
    own.add_argument("--input-size", type=_positive, metavar="I")
    own.add_argument("--hidden-size", type=_positive, metavar="H")
    own.add_argument("--batch", type=_positive, metavar="B", help="default 1")
    own.add_argument("--steps", type=_positive, metavar="T", help="default 100, with --stream 1")
    own.add_argument("--layers", type=_positive, metavar="L", help="default 1")
    own.add_argument("--bidirectional", action="store_true")
    own.add_argument("--ragged", action="store_true", help="lengths drawn from T/8 to T")
    own.add_argument("--stream", action="store_true", help="calls of T steps that carry the state")
    own.add_argument("--dtype", choices=("float32", "float64"), help="default float32")
    own.add_argument("--cell", choices=tuple(GATES), help="default lstm")
    own.add_argument(
        "--options", type=_options, metavar="JSON", help="of an LSTM: arguments of LSTMOptions"
    )
    own.add_argument("--proj", type=_positive, metavar="P", help="project an LSTM's h to P values")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--threads",
        type=_positive,
        nargs="+",
        default=[1],
        metavar="N",
        help="threads of every engine; several numbers are measured one after another; default 1",
    )
    how.add_argument(
        "--engines",
        nargs="+",
        type=_engine,
        choices=tuple(peers.ENGINES),
        metavar="ENGINE",
        help="of " + ", ".join(peers.ENGINES) + ", or as charts call them; default: all "
        "that are installed",
    )
    how.add_argument(
        "--rounds", type=_positive, metavar="N", help="turns of each engine, default 5"
    )
    how.add_argument("--seconds", type=float, metavar="S", help="per turn, default 0.2")
    how.add_argument(
        "--quick", action="store_true", help="two short rounds, no large shapes, no memory"
    )
    how.add_argument(
        "--no-memory", action="store_true", help="don't measure training steps' memory"
    )
    how.add_argument("--no-limits", action="store_true", help="don't measure the machine itself")
    out = parser.add_argument_group("output")
    out.add_argument("--json", action="store_true", help="print JSON instead of a table")
    out.add_argument(
        "--output",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="also write each FILE: .json, or .md for Markdown; what it holds of the other of "
        "inference and training stays",
    )
    drawing.add_arguments(parser)


def choose_shapes(args: argparse.Namespace, error: Callable[[str], Any]) -> list[Shape]:
    """The shapes that the options ask for; ``error`` ends the program with a message."""
    own = ["batch", "steps", "layers", "bidirectional", "ragged", "stream", "dtype", "cell"]
    own += ["proj", "options"]
    lists: Any = training_zoo if args.train else zoo
    shapes: list[Shape] = []
    if args.input_size and args.hidden_size:
        from ..options import chosen

        try:
            chosen(args.options, args.proj or 0)
            shapes.append(
                Shape(
                    "own",
                    "",
                    "none",
                    T=args.steps or (1 if args.stream else 100),
                    B=args.batch or 1,
                    I=args.input_size,
                    H=args.hidden_size,
                    layers=args.layers or 1,
                    bidirectional=args.bidirectional,
                    ragged=args.ragged,
                    dtype=args.dtype or "float32",
                    stream=args.stream,
                    train=args.train,
                    cell=args.cell or "lstm",
                    proj=args.proj or 0,
                    options=args.options or (),
                )
            )
        except ValueError as problem:
            error(str(problem))
    elif args.input_size or args.hidden_size:
        error("--input-size and --hidden-size go together")
    elif any(getattr(args, name) for name in own):
        error("a shape of your own needs --input-size and --hidden-size")
    if args.shapes:
        try:
            shapes += lists.find(args.shapes)
        except ValueError as problem:
            error(str(problem))
    if args.zoo or not (shapes or args.targets or args.sweep):
        shapes += lists.ZOO
    if args.targets:
        shapes += [target.shape for target in lists.TARGETS]
    if args.sweep:
        odd = [shape for shape in zoo.SWEEP if not (args.train and shape.stream)]
        shapes += [replace(shape, train=args.train) for shape in odd]
    shapes = list({shape.name: shape for shape in shapes}.values())
    if args.quick and len(shapes) > 1:
        shapes = [shape for shape in shapes if limits.flops(shape) <= QUICK_FLOPS]
    return shapes


def choose_engines(
    wanted: Sequence[str] | None, error: Callable[[str], Any], task: str = "inference"
) -> list[str]:
    """Installed engines in the order of `peers.ENGINES`; a line on stderr for each left out."""
    names = [name for name in peers.ENGINES if wanted is None or name in wanted]
    for name in names:
        if wanted is not None and task not in peers.ENGINES[name].tasks:
            print(f"{name} is left out: it is not measured in {task}", file=sys.stderr)
    names = [name for name in names if task in peers.ENGINES[name].tasks]
    absent = [name for name in names if not peers.ENGINES[name].available()]
    # A variant of an absent engine needs no line of its own.
    for name in absent:
        if name.rpartition("-")[0] not in absent:
            print(
                f"{name} is left out: it needs {_NEEDS[name]}, not installed here", file=sys.stderr
            )
    present = [name for name in names if name not in absent]
    if not present:
        error("none of the engines asked for is installed and measured here")
    return present


def progress_line(total: int) -> Callable[[str], None]:
    """A callback that gets each shape's name: tqdm if installed, else a counter, on stderr."""
    if not sys.stderr.isatty():
        return lambda name: None
    try:
        from tqdm import tqdm
    except ImportError:
        done = iter(range(1, total + 1))
        return lambda name: print(f"\r[{next(done)}/{total}] {name:<40}", end="", file=sys.stderr)
    bar: Any = tqdm(total=total, unit="shape", leave=False)
    started = False

    def advance(name: str) -> None:
        nonlocal started
        bar.update(1 if started else 0)
        bar.set_description(name)
        started = True

    return advance


def given(args: argparse.Namespace) -> list[str]:
    """Options of measuring that are not as by default."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    pictures = argparse.ArgumentParser()
    drawing.add_arguments(pictures)
    usual, drawn = vars(parser.parse_args([])), vars(pictures.parse_args([]))
    names = [name for name in usual if name not in drawn and getattr(args, name) != usual[name]]
    return ["--" + name.replace("_", "-") for name in names]


def run(args: argparse.Namespace, error: Callable[[str], Any]) -> int:
    """Measure and report. Returns the exit status: 1 if engines disagree on a result."""
    drawing.check(args, error)
    if args.source:
        return drawing.from_files(args, given(args), error)
    for path in args.output:
        if path.suffix not in (".json", ".md"):
            error(f"--output {path}: the name must end in .json or .md")
    if args.seconds is not None and not 0 < args.seconds <= 60:
        error("--seconds must be above 0 and at most 60")
    threads = sorted(set(args.threads))
    if threads[-1] > 4 * (os.cpu_count() or 1):
        error(f"--threads {threads[-1]}: this machine has {os.cpu_count()} CPUs")
    if args.planner:
        return planner.run(threads, args.planner, args.seed, args.train)
    shapes = choose_shapes(args, error)
    task = "training" if args.train else "inference"
    engines = choose_engines(args.engines, error, task)
    plan = runner.Plan(
        rounds=args.rounds or (2 if args.quick else 5),
        seconds=args.seconds or (0.05 if args.quick else 0.2),
        memory=not (args.no_memory or args.quick),
    )
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        busy = f"the load average is {os.getloadavg()[0]:.1f}"
        print(f"other work is running ({busy}): figures will be too high", file=sys.stderr)
    machines = {}
    if not args.no_limits and runner.OURS in engines:
        machines = {n: limits.measure_machine(n, 0.02 if args.quick else 0.1) for n in threads}
    results: list[runner.Result] = []
    with runner.Runner(engines, threads, plan) as session:
        advance = progress_line(len(shapes))
        try:
            for shape in shapes:
                advance(shape.name)
                results += session.run(shape)
        except KeyboardInterrupt:
            print("\ninterrupted: only the shapes done so far are reported", file=sys.stderr)
        versions = session.versions
    if sys.stderr.isatty():
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)

    lists: Any = training_zoo if args.train else zoo
    targets = lists.TARGETS if args.targets else ()
    targets = [target for target in targets if plan.memory or target.measure != "memory"]
    values = report.document(results, machines, versions, plan, targets, task)
    page = report.markdown(results, engines, machines, versions, targets, task)
    for path in args.output:
        files.write(path, task, page, values)
    if args.json:
        print(json.dumps(values, default=str))
    else:
        for machine in machines.values():
            print(report.machine_line(machine))
        print(report.text_table(results, engines, machines))
        for verdict in report.judge(results, targets, machines):
            measured = "no figure" if verdict.value is None else f"{verdict.value:.2f}"
            mark = "met   " if verdict.met else "MISSED"
            print(f"{mark} {verdict.text}: {measured} of {verdict.required:.2f}")
    refused = {
        (n, why) for r in results for n, why in r.missing.items() if not _expected(n, r, why)
    }
    for name, why in sorted(refused):
        print(f"{name} has no figure for some shapes: {why}", file=sys.stderr)
    drawing.write_run(args, values, task, error)
    problems = runner.disagreements(results)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _expected(engine: str, result: runner.Result, why: str) -> bool:
    return protocol.refusal(peers.ENGINES[engine], result.shape) == why
