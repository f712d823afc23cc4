# SPDX-License-Identifier: BSD-3-Clause
"""The command line of the fuzzers; see the package."""

from __future__ import annotations

import argparse
import sys

from . import NAMES, driver


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Run a fuzzer.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--seed", type=int, help="of all cases; a new one by default")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--cases", type=int, default=10**9, help="how many at most")
    parser.add_argument("--seconds", type=float, default=60, help="no case starts later")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    options = parser.parse_args()
    done = driver.run(
        options.name,
        seed=driver.new_seed() if options.seed is None else options.seed,
        first=options.first,
        cases=options.cases,
        seconds=options.seconds,
        go_on=options.all,
    )
    print(done.text)
    return 0 if done.ok else 1


sys.exit(main())
