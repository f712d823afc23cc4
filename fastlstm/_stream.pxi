# SPDX-License-Identifier: BSD-3-Clause
# Part of _core.pyx.

cdef class Stream:
    """The running state of `batch` sequences on an Engine; see fastlstm.Stream."""

    cdef readonly Engine engine
    cdef readonly int64_t batch
    cdef readonly bint batch_first  # chunks are (B, t, I)
    cdef readonly object dtype
    cdef readonly object h, c  # (L, B, P) and (L, B, H), written by every call; c is None where there is none
    cdef int threads
    cdef int32_t busy
    cdef int64_t forks  # when it became busy
    cdef char format
    cdef Call state  # holds h and c
    cdef void *h_data
    cdef void *c_data  # or NULL
    cdef Block before  # h and c as they were before a call that can be interrupted
    cdef fastlstm_plan step_plan, step_plan_alone
    cdef Block space
    cdef Call call
    cdef list outputs  # of recent steps; one that nobody else holds is used again

    def __init__(self, Engine engine not None, int64_t batch, int threads, bint batch_first=False):
        cdef int64_t h_states, c_states
        cdef size_t space
        if self.engine is not None or engine.model == NULL or engine.directions != 1 or batch < 1:
            raise RuntimeError("a stream is made by the method stream of a model, and once")
        h_states = engine.num_layers * batch * engine.outputs
        c_states = engine.num_layers * batch * engine.hidden_size
        self.batch = batch
        self.batch_first = batch_first
        self.threads = threads
        self.dtype = np.dtype("f8" if engine.spec.dtype == FASTLSTM_F64 else "f4")
        self.format = b"d" if engine.spec.dtype == FASTLSTM_F64 else b"f"
        self.step_plan = engine.make_plan(FASTLSTM_INFER, 1, batch, threads)
        self.step_plan_alone = engine.make_plan(FASTLSTM_INFER, 1, batch, 1)
        space = max(self.step_plan.workspace_bytes, self.step_plan_alone.workspace_bytes)
        if not fits((h_states + engine.has_c * c_states) * engine.item() + space):
            raise MemoryError(f"the state of {batch} sequences takes more than the memory available")
        self.space = Block(space)
        shape = (engine.num_layers, batch)
        self.h = new_state((*shape, engine.outputs), self.dtype)
        self.c = new_state((*shape, engine.hidden_size), self.dtype) if engine.has_c else None
        self.state = Call()
        self.h_data = self.state.whole("h", self.h, PyBUF_WRITABLE, self.format, h_states)
        self.c_data = self.state.whole("c", self.c, PyBUF_WRITABLE, self.format, c_states)
        self.call = Call()
        self.outputs = []
        self.engine = engine

    cdef size_t h_bytes(self) noexcept:
        return self.state.buffers[0].len

    cdef size_t c_bytes(self) noexcept:
        return self.state.buffers[1].len if self.c_data != NULL else 0

    cdef int idle(self) except -1:
        if self.engine is None:
            raise RuntimeError("a stream is made by the method stream of a model")
        if self.busy and self.forks != forks:  # the thread that used it is the parent's
            self.call.release()
            self.busy = 0
        if self.busy:
            raise RuntimeError("this stream is in use by another thread; give each its own")
        return 0

    def _state_now(self):
        """Copies of (h, c), or h alone where there is no c, of one moment."""
        cdef Call copies = Call()
        self.idle()
        # Not the shape of self.h, which whoever holds it may change.
        shape = (self.engine.num_layers, self.batch)
        h = np.empty((*shape, self.engine.outputs), self.dtype)
        memcpy(copies.take("h", h, PyBUF_WRITABLE).buf, self.h_data, self.h_bytes())
        if self.c_data == NULL:
            return h
        c = np.empty((*shape, self.engine.hidden_size), self.dtype)
        memcpy(copies.take("c", c, PyBUF_WRITABLE).buf, self.c_data, self.c_bytes())
        return h, c

    def _set_state(self, h, c):
        """Both at once: contiguous arrays of the state's shape and dtype, or None for zeros. Where there
        is no c, it must be None."""
        cdef Call given = Call()
        cdef int64_t rows = self.engine.num_layers * self.batch
        cdef const void *h_from = given.whole("h", h, 0, self.format, rows * self.engine.outputs)
        cdef const void *c_from = given.whole("c", c, 0, self.format, rows * self.engine.hidden_size)
        self.idle()
        if self.c_data == NULL and c_from != NULL:
            raise ValueError("c must be None: this cell has no state of that name")
        if h_from == NULL:
            memset(self.h_data, 0, self.h_bytes())
        else:
            memcpy(self.h_data, h_from, self.h_bytes())
        if self.c_data == NULL:
            pass
        elif c_from == NULL:
            memset(self.c_data, 0, self.c_bytes())
        else:
            memcpy(self.c_data, c_from, self.c_bytes())

    cdef object step_output(self, void **data):
        """An array (B, P) that nobody else holds, with a buffer of it in self.call."""
        cdef int i
        cdef object array
        cdef Py_buffer *buffer
        for i in range(len(self.outputs)):
            array = self.outputs[i]
            # References: the list's and ours. A third is a user who still reads it.
            if Py_REFCNT(<PyObject *>array) != 2:
                continue
            try:  # whoever had it may have changed its shape, dtype or flags
                buffer = self.call.hold(array, PyBUF_STRIDES | PyBUF_WRITABLE)
            except (BufferError, ValueError):
                buffer = NULL
            if (buffer != NULL and buffer.ndim == 2 and buffer.shape[0] == self.batch
                    and buffer.shape[1] == self.engine.outputs
                    and has_format(buffer, self.format)
                    and buffer.strides[0] == self.engine.outputs * buffer.itemsize
                    and buffer.strides[1] == buffer.itemsize):
                data[0] = buffer.buf
                return array
            del self.outputs[i]
            break
        array = np.empty((self.batch, self.engine.outputs), self.dtype)
        self.outputs.insert(0, array)
        del self.outputs[3:]
        data[0] = self.call.whole("y", array, PyBUF_WRITABLE, self.format,
                                  self.batch * self.engine.outputs)
        return array

    cdef object input(self, object x):
        """x, or what it is converted to, whose buffer is then the call's first: of this dtype."""
        cdef Py_buffer *buffer = NULL
        cdef const char *format
        try:
            buffer = self.call.hold(x, PyBUF_STRIDES)
        except (TypeError, BufferError, ValueError):
            pass
        if buffer != NULL and type(x) is not MaskedArray:
            format = buffer.format
            if format != NULL and format[0] == b"=":  # so NumPy says of an array that is not aligned
                format += 1
            if format != NULL and format[0] == self.format and format[1] == 0:
                return x
        self.call.release()
        x = self._converted(x)
        buffer = self.call.hold(x, PyBUF_STRIDES)
        if not has_format(buffer, self.format):
            refuse("x", buffer, f"of {self.dtype}")
        return x

    cdef int check_shape(self, Py_buffer *buffer) except -1:
        """Of an x: (B, I), (t, B, I), or (B, t, I) if batch_first, or (I,) of one sequence."""
        cdef int axes = buffer.ndim
        cdef int axis = 0 if axes == 2 or self.batch_first else 1  # of the sequences
        if (1 <= axes <= 3 and buffer.shape[axes - 1] == self.engine.input_size
                and (self.batch == 1 if axes == 1 else buffer.shape[axis] == self.batch)):
            return 0
        alone = f"({self.engine.input_size},), " if self.batch == 1 else ""
        chunk = f"{self.batch}, t" if self.batch_first else f"t, {self.batch}"
        raise ValueError(
            f"x must have shape {alone}({self.batch}, {self.engine.input_size}) or "
            f"({chunk}, {self.engine.input_size}), got {shape_of(buffer)}")

    def _converted(self, x):
        """x as an array of this dtype, where it is no such array yet. TypeError where it cannot be."""
        raise TypeError(f"x must be an array of {self.dtype}, got {type(x).__name__}")

    cdef int run(self, fastlstm_plan *plan, fastlstm_io *io, Block space) except -1:
        """A run after which the state stands where it stood if it was interrupted. One thread writes it at
        the end or not at all; of several, some may have written theirs."""
        cdef size_t size = self.h_bytes(), c_size = self.c_bytes()
        if plan.threads == 1 or self.engine.is_small(plan):
            return self.engine.run(plan, io, space.data, self.call)
        if self.before is None:
            self.before = Block(size + c_size)
        memcpy(self.before.data, self.h_data, size)
        if self.c_data != NULL:
            memcpy(<char *>self.before.data + size, self.c_data, c_size)
        try:
            return self.engine.run(plan, io, space.data, self.call)
        except BaseException:
            memcpy(self.h_data, self.before.data, size)
            if self.c_data != NULL:
                memcpy(self.c_data, <char *>self.before.data + size, c_size)
            raise

    def __call__(self, x):
        cdef Py_buffer *buffer
        cdef fastlstm_io io
        cdef fastlstm_plan plan
        cdef bint alone
        cdef fastlstm_plan *used
        cdef Block space = self.space
        cdef object y
        cdef Py_ssize_t item = 8 if self.format == b"d" else 4
        cdef int axes, axis
        cdef int64_t units, steps
        self.idle()
        alone = self.step_plan.threads > 1 and self.engine.backoff.held()
        used = &self.step_plan_alone if alone else &self.step_plan
        units = self.engine.outputs
        self.busy = 1
        self.forks = forks
        try:
            x = self.input(x)
            buffer = &self.call.buffers[0]
            self.check_shape(buffer)
            axes = buffer.ndim
            if ((buffer.shape[axes - 1] > 1 and buffer.strides[axes - 1] != item)
                    or (axes > 1 and buffer.strides[0] % item)
                    or (axes == 3 and buffer.strides[1] % item) or <uintptr_t>buffer.buf % item):
                if not fits(buffer.len):
                    raise MemoryError(f"a contiguous copy of x takes {buffer.len} bytes")
                x = np.array(x, order="C", subok=False)
                self.call.release()
                buffer = self.call.take("x", x, PyBUF_C_CONTIGUOUS)
                self.check_shape(buffer)
                axes = buffer.ndim
            memset(&io, 0, sizeof(io))
            io.struct_size = sizeof(io)
            io.x = buffer.buf
            io.x_b = buffer.strides[0] // item if axes == 2 else 0
            io.y_b = units
            io.h_0 = io.h_n = self.h_data
            io.c_0 = io.c_n = self.c_data
            if axes < 3:
                y = self.step_output(&io.y)
            else:
                axis = 0 if self.batch_first else 1  # of the sequences
                steps = buffer.shape[1 - axis]
                io.x_b = buffer.strides[axis] // item
                io.x_t = buffer.strides[1 - axis] // item
                y = np.empty((buffer.shape[0], buffer.shape[1], units), self.dtype)
                io.y = self.call.take("y", y, PyBUF_WRITABLE).buf
                io.y_t = units if self.batch_first else self.batch * units
                io.y_b = steps * units if self.batch_first else units
                plan = self.engine.make_plan(FASTLSTM_INFER, steps, self.batch,
                                             1 if self.engine.backoff.held() else self.threads)
                used = &plan
                space = self.engine.workspace(plan.workspace_bytes, y.nbytes)
            self.run(used, &io, space)
            if axes == 3:
                self.engine.keep(space)
            return y[0] if axes == 1 else y
        finally:
            self.call.release()
            self.busy = 0


cdef object new_state(tuple shape, dtype):
    """Zeros in memory that no holder of the array can resize."""
    cdef Block block = Block(int(np.prod(shape)) * dtype.itemsize)
    memset(block.data, 0, block.size)
    return np.frombuffer(memoryview(block), dtype, int(np.prod(shape))).reshape(shape)
