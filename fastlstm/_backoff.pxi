# SPDX-License-Identifier: BSD-3-Clause
# When teams are avoided. Part of _core.pyx.

cdef class StragglerBackoff:
    """Whether teams are better avoided just now, because their threads straggled."""

    cdef double hold, hold_until
    cdef bint straggled_before

    cdef bint held(self) noexcept:
        return self.hold_until > 0 and fl_now() < self.hold_until

    cdef void note(self, bint straggled) noexcept:
        """A team that straggled once may just have been asleep; after two in a row, avoid teams for a while."""
        if not straggled:
            self.hold = self.hold_until = 0
        elif self.straggled_before:
            self.hold = min(HOLD_MOST, max(HOLD_FIRST, 2 * self.hold))
            self.hold_until = fl_now() + self.hold
        self.straggled_before = straggled and not self.straggled_before
