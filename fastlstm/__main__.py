# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm info`` and ``python -m fastlstm bench``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import fastlstm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``arguments`` without the program's name, ``sys.argv`` if None."""
    parser = argparse.ArgumentParser(prog="python -m fastlstm", description="LSTM engine for CPUs")
    parser.add_argument("--version", action="version", version=f"fastlstm {fastlstm.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="info | bench")
    commands.add_parser("info", help="this CPU's features and the kernels chosen for it")
    bench = commands.add_parser(
        "bench",
        help="speed against the other LSTM engines that are installed",
        description="Measure LSTM inference, or with --train training, against other engines.",
    )
    arguments = sys.argv[1:] if arguments is None else arguments
    if "bench" not in arguments[:1]:
        parser.parse_args(arguments)  # ends the program, unless it is "info"
        fastlstm.show_config()
        return 0
    from fastlstm.bench import cli  # larger than the library itself: for those who want it

    cli.add_arguments(bench)
    args = parser.parse_args(arguments)
    try:
        return cli.run(args, bench.error)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
