// A part of a batch, for gradient accumulation.
#pragma once

#include "adatape/core/batch.h"

namespace adatape {

// Examples first .. first + count - 1 of a batch, as views of its tensors.
Batch micro_batch(const Batch& batch, int64_t first, int64_t count);

}  // namespace adatape
