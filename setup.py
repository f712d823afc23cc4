# SPDX-License-Identifier: BSD-3-Clause
"""Builds the extensions under CPython's limited API: one wheel serves 3.11 and later."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# Set where the extensions stand in the tree already, to install what surrounds them: see Makefile.
prebuilt = bool(os.environ.get("FASTLSTM_PREBUILT"))

sanitize = os.environ.get("FASTLSTM_SANITIZE", "")  # for example "address,undefined"
# No contraction: where a multiply-add is fused is part of the promise on bits. Python's own flags
# hold -fwrapv, under which GCC 12 keeps sums of AVX2 loops on the stack: batches ran at 0.6 to 0.8
# of their speed on a Zen 3 with 256 to 512 units. Ours come last.
compile_args = ["-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fopenmp", "-g0"]
compile_args += ["-fno-wrapv", "-fvisibility=hidden"]
link_args = ["-fopenmp"]
if sanitize:
    compile_args += [f"-fsanitize={sanitize}", "-fno-sanitize-recover=all"]
    compile_args += ["-fno-omit-frame-pointer", "-g", "-O1"]
    link_args += [f"-fsanitize={sanitize}"]

common = {
    "include_dirs": ["src_c/include", "src_c"],
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
        "fastlstm._optim", ["fastlstm/_optim.pyx", "src_c/extra/optim.c"], depends=headers, **common
    ),
]


class BuildOnAllCores(build_ext):
    """Compiles the files of an extension side by side: nearly all time goes into the kernels."""

    def build_extensions(self) -> None:
        compiler: Any = self.compiler
        compile_file = compiler._compile

        def compile_later(pool: ThreadPoolExecutor, jobs: list[Any]) -> Any:
            return lambda *arguments: jobs.append(pool.submit(compile_file, *arguments))

        compile_all = compiler.compile

        def compile(*arguments: Any, **options: Any) -> Any:
            jobs: list[Any] = []
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                compiler._compile = compile_later(pool, jobs)
                objects = compile_all(*arguments, **options)
            for job in jobs:
                job.result()  # raises what went wrong
            return objects

        compiler.compile = compile
        super().build_extensions()


setup(
    ext_modules=[] if prebuilt else cythonize(extensions, build_dir="build"),
    cmdclass={"build_ext": BuildOnAllCores},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
