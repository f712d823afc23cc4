# SPDX-License-Identifier: BSD-3-Clause
"""What stands in two places says the same in both: header and .pxd, module and stub, __all__."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

import fastlstm
from fastlstm import _core

ROOT = Path(__file__).parents[1]
INTERNAL = {"Call"}  # extension types of the binding itself, in no stub


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
    match = re.fullmatch(r"\s*(.+?)(\w+)\s*", text, re.S)
    assert match, f"not a declaration: {text!r}"
    return match[2], plain_type(match[1])


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


def header() -> Declarations:
    text = (ROOT / "src_c" / "fastlstm.h").read_text()
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


def pxd() -> Declarations:
    text = (ROOT / "fastlstm" / "_core.pxd").read_text()
    text = text.split('cdef extern from "fastlstm.h" nogil:\n')[1]
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


@pytest.mark.parametrize("kind", Declarations._fields)
def test_pxd_mirrors_the_header(kind: str) -> None:
    ours, theirs = getattr(header(), kind), getattr(pxd(), kind)
    assert set(ours) == set(theirs)
    for name in ours:
        assert ours[name] == theirs[name], name


def test_declarations_are_understood() -> None:
    declared = header()
    assert declared.enums["fl_dtype"] == ["FL_F32", "FL_F64"]
    assert "FL_INTERRUPTED" in declared.enums["fl_status"]
    assert declared.structs["fl_model"] == []
    assert declared.structs["fl_weights"][0] == ("w_ih", "const void*")
    assert declared.structs["fl_spec"][1] == ("hidden_size", "int64_t")
    assert ("c_0", "const void*") in declared.structs["fl_io"]
    assert ("poll", "fl_poll*") in declared.structs["fl_io"]
    assert declared.functions["fl_team_max"] == ("int", [])
    assert declared.functions["fl_alloc"] == ("void*", [("bytes", "size_t")])
    assert declared.functions["fl_gemm"][0] == "typedef void"
    # Nothing that looks like a function in the file may have slipped through.
    text = re.sub(r"//[^\n]*", "", (ROOT / "src_c" / "fastlstm.h").read_text())
    assert set(re.findall(r"\b(fl_\w+)\(", text)) == set(declared.functions)


def test_no_list_comprehensions_in_cython() -> None:
    """Where a list cannot grow for want of memory, Cython 3.3.1 frees the new item twice."""
    for path in sorted((ROOT / "fastlstm").glob("*.p[yx][xi]")):
        text = re.sub(r'"""(?:.|\n)*?"""|#[^\n]*', "", path.read_text())
        found = re.findall(r"\[[^\[\]]*\sfor\s[^\[\]]*\sin\s[^\[\]]*\]", text)
        assert not found, f"{path.name}: {found}"


# ---- the Python side ----


def test_all_is_there_and_documented() -> None:
    assert len(fastlstm.__all__) == len(set(fastlstm.__all__))  # ruff sorts it
    for name in fastlstm.__all__:
        value = getattr(fastlstm, name)
        if name == "__version__":
            project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
            assert value == project["version"]
            continue
        assert value.__doc__, f"fastlstm.{name} has no docstring"
        if inspect.isclass(value):
            for member, part in vars(value).items():
                if not member.startswith("_") and (callable(part) or isinstance(part, property)):
                    assert inspect.getdoc(getattr(value, member)), f"{name}.{member} undocumented"


def stub() -> tuple[dict[str, list[str]], dict[str, dict[str, list[str] | None]]]:
    """Functions with their arguments, and classes with members: arguments, or None for data."""
    tree = ast.parse((ROOT / "fastlstm" / "_core.pyi").read_text())

    def arguments(function: ast.FunctionDef) -> list[str]:
        return [argument.arg for argument in function.args.args]

    functions = {n.name: arguments(n) for n in tree.body if isinstance(n, ast.FunctionDef)}
    classes: dict[str, dict[str, list[str] | None]] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            members = classes.setdefault(node.name, {})
            for part in node.body:
                if isinstance(part, ast.FunctionDef):
                    members[part.name] = arguments(part)
                elif isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                    members[part.target.id] = None
    return functions, classes


def test_stub_lists_the_compiled_module() -> None:
    functions, classes = stub()
    own = {
        n for n, part in vars(_core).items() if getattr(part, "__module__", "") == _core.__name__
    }
    public = {name for name in own if not name.startswith("_")} - INTERNAL
    assert public == set(functions) | set(classes)
    for name, arguments in functions.items():
        assert list(inspect.signature(getattr(_core, name)).parameters) == arguments, name


@pytest.mark.parametrize("name", stub()[1])
def test_stub_lists_the_members_of(name: str) -> None:
    members, compiled = stub()[1][name], getattr(_core, name)
    public = {member for member in vars(compiled) if not member.startswith("_")}
    assert public - {"memory"} == {m for m in members if not m.startswith("_")}  # memory: a Block
    for member, arguments in members.items():
        if arguments is None:
            assert not callable(getattr(compiled, member)), member
        elif not member.startswith("__"):
            found = inspect.signature(getattr(compiled, member)).parameters
            assert list(found) == arguments, member
