# SPDX-License-Identifier: BSD-3-Clause
# Part of _core.pyx.

# Below this size the GIL is kept: giving it up costs more than the hash.
cdef size_t SMALL_HASH = 1 << 18


def hash_memory(list addresses, list sizes, str isa):
    """64 bits of the bytes at these addresses, whose owners the caller keeps alive; see fl_hash."""
    cdef fastlstm_isa used = isa_from_name(isa)
    cdef uint64_t result = 0
    cdef const void *data
    cdef size_t size
    cdef Py_ssize_t i
    if len(addresses) != len(sizes):
        raise ValueError("each address needs a size")
    if not fastlstm_isa_available(used):
        raise ValueError(f"instruction set {isa!r} is not available here")
    for i in range(len(addresses)):
        data = <const void *><uintptr_t>addresses[i]
        size = sizes[i]
        if size < SMALL_HASH:
            result = fl_hash(used, data, size, result)
        else:
            with nogil:
                result = fl_hash(used, data, size, result)
    return result
