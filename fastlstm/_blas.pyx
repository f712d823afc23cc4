# SPDX-License-Identifier: BSD-3-Clause
# cython: language_level=3
"""The only user of BLAS: one matrix product, handed to the C core as a function pointer."""

from libc.stdint cimport int64_t, uintptr_t
from scipy.linalg.cython_blas cimport dgemm, sgemm

from fastlstm._core cimport FASTLSTM_F64, fastlstm_dtype


cdef void gemm(fastlstm_dtype dtype, int64_t rows, int64_t n, int64_t k, const void *a, int64_t lda,
               const void *b, int64_t ldb, void *c, int64_t ldc) noexcept nogil:
    # Row-major C = A B is column-major C' = B' A'.
    cdef int m_ = <int>n, n_ = <int>rows, k_ = <int>k
    cdef int lda_ = <int>lda, ldb_ = <int>ldb, ldc_ = <int>ldc
    cdef char no = b"N"
    cdef float one = 1
    cdef double one_d = 1
    if dtype == FASTLSTM_F64:
        dgemm(&no, &no, &m_, &n_, &k_, &one_d, <double *>b, &ldb_, <double *>a, &lda_, &one_d,
              <double *>c, &ldc_)
    else:
        sgemm(&no, &no, &m_, &n_, &k_, &one, <float *>b, &ldb_, <float *>a, &lda_, &one,
              <float *>c, &ldc_)


def gemm_address():
    """Address of a fastlstm_gemm."""
    return <uintptr_t>&gemm
