# SPDX-License-Identifier: BSD-3-Clause
# The buffers of one run, checked where they are taken. Part of _core.pyx.
#
# Python code that belongs to a caller may have run since its arrays were checked: another argument's
# __array__, a mapping's __getitem__, another thread. It may have changed their shapes, strides, dtypes
# and memory. So the core believes only what it reads itself, from buffers that it takes one after the
# other without running anybody's code, and that it holds until the run is over.

cdef enum:
    MOST_BUFFERS = 16


cdef struct Extent:
    int64_t steps, batch
    int64_t rows  # of arrays of steps, if they are packed
    bint packed


cdef class Strided:
    """(T, B, n) elements in memory that the caller of a run keeps alive: an address, T and B, and the
    strides of their axes in elements. Of packed rows (N, n), N counts and b is the stride.
    """

    cdef readonly uintptr_t address
    cdef int64_t steps, batch, t, b, rows

    def __init__(self, uintptr_t address, int64_t steps, int64_t batch, int64_t t, int64_t b,
                 int64_t rows=0):
        self.rows = rows
        self.address = address
        self.steps = steps
        self.batch = batch
        self.t = t
        self.b = b


# Here and in the other parts of the core no list comprehension stands: where a list cannot grow for want of
# memory, Cython 3.3 frees the item twice.
cdef tuple shape_of(Py_buffer *buffer):
    cdef list shape = []
    cdef int i
    if buffer.shape != NULL:
        for i in range(buffer.ndim):
            shape.append(buffer.shape[i])
    return tuple(shape)


cdef str words(const Extent *extent):
    if extent.packed:
        return f"{extent.rows} packed rows"
    return f"{extent.steps} steps of {extent.batch} sequences"


cdef int refuse(str name, Py_buffer *buffer, str wanted) except -1:
    """ValueError: the array is no longer what it was when it was checked."""
    shape = shape_of(buffer)
    raise ValueError(f"{name} changed while the call was prepared: it must be {wanted}, and is an "
                     f"array of format {buffer.format.decode()!r} and shape {shape} now")


cdef bint has_format(Py_buffer *buffer, char format) noexcept:
    """Whether elements are of that format; "=" before it says that they are not aligned."""
    return buffer.format != NULL and buffer.format[0] == format and buffer.format[1] == 0


cdef int without_buffer(str name) except -1:
    """The error of `get_buffer` in words that name the array."""
    if PyErr_ExceptionMatches(MemoryError):
        return -1  # as it is
    PyErr_Clear()
    raise ValueError(f"{name} changed while the call was prepared: it is read-only, or not contiguous")


cdef object plain = ndarray  # a C variable: no look-up by name


cdef class Call:
    """Buffers held during one run, released when it is over; and what interrupted it."""

    cdef Py_buffer buffers[MOST_BUFFERS]
    cdef int count
    cdef object error

    cdef Py_buffer *hold(self, object array, int flags) except NULL:
        """Any object's buffer."""
        cdef Py_buffer *buffer
        if self.count == MOST_BUFFERS:
            raise RuntimeError("a run takes more buffers than it has room for")
        buffer = &self.buffers[self.count]
        PyObject_GetBuffer(array, buffer, flags | PyBUF_FORMAT)
        self.count += 1
        return buffer

    cdef Py_buffer *take(self, str name, object array, int flags) except NULL:
        """Of an array or a block: of neither runs anybody's code."""
        if type(array) is not plain and type(array) is not Block:
            raise TypeError(f"{name} must be a plain array, got {type(array).__name__}")
        if self.count == MOST_BUFFERS:
            raise RuntimeError("a run takes more buffers than it has room for")
        if get_buffer(array, &self.buffers[self.count], flags | PyBUF_FORMAT) < 0:
            without_buffer(name)
        self.count += 1
        return &self.buffers[self.count - 1]

    cdef void *whole(self, str name, object array, int flags, char format,
                     int64_t count) except? NULL:
        """Of a contiguous array of `count` elements, or of the address of one that the caller keeps
        alive; NULL for None."""
        cdef Py_buffer *buffer
        if array is None:
            return NULL
        if type(array) is int:
            return <void *><uintptr_t>array
        buffer = self.take(name, array, PyBUF_C_CONTIGUOUS | flags)
        if not has_format(buffer, format) or buffer.len != count * buffer.itemsize:
            refuse(name, buffer, f"{count} elements of format {chr(format)!r}")
        return buffer.buf

    cdef int measure(self, object x, lengths, starts, Extent *extent) except -1:
        """The extent of a run on x, where all arrays of steps have to agree with it."""
        cdef Py_buffer *buffer
        extent.packed = starts is not None
        if extent.packed:
            extent.steps, extent.batch = len(starts), len(lengths)
        if type(x) is Strided:
            extent.rows = (<Strided>x).rows
            if not extent.packed:
                extent.steps, extent.batch = (<Strided>x).steps, (<Strided>x).batch
            return 0
        buffer = self.take("x", x, PyBUF_STRIDES)
        if buffer.ndim != (2 if extent.packed else 3):
            refuse("x", buffer, "of two axes" if extent.packed else "of three axes")
        extent.rows = buffer.shape[0]
        if not extent.packed:
            extent.steps, extent.batch = buffer.shape[0], buffer.shape[1]
        return 0

    cdef void *rows(self, str name, object array, int flags, char format, const Extent *extent,
                    int64_t width, int64_t *t, int64_t *b) except? NULL:
        """A (T, B, width) array with its strides in elements, the last one 1; of packed rows
        (N, width) there is b alone. NULL for None."""
        cdef Py_buffer *buffer
        cdef Strided given
        cdef Py_ssize_t item
        cdef int axes = 2 if extent.packed else 3
        if array is None:
            return NULL
        if type(array) is Strided:
            given = array
            if (given.rows != extent.rows if extent.packed
                    else given.steps != extent.steps or given.batch != extent.batch):
                raise ValueError(f"{name} must have the rows of {words(extent)}, got {given.rows} and "
                                 f"{given.steps} steps of {given.batch} sequences")
            t[0] = given.t
            b[0] = given.b
            return <void *>given.address
        buffer = self.take(name, array, PyBUF_STRIDES | flags)
        item = buffer.itemsize
        if (buffer.ndim != axes or not has_format(buffer, format)
                or (buffer.shape[0] != extent.rows if extent.packed
                    else buffer.shape[0] != extent.steps or buffer.shape[1] != extent.batch)
                or buffer.shape[axes - 1] != width
                or buffer.strides[0] % item or buffer.strides[axes - 2] % item
                or (width > 1 and buffer.strides[axes - 1] != item) or <uintptr_t>buffer.buf % item):
            refuse(name, buffer, f"{words(extent)} of {width} elements of format {chr(format)!r}")
        t[0] = buffer.strides[0] // item
        b[0] = buffer.strides[axes - 2] // item
        return buffer.buf

    cdef const int64_t *integers(self, str name, object array, int64_t count) except? NULL:
        """A contiguous int64 array of `count` elements; NULL for None."""
        cdef Py_buffer *buffer
        if array is None:
            return NULL
        buffer = self.take(name, array, PyBUF_C_CONTIGUOUS)
        if (buffer.itemsize != 8 or buffer.format == NULL or buffer.format[0] not in b"lq"
                or buffer.len != 8 * count):
            refuse(name, buffer, f"{count} integers of 64 bits")
        return <const int64_t *>buffer.buf

    cdef void release(self) noexcept:
        while self.count > 0:
            self.count -= 1
            PyBuffer_Release(&self.buffers[self.count])

    def __dealloc__(self):
        self.release()


cdef int check_lengths(const int64_t *lengths, const int64_t *starts, const Extent *extent) except -1:
    """Lengths of sequences, and the first of the packed rows of each step: C indexes by them."""
    cdef int64_t i, steps = extent.steps, batch = extent.batch, rows = extent.rows, running = batch
    if lengths != NULL:
        for i in range(batch):
            if not 0 <= lengths[i] <= steps or (starts != NULL and i > 0 and lengths[i] > lengths[i - 1]):
                order = "" if starts == NULL else " and must not rise"
                raise ValueError(f"lengths must be between 0 and {steps}{order}, "
                                 f"got {lengths[i]} at position {i}")
    if starts != NULL:
        if lengths == NULL:
            raise ValueError("packed rows need lengths")
        for i in range(steps):
            while running > 0 and lengths[running - 1] <= i:
                running -= 1
            if starts[i] < 0 or starts[i] > rows - running:
                raise ValueError(f"starts[{i}] = {starts[i]} lies outside of {rows} rows")
    return 0


cdef int take_peepholes(Call call, parts, int flags, char format, int64_t units,
                        fastlstm_peephole_gradients *to) except -1:
    """Three of the arrays of a layer and direction, of i, f and o."""
    p_i, p_f, p_o = parts[5:8]
    if p_i is None or p_f is None or p_o is None:
        raise TypeError("a layer lacks arrays of its peepholes")
    to.i = call.whole("weight_ci or its gradient", p_i, flags, format, units)
    to.f = call.whole("weight_cf or its gradient", p_f, flags, format, units)
    to.o = call.whole("weight_co or its gradient", p_o, flags, format, units)
    return 0


cdef int take_norms(Call call, parts, int flags, char format, int64_t units,
                    const fastlstm_options *options, fastlstm_norm_gradients *to) except -1:
    """What stands behind the arrays of peepholes, if there are some."""
    rest = parts[5 + 3 * options.peepholes:]
    for part in rest:
        if part is None:
            raise TypeError("a layer lacks arrays of its normalisation")
    if options.layer_norm == FASTLSTM_NORM_SUMS:
        to.n = call.whole("weight_n or its gradient", rest[0], flags, format, 4 * units)
        return 0
    nx, nh, nc, bias_nc = rest
    to.nx = call.whole("weight_nx or its gradient", nx, flags, format, 4 * units)
    to.nh = call.whole("weight_nh or its gradient", nh, flags, format, 4 * units)
    to.nc = call.whole("weight_nc or its gradient", nc, flags, format, units)
    to.bias_nc = call.whole("bias_nc or its gradient", bias_nc, flags, format, units)
    return 0


cdef int64_t count_rows(const Extent *extent) noexcept:
    """Of an array of steps."""
    return extent.rows if extent.packed else extent.steps * extent.batch


cdef int check_status(fastlstm_status status) except -1:
    """For what callers of the core have seen to: the core's own last word."""
    if status != FASTLSTM_OK:
        raise RuntimeError(f"the core refuses the call: {fastlstm_status_text(status).decode()}")
    return 0
