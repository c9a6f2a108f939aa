// Runs of rows copied from some tensors into one: what appending to a pack and taking tokens of one kind out of it come down to.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace adatape {

// Rows first .. first + count - 1 of sources[source].
struct Segment {
  int64_t source = 0, first = 0, count = 0;
};
using Segments = std::vector<Segment>;

// Adds rows behind the last segment: longer, where they follow it.
void add_segment(Segments& segments, const Segment& segment);

// sources [rows, dim] of one dtype and device; no row may be named twice. Returns the rows of all segments one after another.
// Differentiable, also twice: the gradient is copied back, without sums (rows that no segment names get 0). One source that is named whole
// is returned as it is.
torch::Tensor join_segments(const std::vector<torch::Tensor>& sources, const std::shared_ptr<const Segments>& segments);

}  // namespace adatape
