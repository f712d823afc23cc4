# SPDX-License-Identifier: BSD-3-Clause
"""Fuzzers: random cases that look for crashes, wrong numbers and objects left unusable.

    cd tests
    python -m fuzz hooks --seconds 60                    a run with a new seed
    python -m fuzz hooks --seed 7 --first 131 --cases 1  one case of a run again

Each fuzzer is a module of this package with a function ``case(rng)`` that makes one case from the
random generator and raises an exception if it fails. The driver gives case n of seed s its own
generator, runs the cases in a process of their own and, whatever ends that process, says which
case did.

    hooks         arguments that run code of the caller while a call is prepared
    races         another thread changes arrays while calls are prepared and run
    signals       interrupts at random bytecodes and after random times, in sequences of operations
    allocations   each of Python's allocations fails in turn
    limits        the process's memory ends, at step after step
    operators     torch.ops.fastlstm called by hand with wrong arguments
    files         damaged files for `fastlstm.load`
"""

NAMES = ("hooks", "races", "signals", "allocations", "limits", "operators", "files")
