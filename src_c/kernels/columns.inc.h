// SPDX-License-Identifier: BSD-3-Clause
// Vectors of a row that may end within them: columns of a matrix, hidden units.
#ifndef FL_COLUMNS_H
#define FL_COLUMNS_H

// Columns [column, column + VL) of a row of `columns`; zeros past its end.
FL_INLINE vreal load_columns(const real *row, int64_t column, int64_t columns)
{
  return columns - column >= VL ? vloadu(row + column) : vload_first(row + column, (int)(columns - column));
}

// The first `count` lanes, 1 to VL.
FL_INLINE void store_units(real *to, vreal v, int count)
{
  if (count == VL)
    vstoreu(to, v);
  else
    vstore_first(to, v, count);
}

#endif
