// How the process keeps memory between uses.
#pragma once

namespace adatape {

// Memory of freed tensors stays with the process instead of going back to the system. Each layer frees what the next one allocates; with
// glibc's defaults every tensor above 32 MiB is mapped and cleared anew page by page. Call once, at the start of a program; elsewhere than
// on glibc it does nothing. The process keeps its peak until it ends.
void keep_freed_memory();

}  // namespace adatape
