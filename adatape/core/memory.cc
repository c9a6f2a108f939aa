#include "adatape/core/memory.h"

#include <climits>  // brings __GLIBC__ where that is the library

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace adatape {

void keep_freed_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

}  // namespace adatape
