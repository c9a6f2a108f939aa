#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {

TapeReadResult tape_read_forward_cpu(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  return tape_read_forward_reference(inputs, options);
}

TapeReadGradients tape_read_backward_cpu(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
  return tape_read_backward_reference(inputs, options);
}

}  // namespace adatape::ops
