# SPDX-License-Identifier: BSD-3-Clause
"""What test modules of several rooms share. No test module is imported by another one."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the checkout
EXAMPLES = ROOT / "examples"
