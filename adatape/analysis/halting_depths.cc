#include "adatape/analysis/halting_depths.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "adatape/core/check.h"
#include "adatape/models/avit.h"
#include "adatape/models/universal_transformer.h"
#include "adatape/nn/initialize.h"

namespace adatape {
namespace {

constexpr const char* kWhere = "halting depths";

constexpr double kSure = 0.9999;
// Halting probability at every step with which a unit halts at the depth-th: the sums before it stay clear of 1, its own is past it.
double probability_of(int64_t depth) { return depth == 1 ? kSure : 1 / (static_cast<double>(depth) - 0.5); }
double logit(double p) { return std::log(p / (1 - p)); }

// Inverse of the normal distribution function, by bisection: exact enough for rounding to whole depths.
double normal_quantile(double share) {
  double low = -10, high = 10;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < share ? low : high) = middle;
  }
  return (low + high) / 2;
}

std::vector<int64_t> shuffled(std::vector<int64_t> depths, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::shuffle(depths.begin(), depths.end(), random);
  return depths;
}

}  // namespace

HaltingUnit halting_unit(const ModelConfig& config) {
  if (dynamic_cast<const AVitConfig*>(&config) != nullptr) return HaltingUnit::kToken;
  const auto* universal = dynamic_cast<const UniversalTransformerConfig*>(&config);
  if (universal == nullptr) return HaltingUnit::kNone;
  return universal->halting == "per_token" ? HaltingUnit::kToken : HaltingUnit::kExample;
}

int64_t deepest(const ModelConfig& config) {
  if (const auto* avit = dynamic_cast<const AVitConfig*>(&config)) return avit->blocks;
  const auto* universal = dynamic_cast<const UniversalTransformerConfig*>(&config);
  return universal == nullptr ? 0 : universal->max_steps;
}

void obey_pixels(Model& model, const ModelConfig& config) {
  ADATAPE_CHECK(halting_unit(config) != HaltingUnit::kNone, kWhere, "expected a model that halts by depth, got \"", config.name, "\"");
  const at::NoGradGuard no_grad;
  // Feature 0 that makes the halting unit say sigmoid(x): scale x + offset.
  const auto* avit = dynamic_cast<const AVitConfig*>(&config);
  const double scale = avit != nullptr ? 1 / avit->gate_scale : 1, offset = avit != nullptr ? avit->gate_center / avit->gate_scale : 0;
  bool has_patches = false;
  for (const NamedParameter& parameter : model.named_parameters()) {
    const std::string& name = parameter.name;
    at::Tensor tensor = parameter.tensor.detach();
    if (name == "stem.patch_weight") {
      has_patches = true;
      tensor[0].zero_();
      tensor[0][0][0][0].fill_(scale);
    } else if (name == "stem.bias") {
      tensor[0].fill_(offset);
    } else if (name == "stem.class_token") {
      // An example's probability is the mean of its tokens: a class token that is sure leaves room for patches that are, too.
      const double p = halting_unit(config) == HaltingUnit::kToken ? probability_of(deepest(config)) : kSure;
      tensor[0].fill_(scale * logit(p) + offset);
    } else if (name == "stem.positions") {
      tensor.select(1, 0).zero_();
    } else if (name.ends_with(".output.weight") || name.ends_with(".output.bias") || name.ends_with(".contract.weight") ||
               name.ends_with(".contract.bias")) {
      tensor[0].zero_();
    } else if (name == "halting.weight") {
      tensor.zero_();
      tensor[0][0].fill_(1);
    } else if (name == "halting.bias") {
      tensor.zero_();
    }
  }
  ADATAPE_CHECK(has_patches, kWhere, "expected a model that reads patches of images");
}

std::vector<int64_t> even_depths(int64_t units, int64_t deepest, uint64_t seed) {
  std::vector<int64_t> depths;
  for (int64_t i = 0; i < units; ++i) depths.push_back(1 + (2 * i + 1) * deepest / (2 * units));
  return shuffled(std::move(depths), seed);
}

std::vector<int64_t> normal_depths(int64_t units, int64_t deepest, double mean, double deviation, uint64_t seed) {
  std::vector<int64_t> depths;
  for (int64_t i = 0; i < units; ++i) {
    const double depth = mean + deviation * normal_quantile((static_cast<double>(i) + 0.5) / static_cast<double>(units));
    depths.push_back(std::clamp<int64_t>(std::llround(depth), 1, deepest));
  }
  return shuffled(std::move(depths), seed);
}

Batch images_halting_at(const std::vector<int64_t>& depths, int64_t batch, const InputSpec& input, const EncoderConfig& config,
                        uint64_t seed) {
  const int64_t patch = config.stem.patch, rows = input.height / patch, columns = input.width / patch, patches = rows * columns;
  const HaltingUnit unit = halting_unit(config);
  const int64_t units = unit == HaltingUnit::kToken ? batch * patches : unit == HaltingUnit::kExample ? batch : 0;
  ADATAPE_CHECK(static_cast<int64_t>(depths.size()) == units, kWhere, "expected ", units, " depths for ", batch, " examples, got ",
                depths.size());
  at::Generator generator = parameter_generator(seed, 0);
  Batch result;
  result.images = at::empty({batch, input.channels, input.height, input.width}).uniform_(-1, 1, generator);
  result.examples = at::arange(batch, at::kLong);
  if (unit == HaltingUnit::kNone) return result;
  std::vector<float> pixels;
  for (int64_t i = 0; i < batch * patches; ++i) {
    double p = probability_of(depths[static_cast<size_t>(unit == HaltingUnit::kToken ? i : i / patches)]);
    if (unit == HaltingUnit::kExample && config.stem.class_token) {
      p = (p * static_cast<double>(patches + 1) - kSure) / static_cast<double>(patches);
      ADATAPE_CHECK(p > 0, kWhere, "expected images of more than ", patches, " patches; take larger ones");
    }
    pixels.push_back(static_cast<float>(logit(p)));
  }
  result.images.select(1, 0)
      .slice(1, 0, rows * patch, patch)
      .slice(2, 0, columns * patch, patch)
      .copy_(at::tensor(pixels).view({batch, rows, columns}));
  return result;
}

}  // namespace adatape
