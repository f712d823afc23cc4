# SPDX-License-Identifier: BSD-3-Clause
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Arrays to the optimisers in C. Callers have validated dtypes, shapes and flags."""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport calloc, free

cdef extern from "fastlstm.h" nogil:
    ctypedef enum fl_dtype:
        FL_F32, FL_F64

cdef extern from "optim.h" nogil:
    ctypedef struct fl_sgd:
        double lr, momentum, dampening, weight_decay
        int32_t nesterov, first
    ctypedef struct fl_adam:
        double lr, beta1, beta2, eps, weight_decay
        int32_t decoupled
        int64_t step
    void fl_sgd_step(const fl_sgd *options, fl_dtype dtype, int64_t n, void *p, const void *g,
                     void *buffer)
    void fl_adam_step(const fl_adam *options, fl_dtype dtype, int64_t n, void *p, const void *g,
                      void *m, void *v, void *v_max)
    double fl_sum_squares(fl_dtype dtype, int64_t n, const void *g)
    void fl_scale(fl_dtype dtype, int64_t n, void *g, double factor)
    void fl_clamp(fl_dtype dtype, int64_t n, void *g, double limit)


cdef class Memory:
    """The memory of contiguous arrays of float32 or float64, held as long as this lives."""

    cdef Py_buffer *held
    cdef Py_ssize_t count

    def __cinit__(self, list arrays, bint writable):
        # Asked for without shape: 0-d arrays and empty ones are like any other.
        cdef int flags = PyBUF_WRITABLE if writable else PyBUF_SIMPLE
        self.held = <Py_buffer *>calloc(len(arrays) + 1, sizeof(Py_buffer))
        if self.held == NULL:
            raise MemoryError()
        for array in arrays:
            PyObject_GetBuffer(array, &self.held[self.count], flags)
            self.count += 1

    def __dealloc__(self):
        while self.count > 0:
            self.count -= 1
            PyBuffer_Release(&self.held[self.count])
        free(self.held)

    cdef void *at(self, Py_ssize_t i) noexcept nogil:
        return self.held[i].buf

    cdef int64_t size(self, Py_ssize_t i) noexcept nogil:
        return self.held[i].len // self.held[i].itemsize

    cdef fl_dtype dtype(self, Py_ssize_t i) noexcept nogil:
        return FL_F64 if self.held[i].itemsize == 8 else FL_F32


cdef Memory equal_in_number(Memory memory, Py_ssize_t count):
    if memory is not None and memory.count != count:
        raise ValueError(f"{memory.count} arrays instead of {count}")
    return memory


def overlap(list first, list second):
    """The first (i, j) for which first[i] and second[j] share bytes, or None.

    With ``second is first``, pairs i < j only. Arrays are contiguous: their ends tell all.
    """
    cdef Memory a = Memory(first, False), b = Memory(second, False)
    cdef Py_ssize_t i, j
    cdef char *start
    cdef char *end
    cdef bint same = first is second
    for i in range(a.count):
        start = <char *>a.held[i].buf
        end = start + a.held[i].len
        for j in range(i + 1 if same else 0, b.count):
            if (a.held[i].len > 0 and b.held[j].len > 0 and <char *>b.held[j].buf < end
                    and start < <char *>b.held[j].buf + b.held[j].len):
                return i, j
    return None


def sgd(list params, list grads, list buffers, double lr, double momentum, double dampening,
        double weight_decay, bint nesterov, bint first):
    """One step of fl_sgd_step for each array; buffers is empty without momentum."""
    cdef fl_sgd options
    cdef Memory p = Memory(params, True)
    cdef Memory g = equal_in_number(Memory(grads, False), p.count)
    cdef Memory b = equal_in_number(Memory(buffers, True), p.count) if buffers else None
    cdef Py_ssize_t i
    options.lr = lr
    options.momentum = momentum
    options.dampening = dampening
    options.weight_decay = weight_decay
    options.nesterov = nesterov
    options.first = first
    for i in range(p.count):
        buffer = NULL if b is None else b.at(i)
        with nogil:
            fl_sgd_step(&options, p.dtype(i), p.size(i), p.at(i), g.at(i), buffer)


def adam(list params, list grads, list means, list squares, list largest, double lr, double beta1,
         double beta2, double eps, double weight_decay, bint decoupled, int64_t step):
    """One step of fl_adam_step for each array; largest is empty without AMSGrad."""
    cdef fl_adam options
    cdef Memory p = Memory(params, True)
    cdef Memory g = equal_in_number(Memory(grads, False), p.count)
    cdef Memory m = equal_in_number(Memory(means, True), p.count)
    cdef Memory v = equal_in_number(Memory(squares, True), p.count)
    cdef Memory x = equal_in_number(Memory(largest, True), p.count) if largest else None
    cdef Py_ssize_t i
    options.lr = lr
    options.beta1 = beta1
    options.beta2 = beta2
    options.eps = eps
    options.weight_decay = weight_decay
    options.decoupled = decoupled
    options.step = step
    for i in range(p.count):
        v_max = NULL if x is None else x.at(i)
        with nogil:
            fl_adam_step(&options, p.dtype(i), p.size(i), p.at(i), g.at(i), m.at(i), v.at(i), v_max)


def sum_squares(list arrays):
    """Sum of all squares in double: array by array, in the list's order."""
    cdef Memory g = Memory(arrays, False)
    cdef double total = 0
    cdef Py_ssize_t i
    with nogil:
        for i in range(g.count):
            total += fl_sum_squares(g.dtype(i), g.size(i), g.at(i))
    return total


def scale(list arrays, double factor):
    cdef Memory g = Memory(arrays, True)
    cdef Py_ssize_t i
    with nogil:
        for i in range(g.count):
            fl_scale(g.dtype(i), g.size(i), g.at(i), factor)


def clamp(list arrays, double limit):
    cdef Memory g = Memory(arrays, True)
    cdef Py_ssize_t i
    with nogil:
        for i in range(g.count):
            fl_clamp(g.dtype(i), g.size(i), g.at(i), limit)
