# SPDX-License-Identifier: BSD-3-Clause
"""``python -m fastlstm`` with ``info``, ``bench``, ``inspect``, ``convert`` or ``verify``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import fastlstm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``arguments`` without the program's name, ``sys.argv`` if None."""
    parser = argparse.ArgumentParser(prog="python -m fastlstm", description="LSTM engine for CPUs")
    parser.add_argument("--version", action="version", version=f"fastlstm {fastlstm.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("info", help="this CPU's features and the kernels chosen for it")
    bench = commands.add_parser(
        "bench",
        help="speed against the other LSTM engines that are installed",
        description="Measure LSTM inference, or with --train training, against other engines.",
    )
    arguments = sys.argv[1:] if arguments is None else arguments
    cli: Any
    if "bench" in arguments[:1]:  # larger than the library itself: for those who want it
        from fastlstm.bench import cli

        cli.add_arguments(bench)
    else:
        from fastlstm.interop import cli

        cli.add_commands(commands)
    args = parser.parse_args(arguments)
    if args.command == "info":
        fastlstm.show_config()
        return 0
    try:
        return int(cli.run(args, bench.error) if args.command == "bench" else cli.run(args))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
