# SPDX-License-Identifier: BSD-3-Clause
"""What ``make bench`` runs: zoo and targets with one thread and two, into ``bench/results``, first
of inference, then of training.

Options of ``python -m fastlstm bench`` may follow, such as ``--quick`` or ``--engines``; with
``--train`` inference is left out, and the files keep what they hold of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastlstm.__main__ import main

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    outputs = [str(RESULTS / name) for name in ("latest.json", "latest.md")]
    chosen = ["--zoo", "--targets", "--threads", "1", "2", "--output", *outputs, *sys.argv[1:]]
    status = 0 if "--train" in chosen else main(["bench", *chosen])
    sys.exit(max(status, main(["bench", "--train", *chosen])))
