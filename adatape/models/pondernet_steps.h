// The steps that PonderNet repeats.
#pragma once

#include "adatape/models/pondernet.h"

namespace adatape {

// s_n = cell(x, s_{n-1}) from s_0 = 0, or s_n = LayerNorm(s_{n-1} + MLP(x, s_{n-1})); x is the example's one vector, projected once.
class RecurrentPonderNet : public PonderNet {
 public:
  RecurrentPonderNet(const PonderNetConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;

 protected:
  PonderState start(const Batch& batch, const ForwardContext& context, ModelOutput& output) const override;
  void advance(PonderState& state, const ForwardContext& context, int64_t step) const override;
  torch::Tensor halting(const PonderState& state, const ForwardContext& context) const override;
  torch::Tensor answer(const PonderState& state, const ForwardContext& context) const override;
  PonderState select(const PonderState& state, const std::vector<int64_t>& rows) const override;
  void keep(PonderState& state, const std::vector<int64_t>& stay) const override;

 private:
  InputSpec input_;
  std::shared_ptr<RecurrentCell> cell_;                             // null: mlp
  std::shared_ptr<Linear> expand_input_, expand_state_, contract_;  // mlp: [m, dimension], [m, S] without bias, [S, m]
  std::shared_ptr<LayerNorm> norm_;                                 // mlp
  std::shared_ptr<Linear> halting_, output_;                        // [1, S], [classes, S]
};

// The states of all tokens go through one encoder block again and again; lambda is the mean over tokens of sigmoid(W x + b).
class TransformerPonderNet : public PonderNet {
 public:
  TransformerPonderNet(const PonderNetConfig& config, const InputSpec& input);
  void initialize(uint64_t seed, uint64_t draw) override;
  std::vector<TapeReader*> tape_readers() override { return tapes_->readers(); }

 protected:
  PonderState start(const Batch& batch, const ForwardContext& context, ModelOutput& output) const override;
  void advance(PonderState& state, const ForwardContext& context, int64_t step) const override;
  torch::Tensor halting(const PonderState& state, const ForwardContext& context) const override;
  torch::Tensor answer(const PonderState& state, const ForwardContext& context) const override;
  PonderState select(const PonderState& state, const std::vector<int64_t>& rows) const override;
  void keep(PonderState& state, const std::vector<int64_t>& stay) const override;

 private:
  std::shared_ptr<Stem> stem_;
  std::optional<TapeFront> tapes_;
  std::shared_ptr<EncoderBlock> block_;
  std::shared_ptr<Linear> halting_;  // [1, D]
  std::shared_ptr<Head> head_;
};

// The one that config.step names.
std::shared_ptr<PonderNet> make_pondernet(const PonderNetConfig& config, const InputSpec& input);

}  // namespace adatape
