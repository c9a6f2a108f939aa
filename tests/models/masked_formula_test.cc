// Dropping what has halted, and appending no more than was read, is the masked formula: the published way, where every token goes through
// every step and masks keep it out of keys and sums. (A-ViT: avit_test.cc.)
#include "model_cases.h"

namespace adatape {
namespace {

using testing::image_batch;
using testing::image_spec;

constexpr int64_t kWidth = 16, kHeads = 4, kSteps = 5;

// A model's parameters in plain calls on padded tokens.
class PlainModel {
 public:
  explicit PlainModel(const Model& model) {
    for (const NamedParameter& one : model.named_parameters()) tensors_[one.name] = one.tensor;
  }
  const torch::Tensor& at(const std::string& name) const { return tensors_.at(name); }
  torch::Tensor dense(const torch::Tensor& x, const std::string& name) const {
    return at::linear(x, at(name + ".weight"), at(name + ".bias"));
  }
  torch::Tensor norm(const torch::Tensor& x, const std::string& name) const {
    return at::layer_norm(x, {kWidth}, at(name + ".weight"), at(name + ".bias"), 1e-6);
  }
  // [B, 1 + patches, D]
  torch::Tensor stem(const torch::Tensor& images) const {
    const torch::Tensor patches = at::conv2d(images, at("stem.patch_weight"), at("stem.bias"), {4, 4}).flatten(2).transpose(1, 2);
    return torch::cat({at("stem.class_token").expand({images.size(0), 1, kWidth}), patches}, 1) + at("stem.positions");
  }
  // x [B, N, D], is_key [B, N] of 0 and 1: attention and its residual.
  torch::Tensor attend(const torch::Tensor& x, const torch::Tensor& is_key, const std::string& block) const {
    const int64_t count = x.size(0), tokens = x.size(1), head = kWidth / kHeads;
    const torch::Tensor qkv =
        dense(norm(x, block + "attention_norm"), block + "qkv").view({count, tokens, 3, kHeads, head}).permute({2, 0, 3, 1, 4});
    const torch::Tensor scores = qkv[0].matmul(qkv[1].transpose(2, 3)) / std::sqrt(static_cast<double>(head));
    const torch::Tensor shares = at::softmax(scores.masked_fill(is_key.eq(0).view({count, 1, 1, tokens}), -1e30), -1);
    return x + dense(shares.matmul(qkv[2]).transpose(1, 2).reshape({count, tokens, kWidth}), block + "output");
  }
  torch::Tensor feed_forward(const torch::Tensor& x, const std::string& block) const {
    return dense(at::gelu(dense(norm(x, block + "feed_forward_norm"), block + "feed_forward.expand"), "tanh"),
                 block + "feed_forward.contract");
  }
  torch::Tensor gated(const torch::Tensor& x, const std::string& mlp) const {
    return dense(at::glu(dense(x, mlp + ".expand"), -1), mlp + ".contract");
  }
  torch::Tensor classify(const torch::Tensor& x) const { return dense(norm(x, "head.norm"), "head.classifier"); }

 private:
  std::map<std::string, torch::Tensor> tensors_;
};

struct Halted {
  torch::Tensor logits, ponder, steps;  // [B, classes], [B], [B, N]
};

Halted masked_universal(const Model& universal, const Batch& batch, bool per_token, bool accumulated, bool shared) {
  const PlainModel model(universal);
  torch::Tensor x = model.stem(batch.images);
  const auto zeros = [&] { return torch::zeros({x.size(0), x.size(1)}); };
  torch::Tensor runs = zeros() + 1, h = zeros(), steps = zeros(), remainders = zeros(), out = torch::zeros_like(x);
  for (int64_t step = 0; step < kSteps; ++step) {
    torch::Tensor p = torch::sigmoid(model.dense(x, "halting")).squeeze(2);
    if (!per_token) p = p.mean(1, /*keepdim=*/true).expand_as(p);
    const torch::Tensor halts = step + 1 == kSteps ? torch::ones_like(p) : (h + p > 0.99).to(torch::kFloat32);
    const torch::Tensor weight = runs * (halts * (1 - h) + (1 - halts) * p);
    const torch::Tensor before = torch::where(runs.unsqueeze(2) > 0, x + model.at("step_embedding")[step], x);
    const std::string block = concat("block_", shared ? 0 : step, ".");
    torch::Tensor next = model.attend(before, torch::ones_like(runs), block);  // a halted token of a running example stays a key
    next = next + model.feed_forward(next, block);
    x = torch::where(runs.unsqueeze(2) > 0, next, before);
    const torch::Tensor share = weight.unsqueeze(2);
    out = accumulated ? out + share * x : torch::where(runs.unsqueeze(2) > 0, share * x + (1 - share) * out, out);
    steps = steps + runs;
    remainders = remainders + runs * halts * weight;
    h = h + runs * p;
    runs = runs * (1 - halts);
  }
  return {model.classify(out.select(1, 0)), (steps + remainders).mean(1), steps};
}

TEST(MaskedFormula, UniversalTransformersDropWhatHasHalted) {
  torch::NoGradGuard no_grad;
  const Batch batch = image_batch(7, image_spec(), 3);
  for (const bool per_token : {true, false}) {
    for (const bool accumulated : {true, false}) {
      for (const std::string name : {"uvit", "u2t"}) {
        const std::string halting = per_token ? "per_token" : "per_example", output = accumulated ? "accumulated" : "basic";
        const auto model =
            testing::make_model(name,
                                concat("width = ", kWidth, "\nheads = ", kHeads, "\nffn_width = 24\npatch = 4\nmax_steps = ", kSteps,
                                       "\nclass_token = true\npooling = \"token\"\nstep_embedding = true\n",
                                       "halting_bias = -0.5\nhalting = \"", halting, "\"\noutput = \"", output, "\"\n"),
                                image_spec());
        testing::perturb(*model, 7, 0.35);
        ForwardOptions options;
        options.record = true;
        const ModelOutput got = model->forward(batch, options);
        const Halted masked = masked_universal(*model, batch, per_token, accumulated, name == "uvit");
        const std::string where = concat(name, ' ', halting, ' ', output);
        EXPECT_LE((got.logits - masked.logits).abs().max().item<double>(), 2e-5) << where;
        EXPECT_LE((got.auxiliary_losses[0].values - masked.ponder).abs().max().item<double>(), 1e-5) << where;
        const torch::Tensor steps = got.intermediates.at("steps");
        EXPECT_TRUE(steps.to(torch::kFloat32).equal(per_token ? masked.steps : masked.steps.select(1, 0))) << where;
        EXPECT_LT(steps.min().item<int>(), steps.max().item<int>()) << where << ": the case must have units that halt at different steps";
      }
    }
  }
}

// AdaTape with tapes padded to T, their unread places no keys.
torch::Tensor masked_adatape(const Model& adatape, const Batch& batch, const TapeReading& reading, int64_t blocks) {
  const PlainModel model(adatape);
  torch::Tensor x = model.stem(batch.images), is_key = torch::ones({x.size(0), x.size(1)});
  const int64_t tokens = x.size(1);
  for (int64_t i = 0; i < blocks; ++i) {
    const std::string block = concat("block_", i, ".");
    if (i == reading.before_block) {
      const int64_t longest = reading.tokens.size(1);
      x = torch::cat({x, model.gated(reading.tokens, "reader_0.mlp")}, 1);
      is_key = torch::cat({is_key, (torch::arange(longest).unsqueeze(0) < reading.lengths.unsqueeze(1)).to(torch::kFloat32)}, 1);
    }
    x = model.attend(x, is_key, block);
    torch::Tensor branch = model.feed_forward(x.narrow(1, 0, tokens), block);
    if (x.size(1) > tokens) {
      const torch::Tensor tape = model.norm(x.narrow(1, tokens, x.size(1) - tokens), block + "feed_forward_norm");
      branch = torch::cat({branch, model.gated(tape, block + "tape_feed_forward")}, 1);
    }
    x = x + branch;
  }
  return model.classify(x.select(1, 0));
}

TEST(MaskedFormula, AdaTapeAppendsWhatWasRead) {
  torch::NoGradGuard no_grad;
  const Batch batch = image_batch(9, image_spec(), 3);
  for (const int64_t before_block : {0, 1}) {
    const auto model = testing::make_model("adatape",
                                           concat("width = ", kWidth, "\nheads = ", kHeads,
                                                  "\nffn_width = 24\npatch = 4\nblocks = 3\nclass_token = true\npooling = \"token\"\n",
                                                  "[[banks]]\npatch = 2\n[[readers]]\nbefore_block = ", before_block,
                                                  "\nmax_tape_tokens = 6\nthreshold = 2.0\nrows_per_step = 3\nkey_split = 2\n"),
                                           image_spec());
    testing::perturb(*model, 7, 0.5);
    ForwardOptions options;
    options.record = true;
    const ModelOutput got = model->forward(batch, options);
    ASSERT_EQ(got.readings.size(), 1u);
    const torch::Tensor lengths = got.readings[0].lengths;
    EXPECT_LT(lengths.min().item<int64_t>(), lengths.max().item<int64_t>()) << "the case must have tapes of several lengths";
    const torch::Tensor masked = masked_adatape(*model, batch, got.readings[0], 3);
    EXPECT_LE((got.logits - masked).abs().max().item<double>(), 2e-5) << before_block;
  }
}

}  // namespace
}  // namespace adatape
