// Text from a decoder, symbol by symbol, with all keys and values kept.
#pragma once

#include <functional>

#include "adatape/models/text_model.h"

namespace adatape {

struct GenerateOptions {
  int64_t symbols = 100;   // how many, at most
  double temperature = 1;  // of the softmax that is drawn from; 0: the most likely symbol always
  int64_t top_k = 0;       // drawn among the k most likely; 0: all
  int64_t start = 0;       // an encoder-decoder's decoder reads this first
  int64_t stop = -1;       // a sequence ends with this symbol (which is not part of the answer); -1: never
  uint64_t seed = 1;
};

// One answer for each prompt; prompts of different lengths share a batch, and each is answered as it would be alone: draws belong to
// (seed, example, place). examples: identity of each prompt; empty: 0, 1 ... A sequence that has stopped costs nothing. A decoder alone
// needs prompts of at least one symbol (Error). on_symbols (optional) is told the newest symbol of each prompt, -1 where it has stopped.
std::vector<std::vector<int64_t>> generate(TextModel& model, const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerateOptions& options, const std::vector<uint64_t>& examples = {},
                                           const std::function<void(const std::vector<int64_t>&)>& on_symbols = {});

}  // namespace adatape
