# SPDX-License-Identifier: BSD-3-Clause
# State that changes all at once. Part of _core.pyx.
#
# Python looks for signals between bytecodes, and lets other threads run there. A method of an extension
# type is one bytecode: what it does, nobody sees half done, unless it lets go of the GIL or runs Python
# code itself. What may fail comes first, and what changes the state last.

cdef int64_t forks = 0  # of this process's line: who held a guard before the last one is the parent's


cdef class Hold:
    """One use of a `Guard`, for a with statement. It ends with it, or at the latest with this object."""

    cdef Guard guard
    cdef bint writing, waiting, held
    cdef int64_t forks  # when it was taken

    def __enter__(self):
        if self.guard.forks != forks:
            self.guard.users = 0
        while self.guard.users < 0 or (self.writing and self.guard.users > 0):
            if self.guard.users < 0 and self.guard.writer == PyThread_get_thread_ident():
                # A signal's handler runs here: what it would wait for goes on only when it has returned.
                raise RuntimeError(f"{self.guard.what} is in use by the call that was interrupted")
            if not self.waiting:
                raise RuntimeError(f"{self.guard.what} is in use by another thread")
            with nogil:
                usleep(100)
            PyErr_CheckSignals()
        self.guard.users = -1 if self.writing else self.guard.users + 1
        self.guard.writer = PyThread_get_thread_ident() if self.writing else 0
        self.guard.forks = self.forks = forks
        self.held = True

    def __exit__(self, kind, value, traceback):
        self.leave()

    def __dealloc__(self):
        self.leave()

    cdef void leave(self) noexcept:
        if not self.held:
            return
        self.held = False
        if self.forks != self.guard.forks:
            return
        self.guard.users = 0 if self.writing else self.guard.users - 1
        self.guard.writes += self.writing


cdef class Guard:
    """Lets any number of readers in at once, or one writer: `reading`, `writing` in a with statement.

    A caller that is refused gets a RuntimeError that names `what`, or waits."""

    cdef str what
    cdef int users  # readers; -1: a writer
    cdef int64_t forks  # when the last of them came
    cdef unsigned long writer  # its thread
    cdef int64_t writes  # that are over

    def __init__(self, str what):
        self.what = what

    def __reduce__(self):
        return Guard, (self.what,)  # a copy is nobody's yet

    def reading(self):
        return self.hold(False, False)

    def writing(self, bint wait=False):
        return self.hold(True, wait)

    cdef Hold hold(self, bint writing, bint waiting):
        cdef Hold hold = Hold.__new__(Hold)
        hold.guard = self
        hold.writing = writing
        hold.waiting = waiting
        return hold


cdef int copy_values(dict values, dict targets) except -1:
    """Copy the values of arrays to those of the same names, of which all or, if one has changed, none is
    written. Read-only arrays are written as well: who calls this owns them."""
    cdef list calls = []
    cdef Call call
    cdef Py_buffer *target
    cdef Py_buffer *source
    for name, array in values.items():
        call = Call()
        call.take(name, array, PyBUF_C_CONTIGUOUS)
        call.take(name, targets[name], PyBUF_C_CONTIGUOUS)
        source, target = &call.buffers[0], &call.buffers[1]
        if source.len != target.len or not has_format(target, source.format[0]):
            refuse(name, target, f"of {source.len} bytes")
        calls.append(call)
    for call in calls:
        memcpy(call.buffers[1].buf, call.buffers[0].buf, call.buffers[0].len)
    return 0


cdef int set_writable(list arrays, bint writable) except -1:
    """Of all arrays or, if one of them refuses, of none."""
    cdef list flags = [], before = []
    cdef Py_ssize_t i, done = 0
    for array in arrays:
        flags.append(array.flags)
        before.append(array.flags.writeable)
    try:
        for i in range(len(flags)):
            flags[i].writeable = writable
            done += 1
    except BaseException:
        for i in range(done):
            set_back(flags[i], before[i])
        raise
    return 0


cdef int set_back(flags, writable) except -1:
    """Of one array, which may need some tries where memory is wanting."""
    cdef int tries
    for tries in range(1000):
        try:
            flags.writeable = writable
            return 0
        except MemoryError:
            pass
    raise MemoryError()


cdef class Parameters:
    """The named arrays of a model, and whether they may be written to.

    ``arrays`` is never changed, only replaced. ``version`` tells when they may have other values than
    before, as far as this object knows: in training mode their holders write to them as they like.
    """

    cdef readonly dict arrays
    cdef readonly bint training
    cdef readonly bint live  # arrays were handed out to be written to: they stay the same objects
    cdef readonly int64_t version
    cdef readonly object packed  # None, or an engine with these values and the passes it is packed for
    cdef readonly Guard guard  # of whoever writes to them for longer than one bytecode

    def __init__(self, dict arrays not None, bint training=False, bint live=False):
        self.arrays = arrays
        self.training = training
        self.live = live
        self.guard = Guard("the model")
        set_writable(list(arrays.values()), training)

    def __reduce__(self):
        arrays = self.copies() if self.live else self.arrays
        return _parameters_again, (arrays, self.training, self.live)

    def train(self, bint mode):
        """Make all arrays writable, or none."""
        cdef dict before = self.arrays  # freed at the end: that may run somebody's code
        cdef object packed = self.packed
        cdef dict arrays = before
        if mode and not self.live:  # what was handed out before is a value, and stays as it is
            arrays = {name: values.copy() for name, values in before.items()}
        set_writable(list(arrays.values()), mode)
        self.arrays = arrays
        self.live = self.live or mode
        self.training = mode
        self.changed()

    def load(self, dict found not None):
        """Take over values: arrays that nobody else holds, read-only, of the right shapes and dtype."""
        cdef dict before = self.arrays
        cdef object packed = self.packed
        cdef dict arrays = before
        cdef Hold hold
        if self.live:
            # No with statement: where there is no memory for a traceback, Cython's crashes.
            hold = self.guard.hold(True, True)
            hold.__enter__()
            try:
                copy_values(found, before)
                self.changed()
            finally:
                hold.leave()
        else:
            arrays = {**before, **found}
            self.arrays = arrays
            self.changed()

    def copies(self):
        """Name -> a copy of every array, all of one moment."""
        cdef dict arrays = self.arrays
        cdef dict copies = {name: np.empty(values.shape, values.dtype) for name, values in arrays.items()}
        copy_values(arrays, copies)
        return copies

    cdef void changed(self) noexcept:
        self.version += 1
        self.packed = None

    def keep(self, int64_t version, engine, int passes):
        """Remember the engine, unless it is out of date or soon could be."""
        packed = engine, passes
        if self.version == version and not self.training:
            self.packed = packed

    def forget(self):
        """Let go of the engine."""
        self.packed = None

    def settled(self):
        """The version and the number of writes that are over, once nobody writes."""
        cdef Hold hold = self.guard.hold(False, True)
        hold.__enter__()
        hold.leave()
        return self.version, self.guard.writes

    def unchanged(self, int64_t version, int64_t writes):
        """Whether nobody has written since `settled` said so, as far as this object knows."""
        return self.version == version and self.guard.writes == writes and self.guard.users == 0


def _parameters_again(arrays, training, live):
    # An array of pickle may stand on a bytes object, and could not be made writable again.
    owned = {name: values if values.flags.owndata else values.copy() for name, values in arrays.items()}
    return Parameters(owned, training, live)
