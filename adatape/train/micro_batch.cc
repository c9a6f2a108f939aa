#include "adatape/train/micro_batch.h"

#include "adatape/core/check.h"

namespace adatape {

Batch micro_batch(const Batch& batch, int64_t first, int64_t count, bool answers_each) {
  ADATAPE_CHECK(first >= 0 && count >= 1 && first + count <= batch.size(), "micro-batch", "expected examples within 0 .. ",
                batch.size() - 1, ", got ", first, " .. ", first + count - 1);
  Batch part;
  if (batch.images.defined()) {
    part.images = batch.images.narrow(0, first, count);
  } else {
    const int64_t begin = batch.offsets[static_cast<size_t>(first)];
    for (int64_t b = first; b <= first + count; ++b) part.offsets.push_back(batch.offsets[static_cast<size_t>(b)] - begin);
    const int64_t elements = part.offsets.back();
    if (batch.symbols.defined()) part.symbols = batch.symbols.narrow(0, begin, elements);
    if (batch.vectors.defined()) part.vectors = batch.vectors.narrow(0, begin, elements);
    if (batch.places.defined()) part.places = batch.places.narrow(0, begin, elements);
    if (batch.decoder_symbols.defined()) {
      const int64_t start = batch.decoder_offsets[static_cast<size_t>(first)];
      for (int64_t b = first; b <= first + count; ++b)
        part.decoder_offsets.push_back(batch.decoder_offsets[static_cast<size_t>(b)] - start);
      part.decoder_symbols = batch.decoder_symbols.narrow(0, start, part.decoder_offsets.back());
    }
    if (batch.labels.defined()) {
      part.labels = answers_each ? batch.labels.narrow(0, batch.answer_offsets()[static_cast<size_t>(first)], part.answer_offsets().back())
                                 : batch.labels.narrow(0, first, count);
    }
  }
  if (batch.images.defined() && batch.labels.defined()) part.labels = batch.labels.narrow(0, first, count);
  if (batch.other_labels.defined()) {
    part.other_labels = batch.other_labels.narrow(0, first, count);
    part.label_weights = batch.label_weights.narrow(0, first, count);
  }
  part.examples = batch.examples.narrow(0, first, count);
  return part;
}

}  // namespace adatape
