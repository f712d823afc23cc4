# SPDX-License-Identifier: BSD-3-Clause
# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Buffers to C, status codes to exceptions. Callers have validated what they hand over, in words that
name it; here it is checked once more, since their arrays may have changed meanwhile."""

from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear, PyErr_ExceptionMatches
from cpython.ref cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset
from posix.unistd cimport usleep


import numpy as np
from numpy import ndarray
from numpy.ma import MaskedArray

from . import container

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *o)
    # Without a check at each call: its error, if there is one, gets other words.
    int get_buffer "PyObject_GetBuffer"(object array, Py_buffer *buffer, int flags) noexcept
    unsigned long PyThread_get_thread_ident()

include "_memory.pxi"
include "_call.pxi"
include "_parameters.pxi"

# A larger workspace is not kept for the next run.
cdef size_t SPARE_MOST = 64 << 20

# After teams that straggled the next calls stay on one thread: seconds at first and, doubling, at most.
cdef double HOLD_FIRST = 0.02
cdef double HOLD_MOST = 1.0

# Below this much work (flops) a call keeps the GIL: giving it up costs more than the call. A step of
# a tiny layer takes as long as one with so much work.
cdef double SMALL_CALL = 1e6
cdef double LEAST_STEP = 2e3


cdef int check_signals(void *arg) noexcept nogil:
    with gil:
        try:
            PyErr_CheckSignals()
        except BaseException as error:
            (<Call>arg).error = error
            return 1
    return 0


cdef fastlstm_isa isa_from_name(str name) except? FASTLSTM_ISA_COUNT:
    cdef int isa
    for isa in range(<int>FASTLSTM_ISA_COUNT):
        if fastlstm_isa_name(<fastlstm_isa>isa).decode() == name:
            return <fastlstm_isa>isa
    raise ValueError(f"unknown instruction set {name!r}")


cdef fl_cache_kind assumed_caches = FL_CACHES_OF_CPU
fl_cache_sizes_of_cpu()  # asking takes 50 us in a virtual machine, which no call should wait for


def assume_caches(str kind):
    """For tests: plan new engines for "fast", "middle" or "slow" caches, or those of the "cpu"."""
    global assumed_caches
    assumed_caches = {"cpu": FL_CACHES_OF_CPU, "fast": FL_CACHES_FAST, "middle": FL_CACHES_MIDDLE,
                      "slow": FL_CACHES_SLOW}[kind]


cdef fastlstm_cell_kind cell_from_name(str name) except? FASTLSTM_GRU_RESET_BEFORE:
    if name == "lstm":
        return FASTLSTM_LSTM
    if name == "rnn_tanh":
        return FASTLSTM_RNN_TANH
    if name == "rnn_relu":
        return FASTLSTM_RNN_RELU
    if name == "gru":
        return FASTLSTM_GRU
    if name == "lstm_general":
        return FASTLSTM_LSTM_GENERAL
    if name == "gru_reset_before":
        return FASTLSTM_GRU_RESET_BEFORE
    raise ValueError(f"unknown cell {name!r}")


cdef dict ACTIVATIONS = {
    "sigmoid": FASTLSTM_SIGMOID,
    "tanh": FASTLSTM_TANH,
    "hard_sigmoid": FASTLSTM_HARD_SIGMOID,
    "relu": FASTLSTM_RELU,
    "leaky_relu": FASTLSTM_LEAKY_RELU,
    "thresholded_relu": FASTLSTM_THRESHOLDED_RELU,
    "elu": FASTLSTM_ELU,
    "softsign": FASTLSTM_SOFTSIGN,
    "softplus": FASTLSTM_SOFTPLUS,
    "scaled_tanh": FASTLSTM_SCALED_TANH,
    "affine": FASTLSTM_AFFINE,
    "linear": FASTLSTM_LINEAR,
}


cdef fastlstm_activation make_activation(tuple parts) except *:
    """A name, alpha and beta."""
    cdef fastlstm_activation made
    cdef int kind = ACTIVATIONS[parts[0]]
    made.kind = <fastlstm_activation_kind>kind
    made.alpha = parts[1]
    made.beta = parts[2]
    return made


cdef fastlstm_options make_options(object options) except *:
    """`fastlstm.options.LSTMOptions` as C takes them."""
    cdef fastlstm_options made
    memset(&made, 0, sizeof(made))
    if options is None:
        return made
    gate, candidate, output = options._activations()
    made.peepholes = options.peepholes
    made.coupled = options.coupled
    made.no_forget_gate = not options.forget_gate
    made.gate_clip = options.gate_clip or 0.0
    made.cell_clip = options.cell_clip or 0.0
    made.gate = make_activation(gate)
    made.candidate = make_activation(candidate)
    made.output = make_activation(output)
    made.proj_clip = options.proj_clip or 0.0
    if options.layer_norm is not None:
        made.layer_norm = (FASTLSTM_NORM_SUMS if options.layer_norm == "sums"
                           else FASTLSTM_NORM_SEPARATE)
        made.norm_epsilon = options.norm_epsilon
    made.zoneout_c = options.zoneout_c
    made.zoneout_h = options.zoneout_h
    made.recurrent_dropout = options.recurrent_dropout
    made.variational_dropout = options.variational_dropout
    made.input_dropout = options.input_dropout
    return made


cdef fastlstm_spec make_spec(object spec, str isa, int passes) except *:
    """A `fastlstm.spec.Spec` as C takes it, with what it does not say."""
    cdef fastlstm_spec made
    memset(&made, 0, sizeof(made))
    made.struct_size = sizeof(made)
    made.input_size = spec.input_size
    made.hidden_size = spec.hidden_size
    made.num_layers = spec.num_layers
    made.directions = spec.directions
    made.cell = cell_from_name(spec.cell)
    made.dtype = FASTLSTM_F64 if spec.double else FASTLSTM_F32
    made.isa = isa_from_name(isa)
    made.gemm_blas = spec.gemm == "blas"
    made.passes = passes
    made.proj_size = spec.proj_size
    made.options = make_options(spec.options)
    return made


def tape_bytes(spec, str isa, int64_t steps, int64_t batch):
    """Bytes of a tape for that many steps of that many sequences."""
    cdef fastlstm_spec made = make_spec(spec, isa, FASTLSTM_PASS_FORWARD | FASTLSTM_PASS_BACKWARD)
    cdef size_t size = 0
    if fastlstm_tape_bytes(&made, steps, batch, &size) != FASTLSTM_OK:
        raise MemoryError("the tape would not fit into any memory")
    return size


def drop_weights(weights, double p, uint64_t seed, int64_t place, str isa):
    """Weight drop of the W_hh of layer * directions + direction `place`, or of its gradients, in place."""
    cdef Call call = Call()
    cdef Py_buffer *buffer
    cdef const fl_kernels *kernels
    try:
        buffer = call.take("weight_hh", weights, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE)
        if buffer.ndim != 2 or not (has_format(buffer, b"d") or has_format(buffer, b"f")):
            refuse("weight_hh", buffer, "a matrix of floats")
        kernels = fl_kernels_for(isa_from_name(isa),
                                 FASTLSTM_F64 if buffer.itemsize == 8 else FASTLSTM_F32)
        if kernels == NULL:
            raise ValueError(f"instruction set {isa!r} is not available here")
        with nogil:
            fl_drop_weights(kernels, buffer.buf, buffer.shape[0], buffer.shape[1], p, seed, place)
    finally:
        call.release()


include "_backoff.pxi"
include "_engine.pxi"
include "_stream.pxi"
include "_hash.pxi"


def isa_available(str name):
    """Whether the instruction set runs here; ValueError for an unknown name."""
    return bool(fastlstm_isa_available(isa_from_name(name)))


def isa_names():
    """All instruction sets that the library knows, best first; see isa_available."""
    cdef list names = []
    cdef int isa
    for isa in range(FASTLSTM_ISA_COUNT - 1, -1, -1):
        names.append(fastlstm_isa_name(<fastlstm_isa>isa).decode())
    return names


def cache_sizes():
    """Bytes of the first, second and third level that serve a core's data, 0 where that is unknown."""
    cdef fl_cache_sizes sizes = fl_cache_sizes_of_cpu()
    return sizes.l1, sizes.l2, sizes.l3


def team_max():
    return fl_team_max()


def team_cpus():
    """CPUs that OpenMP binds its threads to, 0 where it binds none."""
    return fl_team_cpus()


def team_name():
    return fl_team_name().decode()


def forked():
    """To be called in a forked child."""
    global forks
    forks += 1
    fl_team_forked()


def measure_fma(double seconds, str dtype, str isa):
    """Multiply-add peak of one thread in flop/s, measured for that many seconds."""
    cdef const fl_kernels *kernels = fl_kernels_for(
        isa_from_name(isa), FASTLSTM_F64 if dtype == "float64" else FASTLSTM_F32)
    if kernels == NULL:
        raise ValueError(f"instruction set {isa!r} is not available here")
    with nogil:
        rate = fl_measure_fma(kernels, seconds)
    return rate


def measure_read_bandwidth(int64_t size, double seconds, str isa):
    """Bytes per second that one thread reads over and over from `size` bytes."""
    cdef const fl_kernels *kernels = fl_kernels_for(isa_from_name(isa), FASTLSTM_F32)
    cdef Block block
    if kernels == NULL:
        raise ValueError(f"instruction set {isa!r} is not available here")
    size = (size + 1023) // 1024 * 1024
    block = Block(size)
    memset(block.data, 0, size)
    with nogil:
        rate = fl_measure_read(kernels, block.data, size, seconds)
    return rate
