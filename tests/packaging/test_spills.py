# SPDX-License-Identifier: BSD-3-Clause
"""Product loops keep their sums in registers. Compilers and flags have put them on the stack
before, at two thirds of the speed and without a wrong bit.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from typing import NamedTuple

import pytest

from fastlstm import _core

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("objdump") is None,
    reason="looks at x86 instructions through objdump",
)

KINDS = (
    *("product", "lstm_tile", "lstm_persistent", "gru_persistent", "blocked", "apart"),
    *("dgrad", "wgrad"),
)
PRODUCTS = re.compile(rf"({'|'.join(KINDS)})_\w*?(avx2|avx512)_f")
LONGEST = 60  # instructions of a product's loop; those of the cells are longer
LEAST = 4  # multiply-adds of a product's loop
STORE = re.compile(r"vmov[au]p[sd]\s+%[yz]mm\d+,-?(0x[0-9a-f]+)?\(%r[sb]p\)")


class Instruction(NamedTuple):
    address: int
    text: str


def functions() -> dict[str, list[Instruction]]:
    """Instructions of each function of the products."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", _core.__file__],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: dict[str, list[Instruction]] = {}
    for block in listing.split("\n\n"):
        head = re.match(r"\s*[0-9a-f]+ <([\w.]+)>:\n", block)
        if head and PRODUCTS.match(head[1]):
            lines = re.findall(r"^\s*([0-9a-f]+):\s+(.*)$", block, re.M)
            found[head[1]] = [Instruction(int(at, 16), text) for at, text in lines]
    return found


def inner_loops(function: list[Instruction]) -> list[list[Instruction]]:
    """Bodies of loops without a loop in them, by their jumps backwards."""
    places = {instruction.address: i for i, instruction in enumerate(function)}
    loops = []
    for end, (address, text) in enumerate(function):
        jump = re.match(r"j(?!mp)\w+\s+([0-9a-f]+) ", text)
        begin = places.get(int(jump[1], 16)) if jump else None
        if begin is not None and int(jump[1], 16) < address:  # type: ignore[index]
            loops.append((begin, end))
    return [
        function[begin : end + 1]
        for begin, end in loops
        if not any(begin <= b and e <= end and (b, e) != (begin, end) for b, e in loops)
    ]


def spills(function: list[Instruction]) -> list[str]:
    """Vector stores to the stack in loops of multiply-adds."""
    return [
        f"{instruction.address:x}: {instruction.text}"
        for loop in inner_loops(function)
        if len(loop) <= LONGEST and sum("vfmadd" in text for _, text in loop) >= LEAST
        for instruction in loop
        if STORE.match(instruction.text)
    ]


def test_products_keep_their_sums_in_registers() -> None:
    found = functions()
    if not found:
        pytest.skip("the library was stripped of its symbols")
    for kind in KINDS:
        for isa in ("avx2", "avx512"):
            assert any(name.startswith(kind) and isa in name for name in found), (kind, isa)
    assert {name: at for name, code in found.items() if (at := spills(code))} == {}


def test_a_spill_is_seen() -> None:
    body = ["vmovaps 0x40(%rsp),%ymm3", *["vfmadd231ps %ymm0,%ymm1,%ymm2"] * 4]
    body += ["vmovaps %ymm3,0x40(%rsp)", "cmp %rax,%rbx", "jne    10 <product>"]
    loop = [Instruction(16 + i, text) for i, text in enumerate(body)]
    assert spills(loop) == ["15: vmovaps %ymm3,0x40(%rsp)"]
    clean = [one._replace(text=one.text.replace("(%rsp)", "(%rdi)")) for one in loop]
    assert spills(clean) == []
