# SPDX-License-Identifier: BSD-3-Clause
# The buffers of one run, checked where they are taken. Part of _core.pyx.
#
# Python code that belongs to a caller may have run since its arrays were checked: another argument's
# __array__, a mapping's __getitem__, another thread. It may have changed their shapes, strides, dtypes
# and memory. So the core believes only what it reads itself, from buffers that it takes one after the
# other without running anybody's code, and that it holds until the run is over.

cdef enum:
    MOST_BUFFERS = 16


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

    cdef void *rows(self, str name, object array, int flags, char format, int64_t steps,
                    int64_t batch, int64_t width, int64_t *t, int64_t *b) except? NULL:
        """A (T, B, width) array with its strides in elements, the last one 1; NULL for None."""
        cdef Py_buffer *buffer
        cdef Strided given
        cdef Py_ssize_t item
        if array is None:
            return NULL
        if type(array) is Strided:
            given = array
            if given.steps != steps or given.batch != batch:
                raise ValueError(f"{name} must have {steps} steps of {batch} sequences, got "
                                 f"{given.steps} of {given.batch}")
            t[0] = given.t
            b[0] = given.b
            return <void *>given.address
        buffer = self.take(name, array, PyBUF_STRIDES | flags)
        item = buffer.itemsize
        if (buffer.ndim != 3 or not has_format(buffer, format) or buffer.shape[0] != steps
                or buffer.shape[1] != batch or buffer.shape[2] != width
                or buffer.strides[0] % item or buffer.strides[1] % item
                or (width > 1 and buffer.strides[2] != item) or <uintptr_t>buffer.buf % item):
            refuse(name, buffer, f"of shape ({steps}, {batch}, {width}) and format {chr(format)!r}")
        t[0] = buffer.strides[0] // item
        b[0] = buffer.strides[1] // item
        return buffer.buf

    cdef void *packed_rows(self, str name, object array, int flags, char format, int64_t rows,
                           int64_t width, int64_t *b) except? NULL:
        """A (rows, width) array with the stride of its rows in elements; NULL for None."""
        cdef Py_buffer *buffer
        cdef Strided given
        if array is None:
            return NULL
        if type(array) is Strided:
            given = array
            if given.rows != rows:
                raise ValueError(f"{name} must have {rows} rows, got {given.rows}")
            b[0] = given.b
            return <void *>given.address
        buffer = self.take(name, array, PyBUF_STRIDES | flags)
        if (buffer.ndim != 2 or not has_format(buffer, format) or buffer.shape[0] != rows
                or buffer.shape[1] != width or buffer.strides[0] % buffer.itemsize
                or (width > 1 and buffer.strides[1] != buffer.itemsize)
                or <uintptr_t>buffer.buf % buffer.itemsize):
            refuse(name, buffer, f"of shape ({rows}, {width}) and format {chr(format)!r}")
        b[0] = buffer.strides[0] // buffer.itemsize
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


cdef int check_lengths(const int64_t *lengths, const int64_t *starts, int64_t steps, int64_t batch,
                       int64_t rows) except -1:
    """Lengths of sequences, and the first of `rows` packed rows of each step: C indexes by them."""
    cdef int64_t i, running = batch
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
