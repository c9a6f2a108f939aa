// Models whose tokens or examples halt where one wants them to, through their own means alone: for measuring what halting saves without
// training. Feature 0 of a patch's token is its first pixel, every block leaves it as it is, and the halting unit reads it.
#pragma once

#include <cstdint>
#include <vector>

#include "adatape/models/encoder_config.h"

namespace adatape {

enum class HaltingUnit { kNone, kToken, kExample };

// What halts by depth in a model of this configuration: A-ViT, Universal Transformer; nothing elsewhere (AdaTape's tape has its own rule).
HaltingUnit halting_unit(const ModelConfig& config);
// Blocks, or the longest computation's steps, of such a configuration; 0 for kNone.
int64_t deepest(const ModelConfig& config);

// Changes weights such that images of images_halting_at halt at their depths: class tokens all the way, or with their example. Error for
// kNone and for models without patches.
void obey_pixels(Model& model, const ModelConfig& config);

// Halting depths 1 .. deepest of `units` tokens or examples, in random order by seed: an even spread, each depth as often as the others; or
// the quantiles of a normal distribution, rounded and cut off at both ends.
std::vector<int64_t> even_depths(int64_t units, int64_t deepest, uint64_t seed);
std::vector<int64_t> normal_depths(int64_t units, int64_t deepest, double mean, double deviation, uint64_t seed);

// Random images [B, channels, height, width] whose patches carry these depths: [B x patches] for tokens, [B] for examples (Error where an
// example has so few patches that its class token's probability outweighs them), [] for kNone.
Batch images_halting_at(const std::vector<int64_t>& depths, int64_t batch, const InputSpec& input, const EncoderConfig& config,
                        uint64_t seed);

}  // namespace adatape
