# SPDX-License-Identifier: BSD-3-Clause
"""What ``make bench`` runs: zoo and targets with one thread and two, first of inference, then of
training, into two files in ``bench/results`` that are named after this machine's CPU.

Options of ``python -m fastlstm bench`` may follow, such as ``--quick`` or ``--engines``; with
``--train`` inference is left out, and the files keep what they hold of it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastlstm.__main__ import main
from fastlstm.bench import files

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    outputs = [str(RESULTS / (files.machine_name() + end)) for end in (".json", ".md")]
    chosen = ["--zoo", "--targets", "--threads", "1", "2", "--output", *outputs, *sys.argv[1:]]
    status = 0 if "--train" in chosen else main(["bench", *chosen])
    sys.exit(max(status, main(["bench", "--train", *chosen])))
