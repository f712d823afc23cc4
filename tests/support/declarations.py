# SPDX-License-Identifier: BSD-3-Clause
"""What the C headers declare, and what the binding's mirror of them declares."""

from __future__ import annotations

import re
from typing import NamedTuple

from support import ROOT


class Declarations(NamedTuple):
    enums: dict[str, list[str]]
    structs: dict[str, list[tuple[str, str]]]  # fields as (name, type); [] for an opaque one
    functions: dict[str, tuple[str, list[tuple[str, str]]]]  # result, arguments as (name, type)


def plain_type(text: str) -> str:
    """A type in one spelling: single spaces, none around asterisks."""
    return re.sub(r"\s*\*\s*", "*", " ".join(text.split()))


def named(text: str) -> tuple[str, str]:
    """A declaration of one thing as (name, type); `int (*poll)(void *)` is int(*)(void*)."""
    if pointer := re.fullmatch(r"\s*(.+?)\s*\(\s*\*\s*(\w+)\s*\)\s*\((.*)\)\s*", text, re.S):
        result, name, arguments = pointer.groups()
        return name, f"{plain_type(result)}(*)({plain_type(arguments)})"
    match = re.fullmatch(r"\s*(.+?)(\w+)\s*(\[\d+\])?\s*", text, re.S)
    assert match, f"not a declaration: {text!r}"
    return match[2], plain_type(match[1]) + (match[3] or "")


def several(text: str) -> list[tuple[str, str]]:
    """`const void *h_0, *c_0` and the like: one base type, asterisks of each name."""
    if "(" in text:
        return [named(text)]
    first, *others = text.split(",")
    result = [named(first)]
    base = re.match(r"\s*((?:const\s+)?\w+)", text)
    assert base, text
    return result + [named(f"{base[1]} {other}") for other in others]


def prototype(text: str) -> tuple[str, tuple[str, list[tuple[str, str]]]]:
    match = re.fullmatch(r"\s*(.+?)(\w+)\s*\(([^()]*)\)\s*", text, re.S)
    assert match, f"not a function: {text!r}"
    result, name, arguments = match.groups()
    listed = [] if arguments.strip() in ("", "void") else arguments.split(",")
    return name, (plain_type(result), [named(argument) for argument in listed])


PUBLIC, PRIVATE = "fastlstm.h", "internal/binding.h"


def header_text(name: str) -> str:
    return (ROOT / "src_c" / ("include" if name == PUBLIC else "") / name).read_text()


def header(name: str = PUBLIC) -> Declarations:
    text = header_text(name)
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    text = re.sub(r"^\s*#[^\n]*", "", text, flags=re.M)
    text = re.sub(r'extern "C" \{', "", text)
    out = Declarations({}, {}, {})
    typedef = re.compile(r"typedef\s+(enum|struct)\s*\w*\s*\{(.*?)\}\s*(\w+)\s*;", re.S)
    for kind, body, name in typedef.findall(text):
        if kind == "enum":
            out.enums[name] = re.findall(r"(\w+)\s*(?:=[^,}]*)?(?:,|$)", body.strip())
        else:
            fields = [field for field in body.split(";") if field.strip()]
            out.structs[name] = [one for field in fields for one in several(field)]
    rest = typedef.sub("", text).replace("}", "")
    for statement in filter(str.strip, rest.split(";")):
        if opaque := re.fullmatch(r"\s*typedef\s+struct\s+(\w+)\s+(\w+)\s*", statement):
            out.structs[opaque[2]] = []
        else:
            name, value = prototype(statement)
            out.functions[name] = value
    return out


def pxd(name: str) -> Declarations:
    """What it mirrors of one header, which may be in several blocks."""
    text = (ROOT / "fastlstm" / "_core.pxd").read_text()
    blocks = re.split(r'^cdef extern from "(.*)" nogil:\n', text, flags=re.M)[1:]
    assert {*blocks[::2]} == {PUBLIC, PRIVATE}
    text = "".join(
        body for source, body in zip(blocks[::2], blocks[1::2], strict=True) if source == name
    )
    text = re.sub(r"#[^\n]*", "", text)
    text = re.sub(r",\s*\n\s*", ", ", text)  # arguments that go on in the next line
    out = Declarations({}, {}, {})
    block: str | None = None
    for line in filter(str.strip, text.splitlines()):
        indent, statement = len(line) - len(line.lstrip()), line.strip()
        if opening := re.fullmatch(r"ctypedef (enum|struct) (\w+):", statement):
            block = opening[2]
            (out.enums if opening[1] == "enum" else out.structs)[block] = []
        elif indent > 4 and block in out.enums:
            out.enums[block] += [member.strip() for member in statement.split(",")]
        elif indent > 4 and block is not None:
            out.structs[block] += [] if statement == "pass" else several(statement)
        else:
            block = None
            name, value = prototype(re.sub(r"^ctypedef ", "typedef ", statement))
            out.functions[name] = value
    return out
