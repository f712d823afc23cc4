# SPDX-License-Identifier: BSD-3-Clause
"""Builds the extensions under CPython's limited API: one wheel serves 3.11 and later."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

sanitize = os.environ.get("FASTLSTM_SANITIZE", "")  # for example "address,undefined"
# No contraction: where a multiply-add is fused is part of the promise on bits. Python's own flags
# hold -fwrapv, under which GCC 12 keeps sums of AVX2 loops on the stack: batches ran at 0.6 to 0.8
# of their speed on a Zen 3 with 256 to 512 units. Ours come last.
compile_args = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fopenmp", "-g0"]
compile_args += ["-fno-wrapv"]
link_args = ["-fopenmp"]
if sanitize:
    compile_args += [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"]
    compile_args += ["-fno-omit-frame-pointer", "-g", "-O1"]
    link_args += [f"-fsanitize={sanitize}"]

common = {
    "include_dirs": ["src_c"],
    "extra_compile_args": compile_args,
    "extra_link_args": link_args,
    "define_macros": [("Py_LIMITED_API", "0x030B0000")],
    "py_limited_api": True,
}
core = sorted(str(path) for path in Path("src_c").rglob("*.c") if path.name != "optim.c")
headers = sorted(str(path) for path in Path("src_c").rglob("*.h"))
parts = [str(path) for path in Path("fastlstm").glob("*.px[di]")]
extensions = [
    Extension("fastlstm._core", ["fastlstm/_core.pyx", *core], depends=headers + parts, **common),
    Extension("fastlstm._blas", ["fastlstm/_blas.pyx"], depends=headers + parts, **common),
    Extension(
        "fastlstm._optim", ["fastlstm/_optim.pyx", "src_c/optim.c"], depends=headers, **common
    ),
]

setup(
    ext_modules=cythonize(extensions, build_dir="build"),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
