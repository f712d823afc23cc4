// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic of vectors whose type has the compiler's operators. A vector header includes it once FL_INLINE
// and vreal are there; one whose vreal is a structure (neon.h) has functions of its own.
#ifndef FL_ISA_OPERATORS_H
#define FL_ISA_OPERATORS_H

FL_INLINE vreal vadd(vreal a, vreal b) { return a + b; }
FL_INLINE vreal vsub(vreal a, vreal b) { return a - b; }
FL_INLINE vreal vmul(vreal a, vreal b) { return a * b; }
FL_INLINE vreal vdiv(vreal a, vreal b) { return a / b; }
FL_INLINE vreal vneg(vreal a) { return -a; }

#endif
