# SPDX-License-Identifier: BSD-3-Clause
# Memory that a run works in. Part of _core.pyx.

# The system may promise blocks of this size and more that it cannot keep: look before.
cdef size_t LARGE = 1 << 28


def available_memory():
    """Bytes that new allocations may take; see container.available_memory."""
    return container.available_memory()


# Large blocks that were let go, for the next that ask: getting pages from the system takes longer
# than what is often done with them. A training step lets go of packed weights, a tape and gradients.
cdef enum:
    POOL_BLOCKS = 32
cdef size_t POOL_LEAST = 1 << 16  # bytes of a block worth keeping
cdef size_t POOL_MOST = 256 << 20  # bytes of all
cdef void *pool_data[POOL_BLOCKS]
cdef size_t pool_size[POOL_BLOCKS]


cdef void *pool_take(size_t *size) noexcept:
    """A block of `size` bytes and not much more, whose size it sets; or NULL."""
    cdef int i
    cdef void *data
    for i in range(POOL_BLOCKS - 1, -1, -1):  # the newest first: it may be warm
        if pool_data[i] != NULL and size[0] <= pool_size[i] <= size[0] + size[0] // 4:
            data = pool_data[i]
            size[0] = pool_size[i]
            pool_data[i] = NULL
            pool_size[i] = 0
            return data
    return NULL


cdef void pool_drop(int i) noexcept:
    fastlstm_free(pool_data[i])
    pool_data[i] = NULL
    pool_size[i] = 0


cdef bint pool_put(void *data, size_t size) noexcept:
    """Keep a block, in place of the oldest ones where there is no more room."""
    cdef int i
    cdef size_t total = size
    if size < POOL_LEAST or size > POOL_MOST:
        return False
    for i in range(POOL_BLOCKS - 1, -1, -1):  # the newest is the last
        total += pool_size[i]
        if total > POOL_MOST or (i == 0 and pool_data[0] != NULL):
            total -= pool_size[i]
            pool_drop(i)
    for i in range(POOL_BLOCKS - 1):
        if pool_data[i] == NULL:
            pool_data[i] = pool_data[i + 1]
            pool_size[i] = pool_size[i + 1]
            pool_data[i + 1] = NULL
            pool_size[i + 1] = 0
    pool_data[POOL_BLOCKS - 1] = data
    pool_size[POOL_BLOCKS - 1] = size
    return True


def empty_pool():
    """Give the blocks back to the system. Which ones there are depends on history and timing, so
    whoever looks for leaks must not count them.
    """
    cdef int i
    for i in range(POOL_BLOCKS):
        pool_drop(i)


cdef bint fits(size_t size) except -1:
    """Whether there is room for so many bytes that nobody has touched yet."""
    return size < LARGE or size <= available_memory()


cdef void *fresh_memory(size_t size) except? NULL:
    return fastlstm_alloc(size) if fits(size) else NULL


cdef class Block:
    """Memory from fastlstm_alloc, of at least the size asked for."""

    cdef void *data
    cdef readonly size_t size
    cdef readonly size_t nbytes  # what there really is

    def __cinit__(self, size_t size):
        self.size = self.nbytes = size
        self.data = pool_take(&self.nbytes)
        if self.data == NULL:
            self.data = fresh_memory(size)
        if self.data == NULL:
            empty_pool()
            self.data = fresh_memory(size)
        if self.data == NULL:
            raise MemoryError(f"could not allocate {size} bytes")

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, <Py_ssize_t>self.nbytes, 0, flags)

    def __dealloc__(self):
        if self.data != NULL and not pool_put(self.data, self.nbytes):
            fastlstm_free(self.data)
