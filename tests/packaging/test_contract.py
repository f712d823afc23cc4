# SPDX-License-Identifier: BSD-3-Clause
"""What stands in two places says the same in both: header and .pxd, module and stub, __all__."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib

import pytest

import fastlstm
from fastlstm import _core
from support import ROOT
from support.declarations import PRIVATE, PUBLIC, Declarations, header, header_text, pxd

INTERNAL = {"Call"}  # extension types of the binding itself, in no stub


@pytest.mark.parametrize("file", [PUBLIC, PRIVATE])
@pytest.mark.parametrize("kind", Declarations._fields)
def test_pxd_mirrors_the_header(kind: str, file: str) -> None:
    ours, theirs = getattr(header(file), kind), getattr(pxd(file), kind)
    if file == PUBLIC and kind == "structs":
        assert ours.pop("fastlstm_plan") == []  # opaque there, and declared by the private header
    assert set(ours) == set(theirs)
    for name in ours:
        assert ours[name] == theirs[name], name


def test_declarations_are_understood() -> None:
    declared = header()
    assert declared.enums["fastlstm_dtype"] == ["FASTLSTM_F32", "FASTLSTM_F64"]
    assert "FASTLSTM_INTERRUPTED" in declared.enums["fastlstm_status"]
    assert declared.structs["fastlstm_model"] == []
    assert declared.structs["fastlstm_weights"][0] == ("w_ih", "const void*")
    assert declared.structs["fastlstm_spec"][2] == ("hidden_size", "int64_t")
    assert ("c_0", "const void*") in declared.structs["fastlstm_io"]
    assert ("poll", "fastlstm_poll*") in declared.structs["fastlstm_io"]
    assert declared.functions["fastlstm_plan_bytes"] == ("size_t", [])
    assert header(PRIVATE).functions["fl_team_max"] == ("int", [])
    assert ("threads", "int32_t") in header(PRIVATE).structs["fastlstm_plan"]
    assert declared.functions["fastlstm_alloc"] == ("void*", [("bytes", "size_t")])
    assert declared.functions["fastlstm_gemm"][0] == "typedef void"
    # Nothing that looks like a function in the file may have slipped through.
    for name in (PUBLIC, PRIVATE):
        text = re.sub(r"//[^\n]*|^\s*#[^\n]*", "", header_text(name), flags=re.M)
        found = set(re.findall(r"\b(f(?:l|astlstm)_\w+)\(", text))
        assert found == set(header(name).functions)


def test_version_is_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    numbers = re.findall(r"VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header_text(PUBLIC))
    assert ".".join(numbers) == project["version"]


def test_the_public_header_needs_no_other() -> None:
    found = re.findall(r"#include (.*)", header_text(PUBLIC))
    assert found == ["<stddef.h>", "<stdint.h>"]


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
