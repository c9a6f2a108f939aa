// A part of a batch, for gradient accumulation.
#pragma once

#include "adatape/core/batch.h"

namespace adatape {

// Examples first .. first + count - 1 of a batch, as views of its tensors. answers_each: labels belong to elements
// (InputSpec::answers_each).
Batch micro_batch(const Batch& batch, int64_t first, int64_t count, bool answers_each = false);

}  // namespace adatape
