# SPDX-License-Identifier: BSD-3-Clause
"""What ``make bench`` runs: zoo and targets with one thread and two, into ``bench/results``.

Options of ``python -m fastlstm bench`` may follow, such as ``--quick`` or ``--engines``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastlstm.__main__ import main

RESULTS = Path(__file__).parent / "results"

if __name__ == "__main__":
    outputs = [str(RESULTS / name) for name in ("latest.json", "latest.md")]
    chosen = ["--zoo", "--targets", "--threads", "1", "2", "--output", *outputs]
    sys.exit(main(["bench", *chosen, *sys.argv[1:]]))
