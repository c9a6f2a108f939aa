#include "adatape/core/batch.h"

namespace adatape {

Batch Batch::to(at::Device device) const {
  Batch moved = *this;
  for (at::Tensor* tensor :
       {&moved.images, &moved.symbols, &moved.vectors, &moved.decoder_symbols, &moved.labels, &moved.other_labels, &moved.label_weights}) {
    if (tensor->defined()) *tensor = tensor->to(device);
  }
  return moved;
}

}  // namespace adatape
