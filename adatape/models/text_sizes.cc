#include "adatape/models/text_sizes.h"

#include "adatape/core/check.h"
#include "adatape/models/text_config.h"

namespace adatape {

const std::vector<TextSize>& text_sizes() {
  static const std::vector<TextSize> sizes = {
      {"gpt", "gpt2", "124M", 768, 12, 12, 12, 64, 3072},           {"gpt", "gpt2_medium", "355M", 1024, 24, 16, 16, 64, 4096},
      {"gpt", "gpt2_large", "774M", 1280, 36, 20, 20, 64, 5120},    {"gpt", "gpt2_xl", "1.5B", 1600, 48, 25, 25, 64, 6400},
      {"gpt", "gpt3_small", "125M", 768, 12, 12, 12, 64, 3072},     {"gpt", "gpt3_medium", "350M", 1024, 24, 16, 16, 64, 4096},
      {"gpt", "gpt3_large", "760M", 1536, 24, 16, 16, 96, 6144},    {"gpt", "gpt3_xl", "1.3B", 2048, 24, 24, 24, 128, 8192},
      {"gpt", "gpt3_2.7b", "2.7B", 2560, 32, 32, 32, 80, 10240},    {"gpt", "gpt3_6.7b", "6.7B", 4096, 32, 32, 32, 128, 16384},
      {"gpt", "gpt3_13b", "13B", 5140, 40, 40, 40, 128, 20560},     {"gpt", "gpt3_175b", "175B", 12288, 96, 96, 96, 128, 49152},
      {"palm", "palm_8b", "8B", 4096, 32, 16, 1, 256, 16384},       {"palm", "palm_62b", "62B", 8192, 64, 32, 1, 256, 32768},
      {"palm", "palm_540b", "540B", 18432, 118, 48, 1, 256, 73728}, {"t5", "t5_small", "60M", 512, 6, 8, 8, 64, 2048},
      {"t5", "t5_base", "220M", 768, 12, 12, 12, 64, 3072},         {"t5", "t5_large", "770M", 1024, 24, 16, 16, 64, 4096},
      {"t5", "t5_3b", "3B", 1024, 24, 32, 32, 128, 16384},          {"t5", "t5_11b", "11B", 1024, 24, 128, 128, 128, 65536},
      {"t5", "t5_1.1_small", "77M", 512, 8, 6, 6, 64, 1024},        {"t5", "t5_1.1_base", "250M", 768, 12, 12, 12, 64, 2048},
      {"t5", "t5_1.1_large", "780M", 1024, 24, 16, 16, 64, 2816},   {"t5", "t5_1.1_xl", "3B", 2048, 24, 32, 32, 64, 5120},
      {"t5", "t5_1.1_xxl", "11B", 4096, 24, 64, 64, 64, 10240},
  };
  return sizes;
}

std::vector<std::string> text_size_names(const std::string& family) {
  std::vector<std::string> names = {"custom"};
  for (const TextSize& size : text_sizes()) {
    if (family.empty() || size.family == family) names.push_back(size.name);
  }
  return names;
}

std::string describe_text_sizes(const std::string& family) {
  std::string text;
  for (const TextSize& size : text_sizes()) {
    if (size.family == family) text += (text.empty() ? "" : ", ") + size.name + " (" + size.parameters + ")";
  }
  return text;
}

void apply_text_size(const std::string& name, TextConfig& config) {
  for (const TextSize& size : text_sizes()) {
    if (size.name != name) continue;
    config.width = size.width;
    config.blocks = size.blocks;
    config.heads = size.heads;
    config.key_value_heads = size.key_value_heads;
    config.head_width = size.head_width;
    config.ffn_width = size.ffn_width;
    if (size.family == "gpt") config.norm_epsilon = 1e-5;
    if (size.family == "gpt") config.context = name.starts_with("gpt2") ? 1024 : 2048;
    if (name.starts_with("t5_1.1")) {
      config.activation = "gated_gelu";
      config.tied_embeddings = false;
      config.scaled_logits = false;
    }
    return;
  }
}

}  // namespace adatape
