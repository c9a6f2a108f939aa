// A-ViT: dropping tokens is the masked formula, and what has halted is in nothing.
#include "adatape/models/avit.h"

#include "adatape/nn/encoder_block.h"
#include "adatape/nn/halting.h"
#include "model_cases.h"

namespace adatape {
namespace {

using testing::image_batch;
using testing::image_spec;

const char kSmall[] = "width = 16\nheads = 4\nffn_width = 24\npatch = 4\nblocks = 4\ngate_scale = 2\ngate_center = 1\nprior_mean = 2\n";

torch::Tensor parameter(const Model& model, const std::string& name) {
  for (const NamedParameter& one : model.named_parameters()) {
    if (one.name == name) return one.tensor;
  }
  throw std::runtime_error("no parameter " + name);
}

std::shared_ptr<Model> small_model(const std::string& keys = "") {
  auto model = testing::make_model("avit", kSmall + keys, image_spec());
  testing::perturb(*model, 7, 0.4);
  return model;
}

ModelOutput forward(Model& model, const Batch& batch) {
  torch::NoGradGuard no_grad;
  ForwardOptions options;
  options.record = true;
  return model.forward(batch, options);
}

// The published way, in plain calls: all tokens go through every block, masks take halted ones out of the keys and of the sums.
struct Masked {
  torch::Tensor logits, ponder, step_weights, live;  // [B, classes], [B], [B, N, blocks], [B, blocks] tokens live in each block
};

Masked masked_formula(const Model& model, const Batch& batch, double scale, double center, int64_t blocks, int64_t heads) {
  torch::NoGradGuard no_grad;
  const auto get = [&](const std::string& name) { return parameter(model, name); };
  const torch::Tensor kernel = get("stem.patch_weight");
  const int64_t count = batch.size(), dim = kernel.size(0);
  torch::Tensor x = at::conv2d(batch.images, kernel, get("stem.bias"), {4, 4}).flatten(2).transpose(1, 2);
  x = torch::cat({get("stem.class_token").expand({count, 1, dim}), x}, 1) + get("stem.positions");
  const int64_t tokens = x.size(1);
  torch::Tensor mask = torch::ones({count, tokens}), h = torch::zeros({count, tokens}), sum = torch::zeros_like(x),
                ponder = torch::zeros({count, tokens});
  std::vector<torch::Tensor> weights, live;
  for (int64_t i = 0; i < blocks; ++i) {
    const std::string block = "block_" + std::to_string(i) + ".";
    const auto norm = [&](const torch::Tensor& y, const std::string& name) {
      return at::layer_norm(y, {dim}, get(block + name + ".weight"), get(block + name + ".bias"), 1e-6);
    };
    const auto dense = [&](const torch::Tensor& y, const std::string& name) {
      return at::linear(y, get(block + name + ".weight"), get(block + name + ".bias"));
    };
    live.push_back(mask.sum(1));
    const auto qkv = dense(norm(x, "attention_norm"), "qkv").view({count, tokens, 3, heads, dim / heads}).permute({2, 0, 3, 1, 4});
    torch::Tensor scores = qkv[0].matmul(qkv[1].transpose(2, 3)) / std::sqrt(static_cast<double>(dim / heads));
    scores = scores.masked_fill(mask.eq(0).view({count, 1, 1, tokens}), -1e30);
    x = x + dense(at::softmax(scores, -1).matmul(qkv[2]).transpose(1, 2).reshape({count, tokens, dim}), "output");
    x = x + dense(at::gelu(dense(norm(x, "feed_forward_norm"), "feed_forward.expand")), "feed_forward.contract");
    const torch::Tensor p = i + 1 == blocks ? torch::ones({count, tokens}) : torch::sigmoid(scale * x.select(2, 0) - center);
    const torch::Tensor halts = (h + p > 0.99).to(torch::kFloat32);
    const torch::Tensor weight = mask * (halts * (1 - h) + (1 - halts) * p);
    weights.push_back(weight);
    sum = sum + weight.unsqueeze(2) * x;
    ponder = ponder + mask * (1 + halts * (1 - h));
    h = h + p;
    mask = mask * (1 - halts);
  }
  const torch::Tensor pooled = at::layer_norm(sum.select(1, 0), {dim}, get("head.norm.weight"), get("head.norm.bias"), 1e-6);
  return {at::linear(pooled, get("head.classifier.weight"), get("head.classifier.bias")), ponder.mean(1), torch::stack(weights, 2),
          torch::stack(live, 1)};
}

TEST(AVitTest, DroppingTokensIsTheMaskedFormula) {
  const auto model = small_model();
  const Batch batch = image_batch(7, image_spec(), 3);
  const ModelOutput output = forward(*model, batch);
  const Masked masked = masked_formula(*model, batch, 2, 1, 4, 4);
  EXPECT_LE((output.logits - masked.logits).abs().max().item<double>(), 1e-5);
  EXPECT_LE((output.auxiliary_losses[0].values - masked.ponder).abs().max().item<double>(), 1e-5);
  EXPECT_LE((output.intermediates.at("step_weights") - masked.step_weights).abs().max().item<double>(), 1e-5);
  ASSERT_EQ(output.block_tokens.size(), 4u);
  for (size_t block = 0; block < 4; ++block) {
    for (int64_t b = 0; b < batch.size(); ++b)
      EXPECT_EQ(output.block_tokens[block][b], masked.live[b][block].item<int64_t>()) << block << ", " << b;
  }
  const torch::Tensor steps = output.intermediates.at("steps");
  ASSERT_EQ(steps.min().item<int>(), 1) << "the case must have tokens that halt at once";
  ASSERT_EQ(steps.max().item<int>(), 4) << "and tokens that stay to the end";
}

TEST(AVitTest, TheDistributionLossLeavesTheClassTokenOut) {
  const auto model = small_model();
  const Batch batch = image_batch(5, image_spec(), 3);
  const ModelOutput output = forward(*model, batch);
  const torch::Tensor patches = masked_formula(*model, batch, 2, 1, 4, 4).step_weights.slice(1, 1);
  const torch::Tensor mean = patches.mean(torch::IntArrayRef{0, 1});
  const torch::Tensor prior = torch::softmax(-0.5 * (torch::arange(4) - 2.0).square(), 0);
  const double expected = (mean * (mean / prior).log()).sum().item<double>();
  const AuxiliaryLoss& loss = output.auxiliary_losses.at(1);
  EXPECT_EQ(loss.name, "distribution");
  EXPECT_TRUE(loss.of_batch);
  EXPECT_NEAR(loss.values[0].item<double>(), expected, 1e-5);
  EXPECT_TRUE(loss.values.eq(loss.values[0]).all().item<bool>());
}

// A token that halts in the first block is in no product of the second: its state there may be anything. Made so by its position, which
// alone moves its gate.
TEST(AVitTest, NaNInWhatHasHaltedChangesNothing) {
  const auto model = small_model();
  const Batch batch = image_batch(4, image_spec(), 3);
  const ModelOutput before = forward(*model, batch);
  const size_t ran = 2;
  torch::NoGradGuard no_grad;
  // All tokens halt in the second block at the latest: what comes after it may hold NaN.
  for (const int block : {0, 1})
    parameter(*model, "block_" + std::to_string(block) + ".feed_forward.contract.bias")[0] += block == 0 ? 0.5 : 20;
  const ModelOutput short_run = forward(*model, batch);
  ASSERT_EQ(short_run.block_tokens.size(), ran);
  EXPECT_LT(short_run.block_tokens[1][0], short_run.block_tokens[0][0]);
  for (const NamedParameter& one : model->named_parameters()) {
    if (one.name.find("block_2.") == 0 || one.name.find("block_3.") == 0) one.tensor.data().fill_(NAN);
  }
  EXPECT_TRUE(forward(*model, batch).logits.equal(short_run.logits));
  EXPECT_TRUE(torch::isfinite(short_run.logits).all().item<bool>());
  EXPECT_FALSE(short_run.logits.equal(before.logits));
}

// Where every patch token of one example halts at once, its later blocks see the class token alone, whatever the halted states are.
TEST(AVitTest, HaltedStatesReachNobody) {
  const auto model = small_model();
  torch::NoGradGuard no_grad;
  const Batch batch = image_batch(3, image_spec(), 3);
  // Feature 0 comes from the position alone and no block changes it.
  parameter(*model, "stem.patch_weight")[0].zero_();
  parameter(*model, "stem.bias")[0].zero_();
  parameter(*model, "stem.class_token")[0].zero_();
  torch::Tensor gate = parameter(*model, "stem.positions").select(1, 0);
  gate.fill_(20);  // halts in the first block
  gate[0] = -20;   // the class token stays
  for (int block = 0; block < 4; ++block) {
    for (const char* part : {"output", "feed_forward.contract"}) {
      const std::string name = "block_" + std::to_string(block) + "." + part;
      parameter(*model, name + ".weight")[0].zero_();
      parameter(*model, name + ".bias")[0].zero_();
    }
  }
  const ModelOutput output = forward(*model, batch);
  for (size_t block = 1; block < 4; ++block) EXPECT_EQ(output.block_tokens[block], (std::vector<int64_t>{1, 1, 1}));
  for (const WorkItem& item : output.work) {
    if (item.part == "block 2 / attention") {
      EXPECT_EQ(item.rows, (std::vector<int64_t>{1, 1, 1}));
    }
  }
  // NaN in one image's halted tokens of the second block: the first block's keys are NaN too, so only the other examples can be compared.
  Batch poisoned = batch;
  poisoned.images = batch.images.clone();
  poisoned.images[1].fill_(NAN);
  const ModelOutput other = forward(*model, poisoned);
  for (const int64_t b : {0, 2})
    EXPECT_TRUE(other.logits[b].allclose(output.logits[b], 1e-6, 1e-6));  // a pack of another size rounds otherwise
}

TEST(AVitTest, OneBlockHaltsAll) {
  const auto model = testing::make_model("avit", "width = 8\nheads = 2\nffn_width = 12\npatch = 4\nblocks = 1\n", image_spec());
  testing::perturb(*model, 7);
  const ModelOutput output = forward(*model, image_batch(2, image_spec(), 3));
  EXPECT_TRUE(output.intermediates.at("steps").eq(1).all().item<bool>());
  EXPECT_TRUE(output.step_weights.eq(1).all().item<bool>());
  EXPECT_TRUE(output.auxiliary_losses[0].values.eq(2).all().item<bool>());  // one step and a remainder of 1
}

}  // namespace
}  // namespace adatape
