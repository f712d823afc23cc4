# SPDX-License-Identifier: BSD-3-Clause
# Part of _core.pyx.

cdef class Stream:
    """The running state of `batch` sequences on an Engine; see fastlstm.Stream."""

    cdef readonly Engine engine
    cdef readonly int64_t batch
    cdef readonly object dtype
    cdef readonly object h, c  # (L, B, H), written by every call
    cdef int threads
    cdef int32_t busy
    cdef char format
    cdef Call state  # holds h and c
    cdef void *h_data
    cdef void *c_data
    cdef fl_plan step_plan, step_plan_alone
    cdef Block space
    cdef Call call
    cdef list outputs  # of recent steps; one that nobody else holds is used again

    def __init__(self, Engine engine not None, int64_t batch, int threads, h, c):
        if self.engine is not None or engine.model == NULL or batch < 1:
            raise RuntimeError("a stream is made by LSTM.stream, and once")
        for state in (h, c):
            if (state.shape != (engine.num_layers, batch, engine.hidden_size)
                    or state.dtype != ("f8" if engine.spec.dtype == FL_F64 else "f4")
                    or not state.flags.c_contiguous):
                raise ValueError("h and c must be contiguous arrays (L, B, H) of the model's dtype")
        self.engine = engine
        self.batch = batch
        self.threads = threads
        self.dtype = h.dtype
        self.format = b"d" if engine.spec.dtype == FL_F64 else b"f"
        self.h = h[...]  # views: nobody can resize them
        self.c = c[...]
        self.state = Call()
        self.h_data = self.state.write(h)
        self.c_data = self.state.write(c)
        self.call = Call()
        self.step_plan = engine.make_plan(FL_INFER, 1, batch, threads)
        self.step_plan_alone = engine.make_plan(FL_INFER, 1, batch, 1)
        self.space = Block(max(self.step_plan.workspace_bytes, self.step_plan_alone.workspace_bytes))
        self.outputs = []

    cdef object step_output(self, void **data):
        """An array (B, H) that nobody else holds, with a buffer of it in self.call."""
        cdef int i
        cdef object array
        cdef Py_buffer *buffer
        for i in range(len(self.outputs)):
            array = self.outputs[i]
            # References: the list's and ours. A third is a user who still reads it.
            if Py_REFCNT(<PyObject *>array) != 2:
                continue
            try:  # whoever had it may have changed its shape, dtype or flags
                buffer = self.call.hold(array, PyBUF_STRIDES | PyBUF_WRITABLE | PyBUF_FORMAT)
            except (BufferError, ValueError):
                buffer = NULL
            if (buffer != NULL and buffer.ndim == 2 and buffer.shape[0] == self.batch
                    and buffer.shape[1] == self.engine.hidden_size
                    and buffer.format[0] == self.format and buffer.format[1] == 0
                    and buffer.strides[0] == self.engine.hidden_size * buffer.itemsize
                    and buffer.strides[1] == buffer.itemsize):
                data[0] = buffer.buf
                return array
            del self.outputs[i]
            break
        array = np.empty((self.batch, self.engine.hidden_size), self.dtype)
        self.outputs.insert(0, array)
        del self.outputs[3:]
        data[0] = self.call.write(array)
        return array

    def __call__(self, x):
        cdef Py_buffer *buffer
        cdef fl_io io
        cdef fl_plan plan
        cdef const char *format
        cdef bint alone
        cdef fl_plan *used
        cdef Block space = self.space
        cdef object y
        cdef Py_ssize_t item = 8 if self.format == b"d" else 4
        cdef int axis
        if self.engine is None:
            raise RuntimeError("a stream is made by LSTM.stream")
        alone = self.step_plan.threads > 1 and self.engine.patience.held()
        used = &self.step_plan_alone if alone else &self.step_plan
        if self.busy:
            raise RuntimeError("this stream is in use by another thread; give each its own")
        self.busy = 1
        try:
            try:
                buffer = self.call.hold(x, PyBUF_STRIDES | PyBUF_FORMAT)
            except (TypeError, BufferError, ValueError):
                raise TypeError(f"x must be an array of {self.dtype}, got {type(x).__name__}") from None
            format = buffer.format
            if format[0] == b"=":  # so NumPy says of an array that is not aligned
                format += 1
            if format[0] != self.format or format[1] != 0 or type(x) is MaskedArray:
                raise TypeError(f"x must be a plain array of {self.dtype}, got "
                                f"{type(x).__name__} of format {buffer.format.decode()!r}")
            axis = buffer.ndim - 2
            if (axis not in (0, 1) or buffer.shape[axis] != self.batch
                    or buffer.shape[axis + 1] != self.engine.input_size):
                shape = tuple([buffer.shape[i] for i in range(buffer.ndim)])
                raise ValueError(
                    f"x must have shape ({self.batch}, {self.engine.input_size}) or "
                    f"(t, {self.batch}, {self.engine.input_size}), got {shape}")
            if ((buffer.shape[axis + 1] > 1 and buffer.strides[axis + 1] != item)
                    or buffer.strides[axis] % item or (axis and buffer.strides[0] % item)
                    or <uintptr_t>buffer.buf % item):
                if buffer.len > <Py_ssize_t>LARGE and buffer.len > available_memory():
                    raise MemoryError(f"a contiguous copy of x takes {buffer.len} bytes")
                self.call.release()
                x = np.array(x, order="C")
                buffer = self.call.hold(x, PyBUF_STRIDES | PyBUF_FORMAT)
            memset(&io, 0, sizeof(io))
            io.x = buffer.buf
            io.x_b = buffer.strides[axis] // item
            io.h_0 = io.h_n = self.h_data
            io.c_0 = io.c_n = self.c_data
            if axis == 0:
                y = self.step_output(&io.y)
            else:
                y = np.empty((buffer.shape[0], self.batch, self.engine.hidden_size), self.dtype)
                io.x_t = buffer.strides[0] // item
                io.y = self.call.write(y)
                io.y_t = self.batch * self.engine.hidden_size
                plan = self.engine.make_plan(FL_INFER, buffer.shape[0], self.batch,
                                             1 if self.engine.patience.held() else self.threads)
                used = &plan
                space = self.engine.workspace(plan.workspace_bytes)
            io.y_b = self.engine.hidden_size
            self.engine.run(used, &io, space.data, self.call)
            if axis == 1:
                self.engine.keep(space)
            return y
        finally:
            self.call.release()
            self.busy = 0
