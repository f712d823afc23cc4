# SPDX-License-Identifier: BSD-3-Clause
"""What ``make bench`` runs: zoo and targets with one thread and two, first of inference, then of
training, into two files in ``bench/results`` that are named after this machine's CPU; then both are
drawn into ``build/bench``.

Options of ``python -m fastlstm bench`` may follow, such as ``--quick`` or ``--engines``; with
``--train`` inference is left out, and the files keep what they hold of it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fastlstm.__main__ import main
from fastlstm.bench import files

RESULTS = Path(__file__).parent / "results"
PICTURES = Path(__file__).parents[1] / "build" / "bench"

if __name__ == "__main__":
    start, name = time.monotonic(), files.machine_name()
    outputs = [str(RESULTS / (name + end)) for end in (".json", ".md")]
    chosen = ["--zoo", "--targets", "--threads", "1", "2", "--output", *outputs, *sys.argv[1:]]
    status = 0 if "--train" in chosen else main(["bench", *chosen])
    status = max(status, main(["bench", "--train", *chosen]))
    print(f"measured in {(time.monotonic() - start) / 60:.0f} minutes", file=sys.stderr)
    if "--output" not in sys.argv:
        drawn = [f"--{kind}={PICTURES / name}.{kind}" for kind in ("html", "png")]
        status = max(status, main(["bench", "--from", outputs[0], *drawn]))
    sys.exit(status)
