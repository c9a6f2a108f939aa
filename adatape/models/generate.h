// Text from a decoder, symbol by symbol, with all keys and values kept.
#pragma once

#include <functional>
#include <optional>

#include "adatape/models/text_model.h"

namespace adatape {

struct GenerateOptions {
  static constexpr int64_t kSymbols = 100;
  std::optional<int64_t> symbols;  // how many, at most; none: as many as the model's positions allow, up to kSymbols
  double temperature = 1;          // of the softmax that is drawn from; 0: the most likely symbol always
  int64_t top_k = 0;               // drawn among the k most likely; 0: all
  int64_t start = 0;               // an encoder-decoder's decoder reads this first
  int64_t stop = -1;               // a sequence ends with this symbol (which is not part of the answer); -1: never
  uint64_t seed = 1;
};

// One answer for each prompt; prompts of different lengths share a batch, and each is answered as it would be alone: draws belong to
// (seed, example, place). examples: identity of each prompt; empty: prompt_identities. A sequence that has stopped costs nothing. Error: a
// prompt without symbols, or one that leaves too few learned positions for the symbols asked for; where none are asked for, for a single
// one. on_symbols (optional) is told the newest symbol of each prompt, -1 where it has stopped.
std::vector<std::vector<int64_t>> generate(TextModel& model, const std::vector<std::vector<int64_t>>& prompts,
                                           const GenerateOptions& options, const std::vector<uint64_t>& examples = {},
                                           const std::function<void(const std::vector<int64_t>&)>& on_symbols = {});

// What the draws of each prompt belong to: its symbols, and how often it came before, so that other prompts beside it change nothing and a
// prompt that is given several times has several answers, the first of which is the one that it has alone.
std::vector<uint64_t> prompt_identities(const std::vector<std::vector<int64_t>>& prompts);

}  // namespace adatape
