# SPDX-License-Identifier: BSD-3-Clause
"""SciPy's BLAS, imported when first asked for."""

from __future__ import annotations


def gemm_address() -> int:
    """Where the matrix product of ``gemm="blas"`` stands; ImportError if SciPy is not there."""
    try:
        from . import _blas
    except ImportError as error:
        raise ImportError(f'gemm="blas" needs SciPy, which cannot be imported: {error}') from error
    return _blas.gemm_address()
