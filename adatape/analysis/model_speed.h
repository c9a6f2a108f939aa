// How fast models of published sizes are, untrained: what `adatape bench models` measures.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "adatape/models/presets.h"

namespace adatape {

struct SpeedOptions {
  int64_t batch = 8;
  int64_t image_size = 224;
  int64_t repeats = 3;  // timed passes; the median counts
  at::Device device{at::kCPU};
  double depth = 0;  // mean halting depth as a share of all blocks, for every model that halts by depth; 0: published_depth
};

// Where a model that halts by depth is taken to halt, as a share of its blocks.
struct HaltingSpread {
  double mean = 1;
  bool even = false;  // all depths alike often (mean (blocks + 1) / 2), else a normal distribution with a deviation of one block
};

// A-ViT: the published share of its DeiT's FLOPs, 0.8 / 1.3 for tiny and 3.6 / 4.6 for small (arXiv 2112.07658, table 3); larger ones as
// small. No mean is published for Universal Transformers on images: an even spread. Others do not halt by depth: {1, false}.
HaltingSpread published_depth(const ModelPreset& preset);

struct ModelSpeed {
  std::string model, family;  // preset's and registry name
  std::string size;           // the preset's words
  int64_t width = 0, patch = 0;
  int64_t parameters = 0;
  double flops = 0;                                // of an example, what was really computed
  double tokens = 0;                               // of an example in its longest block
  double tape_tokens = 0;                          // of them
  double depth = 1;                                // token steps / (tokens x blocks): 1 where nothing halts
  double images_per_second = 0, milliseconds = 0;  // median of a batch
};

// Random weights (seed 1) and images; models that halt by depth are made to (analysis/halting_depths.h). Warms up once. Error where the
// preset does not read images. With one CPU thread the processor's time is taken, else the clock's. pass(done) is called after each pass of
// 1 + repeats; it may throw.
ModelSpeed measure_speed(const ModelPreset& preset, const SpeedOptions& options, const std::function<void(int64_t done)>& pass = {});

// {"command", "version", "device", "threads", "batch_size", "image_size", "runs": [a row a model]}
nlohmann::ordered_json speed_json(const std::vector<ModelSpeed>& speeds, const SpeedOptions& options, const std::string& command);
// Aligned lines.
std::string speed_text(const std::vector<ModelSpeed>& speeds);
// A page with the table and images/s against FLOPs and against parameters. It needs plotly.js yet (self_contained).
std::string speed_html(const std::vector<ModelSpeed>& speeds, const SpeedOptions& options, const std::string& command);

}  // namespace adatape
