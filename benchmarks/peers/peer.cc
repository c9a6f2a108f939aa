// One model of a published size, waiting to be timed beside other programs: reads `images` [B, 3, 224, 224] from a file, writes its logits,
// says what it is in one line of JSON, then runs once for each line on stdin and answers with the milliseconds.
//   adatape_peer vit_small_patch16_224 float32 images.safetensors logits.safetensors [timm weights.safetensors]
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "adatape/convert/timm.h"
#include "adatape/core/check.h"
#include "adatape/core/memory.h"
#include "adatape/models/presets.h"
#include "adatape/models/registry.h"
#include "adatape/ops/packed_linear/packed_linear.h"

namespace adatape {
namespace {

int run(const std::vector<std::string>& arguments) {
  ADATAPE_CHECK(arguments.size() == 4 || arguments.size() == 5, "adatape_peer",
                "expected MODEL float32|bfloat16 IMAGES LOGITS [WEIGHTS], got ", arguments.size(), " arguments");
  keep_freed_memory();  // as the program does
  at::NoGradGuard no_grad;
  const bool half = arguments[1] == "bfloat16";
  ADATAPE_CHECK(!half || ops::has_bfloat16_products(), "adatape_peer", "this processor has no bfloat16 products");
  Batch batch;
  batch.images = read_safetensors(arguments[2]).tensors.at("images").contiguous();
  batch.examples = at::arange(batch.images.size(0), at::kLong);
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = batch.images.size(1);
  spec.height = batch.images.size(2);
  spec.width = batch.images.size(3);
  spec.classes = 1000;
  const ModelPreset& preset = require_preset(arguments[0]);
  const std::unique_ptr<ModelConfig> config = preset_config(preset, spec);
  const std::shared_ptr<Model> model = find_model(preset.model).make_model(*config, spec);
  model->initialize(1, 1);
  if (arguments.size() == 5) {
    const NamedTensors source = read_safetensors(arguments[4]).tensors;
    const NamedTensors ours = to_ours(timm_pieces(source, *model), source, *model);
    for (const NamedParameter& parameter : model->named_parameters()) parameter.tensor.copy_(ours.at(parameter.name));
  }
  model->pack_for_inference(half ? torch::kBFloat16 : torch::kFloat);

  ForwardOptions recording;
  recording.record = true;
  const ModelOutput output = model->forward(batch, recording);
  write_safetensors(arguments[3], {{"logits", output.logits}});
  double tape = 0;
  for (const TapeReading& reading : output.readings) tape += reading.lengths.to(torch::kDouble).mean().item<double>();
  std::cout << nlohmann::json{{"model", preset.name},
                              {"tape_tokens", tape},
                              {"kernel", ops::packed_linear_kernel_name(half ? at::kBFloat16 : at::kFloat)},
                              {"threads", at::get_num_threads()}}
            << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    const auto start = std::chrono::steady_clock::now();
    model->forward(batch, {});
    std::cout << std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace adatape

int main(int argc, char** argv) {
  try {
    return adatape::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "adatape_peer: error: %s\n", error.what());
    return 2;
  }
}
