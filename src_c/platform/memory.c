// SPDX-License-Identifier: BSD-3-Clause
// Memory for callers without an allocator of their own.
#define _GNU_SOURCE
#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "fastlstm.h"

// Above this size a block starts on a huge page's boundary and asks for huge pages: packed
// weights read as one long stream miss the TLB otherwise. The last one is filled up only where that
// costs an eighth more memory at most; what is left then lies on small pages.
enum { HUGE_PAGE = 2 << 20, HUGE_FROM = 512 << 10 };

void *fastlstm_alloc(size_t bytes)
{
  if (bytes == 0) bytes = 1;
  const size_t align = bytes >= HUGE_FROM ? HUGE_PAGE : FASTLSTM_ALIGN;
  if (bytes > PTRDIFF_MAX - align) return NULL;
  const size_t filled = (bytes + align - 1) / align * align;
  const size_t rounded =
      filled - bytes <= bytes / 8 ? filled : (bytes + FASTLSTM_ALIGN - 1) / FASTLSTM_ALIGN * FASTLSTM_ALIGN;
  void *memory = NULL;
  if (posix_memalign(&memory, align, rounded) != 0) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (align == HUGE_PAGE) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  return memory;
}

void fastlstm_free(void *memory) { free(memory); }
