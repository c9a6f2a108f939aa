#include "adatape/analysis/halting_depths.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/models/registry.h"

namespace adatape {
namespace {

using ::testing::HasSubstr;

InputSpec images(int64_t height, int64_t width) {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.channels = 2;
  spec.height = height;
  spec.width = width;
  spec.classes = 3;
  return spec;
}

struct Made {
  std::unique_ptr<ModelConfig> config;
  std::shared_ptr<Model> model;
};

Made made(const std::string& name, const std::string& keys, const InputSpec& spec) {
  Made result{find_model(name).make_config(), nullptr};
  ConfigDocument::from_text("name = \"" + name + "\"\npatch = 4\nclass_token = true\npooling = \"token\"\nwidth = 8\nheads = 2\n" + keys)
      .read(*result.config);
  result.config->resolve(spec);
  result.config->validate(spec);
  result.model = find_model(name).make_model(*result.config, spec);
  result.model->initialize(1, 1);
  return result;
}

const EncoderConfig& encoder_of(const Made& made) { return dynamic_cast<const EncoderConfig&>(*made.config); }

TEST(HaltingDepthsTest, Spreads) {
  std::vector<int64_t> even = even_depths(24, 6, 1);
  for (int64_t depth = 1; depth <= 6; ++depth) EXPECT_EQ(std::count(even.begin(), even.end(), depth), 4) << depth;
  EXPECT_NE(even, even_depths(24, 6, 2));
  EXPECT_FALSE(std::is_sorted(even.begin(), even.end()));
  const std::vector<int64_t> normal = normal_depths(10000, 12, 7.4, 1, 1);
  EXPECT_NEAR(std::accumulate(normal.begin(), normal.end(), 0.0) / 10000, 7.4, 0.01);
  EXPECT_NEAR(static_cast<double>(std::count(normal.begin(), normal.end(), 7)) / 10000, 0.3557, 0.001);  // Phi(0.1) - Phi(-0.9)
  const std::vector<int64_t> cut = normal_depths(100, 3, 3, 1, 1);
  EXPECT_EQ(*std::max_element(cut.begin(), cut.end()), 3);
}

// Every token, or example with its class token, is computed by exactly its depth of blocks.
TEST(HaltingDepthsTest, ModelsHaltWhereTheyAreTold) {
  const at::NoGradGuard no_grad;
  const InputSpec spec = images(14, 12);  // 3 x 3 patches, rows left over
  const int64_t batch = 5, patches = 9;
  const std::pair<const char*, const char*> cases[] = {{"avit", "blocks = 4\n"},
                                                       {"uvit", "max_steps = 4\nhalting = \"per_example\"\n"},
                                                       {"u2t", "max_steps = 4\nhalting = \"per_token\"\n"},
                                                       {"uvit", "max_steps = 4\nhalting = \"per_token\"\noutput = \"basic\"\n"}};
  for (const auto& [name, keys] : cases) {
    SCOPED_TRACE(std::string(name) + " " + keys);
    const Made made = adatape::made(name, keys, spec);
    const bool by_token = halting_unit(*made.config) == HaltingUnit::kToken;
    EXPECT_EQ(deepest(*made.config), 4);
    obey_pixels(*made.model, *made.config);
    const std::vector<int64_t> depths = even_depths(by_token ? batch * patches : batch, 4, 3);
    ForwardOptions options;
    options.record = true;
    const ModelOutput output = made.model->forward(images_halting_at(depths, batch, spec, encoder_of(made), 1), options);
    ASSERT_EQ(output.block_tokens.size(), 4u);
    for (int64_t block = 0; block < 4; ++block) {
      for (int64_t b = 0; b < batch; ++b) {
        const auto first = depths.begin() + (by_token ? b * patches : b), last = first + (by_token ? patches : 1);
        const int64_t running = std::count_if(first, last, [&](int64_t depth) { return depth > block; });
        EXPECT_EQ(output.block_tokens[block][b], by_token ? running + 1 : running * (patches + 1)) << block << " " << b;
      }
    }
  }
}

TEST(HaltingDepthsTest, WhatCannotHaltIsRefused) {
  const InputSpec spec = images(8, 8);
  const Made vit = made("vit", "blocks = 1\n", spec);
  EXPECT_EQ(halting_unit(*vit.config), HaltingUnit::kNone);
  EXPECT_EQ(deepest(*vit.config), 0);
  const Made uvit = made("uvit", "max_steps = 9\nhalting = \"per_example\"\n", spec);
  const auto message = [](const auto& action) -> std::string {
    try {
      action();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(message([&] { obey_pixels(*vit.model, *vit.config); }), HasSubstr("expected a model that halts by depth, got \"vit\""));
  EXPECT_THAT(message([&] {
                images_halting_at({1, 2, 3}, 2, spec, encoder_of(uvit), 1);
              }),
              HasSubstr("expected 2 depths for 2 examples, got 3"));
  EXPECT_THAT(message([&] {
                images_halting_at({1, 9}, 2, spec, encoder_of(uvit), 1);
              }),
              HasSubstr("more than 4 patches; take larger ones"));
}

}  // namespace
}  // namespace adatape
