# SPDX-License-Identifier: BSD-3-Clause
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Arrays to the optimisers in C. Callers have validated dtypes, shapes and flags, in words that name what
is wrong; what may have changed since is checked once more where the memory is taken."""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t, uintptr_t
from libc.stdlib cimport calloc, free

from numpy import ndarray

cdef extern from "fastlstm.h" nogil:
    ctypedef enum fastlstm_dtype:
        FASTLSTM_F32, FASTLSTM_F64

cdef extern from "extra/optim.h" nogil:
    ctypedef struct fl_sgd:
        double lr, momentum, dampening, weight_decay
        int32_t nesterov, first
    ctypedef struct fl_adam:
        double lr, beta1, beta2, eps, weight_decay
        int32_t decoupled
        int64_t step
    void fl_sgd_step(const fl_sgd *options, fastlstm_dtype dtype, int64_t n, void *p, const void *g,
                     void *buffer)
    void fl_adam_step(const fl_adam *options, fastlstm_dtype dtype, int64_t n, void *p,
                      const void *g, void *m, void *v, void *v_max)
    double fl_sum_squares(fastlstm_dtype dtype, int64_t n, const void *g)
    void fl_scale(fastlstm_dtype dtype, int64_t n, void *g, double factor)
    void fl_clamp(fastlstm_dtype dtype, int64_t n, void *g, double limit)


cdef class Memory:
    """The memory of contiguous arrays of float32 or float64, held as long as this lives."""

    cdef Py_buffer *held
    cdef Py_ssize_t count

    def __cinit__(self, list arrays, bint writable):
        cdef int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0)
        cdef const char *format
        self.held = <Py_buffer *>calloc(len(arrays) + 1, sizeof(Py_buffer))
        if self.held == NULL:
            raise MemoryError()
        for array in arrays:
            if type(array) is not ndarray:
                raise TypeError(f"only plain arrays can be updated, got {type(array).__name__}")
            PyObject_GetBuffer(array, &self.held[self.count], flags)
            self.count += 1
            format = self.held[self.count - 1].format
            if format == NULL or format[0] not in b"fd" or format[1] != 0:
                raise ValueError("an array changed its dtype while it was prepared")

    def __dealloc__(self):
        while self.count > 0:
            self.count -= 1
            PyBuffer_Release(&self.held[self.count])
        free(self.held)

    cdef void *at(self, Py_ssize_t i) noexcept nogil:
        return self.held[i].buf

    cdef int64_t size(self, Py_ssize_t i) noexcept nogil:
        return self.held[i].len // self.held[i].itemsize

    cdef fastlstm_dtype dtype(self, Py_ssize_t i) noexcept nogil:
        return FASTLSTM_F64 if self.held[i].itemsize == 8 else FASTLSTM_F32


cdef Memory like(list arrays, bint writable, Memory first):
    """The memory of as many arrays as those of `first`, each of the same size and dtype."""
    cdef Memory memory = Memory(arrays, writable)
    cdef Py_ssize_t i
    if memory.count != first.count:
        raise ValueError(f"{memory.count} arrays instead of {first.count}")
    for i in range(first.count):
        if memory.held[i].len != first.held[i].len or memory.dtype(i) != first.dtype(i):
            raise ValueError(f"an array changed while it was prepared: it has {memory.size(i)} elements "
                             f"now, {first.size(i)} are needed")
    return memory


cdef class Count:
    """A number of steps, which goes up with the arrays."""

    cdef readonly int64_t value

    def __init__(self, int64_t value=0):
        self.value = value

    def __reduce__(self):
        return Count, (self.value,)


def address(array):
    """Where the memory of a contiguous array begins. NumPy's own ways to ask cannot do without memory."""
    cdef Memory memory = Memory([array], False)
    return <uintptr_t>memory.at(0)


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
        double weight_decay, bint nesterov, Count steps not None):
    """One step of fl_sgd_step for each array, counted; buffers is empty without momentum."""
    cdef fl_sgd options
    cdef Memory p = Memory(params, True)
    cdef Memory g = like(grads, False, p)
    cdef Memory b = like(buffers, True, p) if buffers else None
    cdef Py_ssize_t i
    options.lr = lr
    options.momentum = momentum
    options.dampening = dampening
    options.weight_decay = weight_decay
    options.nesterov = nesterov
    options.first = steps.value == 0
    for i in range(p.count):
        buffer = NULL if b is None else b.at(i)
        with nogil:
            fl_sgd_step(&options, p.dtype(i), p.size(i), p.at(i), g.at(i), buffer)
    steps.value += 1


def adam(list params, list grads, list means, list squares, list largest, double lr, double beta1,
         double beta2, double eps, double weight_decay, bint decoupled, Count steps not None):
    """One step of fl_adam_step for each array, counted; largest is empty without AMSGrad."""
    cdef fl_adam options
    cdef Memory p = Memory(params, True)
    cdef Memory g = like(grads, False, p)
    cdef Memory m = like(means, True, p)
    cdef Memory v = like(squares, True, p)
    cdef Memory x = like(largest, True, p) if largest else None
    cdef Py_ssize_t i
    options.lr = lr
    options.beta1 = beta1
    options.beta2 = beta2
    options.eps = eps
    options.weight_decay = weight_decay
    options.decoupled = decoupled
    options.step = steps.value + 1
    for i in range(p.count):
        v_max = NULL if x is None else x.at(i)
        with nogil:
            fl_adam_step(&options, p.dtype(i), p.size(i), p.at(i), g.at(i), m.at(i), v.at(i), v_max)
    steps.value += 1


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
