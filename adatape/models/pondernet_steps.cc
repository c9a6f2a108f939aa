#include "adatape/models/pondernet_steps.h"

#include "adatape/core/check.h"
#include "adatape/nn/row_compaction.h"

namespace adatape {
namespace {

std::vector<int64_t> ones(int64_t count) { return std::vector<int64_t>(static_cast<size_t>(count), 1); }

}  // namespace

RecurrentPonderNet::RecurrentPonderNet(const PonderNetConfig& config, const InputSpec& input) : PonderNet(config), input_(input) {
  if (config.step == "mlp") {
    expand_input_ = register_module("expand_input", std::make_shared<Linear>(input.dimension, config.ffn_width));
    expand_state_ = register_module("expand_state", std::make_shared<Linear>(config.width, config.ffn_width, /*with_bias=*/false));
    contract_ = register_module("contract", std::make_shared<Linear>(config.ffn_width, config.width));
    norm_ = register_module("norm", std::make_shared<LayerNorm>(config.width));
  } else {
    cell_ = register_module("cell", std::make_shared<RecurrentCell>(parse_cell(config.step), input.dimension, config.width));
  }
  halting_ = register_module("halting", std::make_shared<Linear>(config.width, 1));
  output_ = register_module("output", std::make_shared<Linear>(config.width, input.classes));
}

void RecurrentPonderNet::initialize(uint64_t seed, uint64_t draw) {
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(seed, draw);
  if (cell_) {
    cell_->initialize(generator);
  } else {
    for (const auto& linear : {expand_input_, expand_state_, contract_}) xavier_uniform(*linear, generator);
    norm_->weight.fill_(1);
    norm_->bias.zero_();
  }
  xavier_uniform(*halting_, generator);
  halting_->bias.fill_(config_.halting_bias);
  xavier_uniform(*output_, generator);
}

PonderState RecurrentPonderNet::start(const Batch& batch, const ForwardContext& context, ModelOutput& output) const {
  (void)output;
  check_batch(batch, input_);
  for (int64_t b = 0; b < batch.size(); ++b) {
    const int64_t vectors = batch.offsets[b + 1] - batch.offsets[b];
    ADATAPE_CHECK(vectors == 1, "model", "expected one vector an example, got ", vectors, "; model.step = \"transformer\" reads sequences");
  }
  PonderState state;
  state.lengths = ones(batch.size());
  state.projected = cell_ ? cell_->project(batch.vectors) : expand_input_->forward(batch.vectors);
  context.count("input", state.lengths, cell_ ? cell_->input_cost_per_row() : expand_input_->cost_per_row());
  state.recurrent = cell_ ? cell_->zero_state(batch.size())
                          : RecurrentState{torch::zeros({batch.size(), config_.width}, output_->weight.options().requires_grad(false)), {}};
  return state;
}

void RecurrentPonderNet::advance(PonderState& state, const ForwardContext& context, int64_t step) const {
  const std::string part = "step " + std::to_string(step);
  if (cell_) {
    state.recurrent = cell_->forward(state.projected, state.recurrent);
    context.count(part + " / cell", state.lengths, cell_->state_cost_per_row());
    return;
  }
  const torch::Tensor inner = apply_gelu(state.projected + expand_state_->forward(state.recurrent.hidden), parse_gelu(config_.gelu));
  state.recurrent.hidden = norm_->forward(state.recurrent.hidden + contract_->forward(inner));
  context.count(part + " / mlp", state.lengths, expand_state_->cost_per_row() + contract_->cost_per_row());
}

torch::Tensor RecurrentPonderNet::halting(const PonderState& state, const ForwardContext& context) const {
  context.count("halting", state.lengths, halting_->cost_per_row());
  return torch::sigmoid(halting_->forward(state.recurrent.hidden)).squeeze(1);
}

torch::Tensor RecurrentPonderNet::answer(const PonderState& state, const ForwardContext& context) const {
  context.count("output", state.lengths, output_->cost_per_row());
  return output_->forward(state.recurrent.hidden);
}

PonderState RecurrentPonderNet::select(const PonderState& state, const std::vector<int64_t>& rows) const {
  PonderState chosen;
  chosen.lengths = ones(static_cast<int64_t>(rows.size()));
  chosen.recurrent.hidden = state.recurrent.hidden.index_select(0, index_tensor(rows, state.projected.device()));
  return chosen;
}

void RecurrentPonderNet::keep(PonderState& state, const std::vector<int64_t>& stay) const {
  state.lengths = ones(static_cast<int64_t>(stay.size()));
  state.projected = keep_rows(state.projected, stay);
  state.recurrent = state.recurrent.keep(stay);
}

TransformerPonderNet::TransformerPonderNet(const PonderNetConfig& config, const InputSpec& input) : PonderNet(config) {
  stem_ = register_module("stem", std::make_shared<Stem>(config.stem, input, config.width));
  stem_->exact_patches = !config.readers.empty();
  tapes_.emplace(config, config, input,
                 [this](const std::string& name, const std::shared_ptr<Module>& module) { register_module(name, module); });
  const int64_t tape_width = config.readers.empty() ? 0 : *config.tape_ffn_width;
  block_ = register_module("block_0", std::make_shared<EncoderBlock>(config.block_shape(0, 1, tape_width)));
  halting_ = register_module("halting", std::make_shared<Linear>(config.width, 1));
  head_ = register_module("head", std::make_shared<Head>(config.head, config.width, input.classes));
}

void TransformerPonderNet::initialize(uint64_t seed, uint64_t draw) {
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(seed, draw);
  stem_->initialize(generator);
  tapes_->initialize(generator);
  block_->initialize(generator);
  halting_->weight.zero_();
  halting_->bias.fill_(config_.halting_bias);
  head_->initialize(generator);
}

PonderState TransformerPonderNet::start(const Batch& batch, const ForwardContext& context, ModelOutput& output) const {
  PonderState state;
  TapeFront::Pass pass;
  state.tokens = tapes_->read(pass, 0, stem_->forward(batch, context), batch, context, output);
  if (pass.ponder.defined()) output.auxiliary_losses.push_back({"tape_ponder", pass.ponder, config_.tape_ponder_weight});
  state.lengths = state.tokens.layout->lengths();
  return state;
}

void TransformerPonderNet::advance(PonderState& state, const ForwardContext& context, int64_t step) const {
  state.tokens = block_->forward(state.tokens, context, step, config_.stochastic_depth);
}

torch::Tensor TransformerPonderNet::halting(const PonderState& state, const ForwardContext& context) const {
  context.count("halting", state.lengths, halting_->cost_per_row());
  const torch::Tensor p = torch::sigmoid(halting_->forward(state.tokens.values));
  // A layout without kinds: the class token takes part in this mean.
  return mean_per_example({p, std::make_shared<const PackLayout>(state.lengths, std::vector<TokenKind>{}, p.device())}).squeeze(1);
}

torch::Tensor TransformerPonderNet::answer(const PonderState& state, const ForwardContext& context) const {
  return head_->forward(state.tokens, context);
}

PonderState TransformerPonderNet::select(const PonderState& state, const std::vector<int64_t>& rows) const {
  const PackLayout& layout = *state.tokens.layout;
  std::vector<int64_t> token_rows, lengths;
  std::vector<TokenKind> kinds;
  for (const int64_t b : rows) {
    lengths.push_back(layout.lengths()[b]);
    for (int64_t row = layout.offsets()[b]; row < layout.offsets()[b + 1]; ++row) {
      token_rows.push_back(row);
      kinds.push_back(layout.kinds()[row]);
    }
  }
  PonderState kept;
  kept.lengths = lengths;
  kept.tokens = {state.tokens.values.index_select(0, index_tensor(token_rows, layout.device())),
                 std::make_shared<const PackLayout>(std::move(lengths), std::move(kinds), layout.device())};
  return kept;
}

void TransformerPonderNet::keep(PonderState& state, const std::vector<int64_t>& stay) const { state = select(state, stay); }

std::shared_ptr<PonderNet> make_pondernet(const PonderNetConfig& config, const InputSpec& input) {
  if (config.step == "transformer") return std::make_shared<TransformerPonderNet>(config, input);
  return std::make_shared<RecurrentPonderNet>(config, input);
}

}  // namespace adatape
