#include "adatape/models/universal_transformer.h"

#include <numeric>

#include "adatape/models/token_record.h"
#include "adatape/nn/halting.h"
#include "adatape/nn/step_sums.h"

namespace adatape {

void UniversalTransformerConfig::fields(FieldVisitor& visit) {
  EncoderConfig::fields(visit);
  visit.integer("max_steps", max_steps, {1, 10000}, "longest computation: steps after which every unit halts");
  visit.choice("halting", halting, {"per_token", "per_example"}, "what halts: each token, or an example as a whole");
  visit.choice("output", output, {"accumulated", "basic"},
               "sum of weight x state over steps, or out <- weight x state + (1 - weight) x out");
  visit.boolean("shared_blocks", shared_blocks, "one block for all steps, or one for each");
  visit.real("epsilon", epsilon, {0, 0.5}, "a unit halts when its probabilities sum to more than 1 - epsilon");
  visit.real("halting_bias", halting_bias, {}, "start of the halting unit's bias; -3 is the deep start");
  visit.boolean("step_embedding", step_embedding, "learned embedding of the step, added to the states");
  visit.real("ponder_weight", ponder_weight, {0, 1e6}, "weight of the ponder loss (steps + remainder)");
  visit.real("tape_ponder_weight", tape_ponder_weight, {0, 1e6}, "weight of the readers' ponder loss, where there are readers");
  tape_fields(visit);
}

void UniversalTransformerConfig::resolve(const InputSpec& input) {
  EncoderConfig::resolve(input);
  resolve_tape(*this);
}

void UniversalTransformerConfig::validate(const InputSpec& input) const {
  EncoderConfig::validate(input);
  validate_tape(*this, 1);  // tapes stand in front of the first step
}

UniversalTransformer::UniversalTransformer(const UniversalTransformerConfig& config, const InputSpec& input) : config_(config) {
  stem_ = register_module("stem", std::make_shared<Stem>(config.stem, input, config.width));
  stem_->exact_patches = !config.readers.empty();
  tapes_.emplace(config, config, input,
                 [this](const std::string& name, const std::shared_ptr<Module>& module) { register_module(name, module); });
  const int64_t blocks = config.shared_blocks ? 1 : config.max_steps, tape_width = config.readers.empty() ? 0 : *config.tape_ffn_width;
  for (int64_t i = 0; i < blocks; ++i) {
    blocks_.push_back(
        register_module("block_" + std::to_string(i), std::make_shared<EncoderBlock>(config.block_shape(i, blocks, tape_width))));
  }
  halting_ = register_module("halting", std::make_shared<Linear>(config.width, 1));
  if (config.step_embedding) step_embedding_ = register_parameter("step_embedding", torch::zeros({config.max_steps, config.width}));
  head_ = register_module("head", std::make_shared<Head>(config.head, config.width, input.classes));
}

void UniversalTransformer::initialize(uint64_t seed, uint64_t draw) {
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(seed, draw);
  stem_->initialize(generator);
  tapes_->initialize(generator);
  for (const auto& block : blocks_) block->initialize(generator);
  halting_->weight.zero_();
  halting_->bias.fill_(config_.halting_bias);
  if (step_embedding_.defined()) normal(step_embedding_, 0.02, generator);
  head_->initialize(generator);
}

namespace {

// The units (tokens or examples) still running, and the rows of the pack that belong to them.
struct Running {
  std::vector<int64_t> units, rows;
  torch::Tensor unit_index;
  std::shared_ptr<const PackLayout> layout;  // of rows; halted examples are empty
};

Running running_of(const PackLayout& all, std::vector<int64_t> units, bool per_token) {
  Running running;
  running.units = std::move(units);
  if (per_token) {
    running.rows = running.units;
  } else {
    for (const int64_t b : running.units) {
      for (int64_t row = all.offsets()[b]; row < all.offsets()[b + 1]; ++row) running.rows.push_back(row);
    }
  }
  running.unit_index = index_tensor(running.units, all.device());
  running.layout = kept_layout(all, running.rows);
  return running;
}

// States of all tokens with those of the running ones (per_token) in their places. What no gradient needs is written in place.
torch::Tensor put_rows(const torch::Tensor& states, const Running& running, const torch::Tensor& values) {
  if (static_cast<int64_t>(running.rows.size()) == states.size(0)) return values;
  return at::GradMode::is_enabled() ? states.index_copy(0, running.unit_index, values) : states.index_copy_(0, running.unit_index, values);
}

// The rows of these examples (ascending).
torch::Tensor rows_of_examples(const torch::Tensor& values, const PackLayout& layout, const std::vector<int64_t>& examples) {
  auto segments = std::make_shared<Segments>();
  for (const int64_t b : examples) add_segment(*segments, {0, layout.offsets()[b], layout.lengths()[b]});
  return examples.empty() ? values.narrow(0, 0, 0) : join_segments({values}, segments);
}

}  // namespace

ModelOutput UniversalTransformer::forward(const Batch& batch, const ForwardOptions& options) {
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  TapeFront::Pass pass;
  const PackedTokens start = tapes_->read(pass, 0, stem_->forward(batch, context), batch, context, output);
  const PackLayout& all = *start.layout;
  const bool per_token = config_.halting == "per_token";
  const int64_t units = per_token ? all.total() : all.batch();

  torch::Tensor active = start.values;  // states of the running tokens
  torch::Tensor states = start.values;  // per_token: of all tokens; a halted one keeps its last state and stays a key
  StepSums sums(start, config_.head.pooling == "token");
  torch::Tensor remainders = states.new_zeros({units}), steps = states.new_zeros({units});
  std::vector<torch::Tensor> weights, probabilities;  // of each step, [units]
  std::vector<int64_t> everyone(static_cast<size_t>(units));
  std::iota(everyone.begin(), everyone.end(), 0);
  Running running = running_of(all, std::move(everyone), per_token);
  torch::Tensor h = states.new_zeros({units});  // of the running units

  for (int64_t step = 0; step < config_.max_steps && !running.units.empty(); ++step) {
    torch::Tensor p = torch::sigmoid(halting_->forward(active)).squeeze(1);  // [rows]
    context.count("step " + std::to_string(step) + " / halting", running.layout->lengths(), halting_->cost_per_row());
    if (!per_token) {
      const PackedTokens column{p.unsqueeze(1),
                                std::make_shared<const PackLayout>(running.layout->lengths(), std::vector<TokenKind>{}, all.device())};
      p = mean_per_example(column).squeeze(1).index_select(0, running.unit_index);
    }
    const ActStep act = act_step(p, h, config_.epsilon, step + 1 == config_.max_steps);

    if (step_embedding_.defined()) {
      active = active + step_embedding_[step];
      if (per_token) states = put_rows(states, running, active);
    }
    const EncoderBlock& block = *blocks_[config_.shared_blocks ? 0 : step];
    // Keys: in per_example mode the running tokens themselves, in per_token mode every token of an example that still has running ones.
    const bool all_run = running.rows.size() == static_cast<size_t>(all.total());
    torch::Tensor next;
    if (!per_token || all_run) {
      next = block.forward({active, running.layout}, context, step, config_.stochastic_depth).values;
    } else {
      std::vector<int64_t> key_rows;
      for (int64_t b = 0; b < all.batch(); ++b) {
        if (running.layout->lengths()[b] == 0) continue;
        for (int64_t row = all.offsets()[b]; row < all.offsets()[b + 1]; ++row) key_rows.push_back(row);
      }
      const torch::Tensor keys =
          key_rows.size() == static_cast<size_t>(all.total()) ? states : states.index_select(0, index_tensor(key_rows, all.device()));
      next = block.forward_queries(active, running.layout, keys, *kept_layout(all, key_rows), context, step, config_.stochastic_depth);
    }
    if (per_token) states = put_rows(states, running, next);

    torch::Tensor row_weight = act.weight;
    if (!per_token) {
      row_weight =
          states.new_zeros({all.batch()}).index_copy(0, running.unit_index, act.weight).index_select(0, running.layout->example_of_token());
    }
    if (config_.output == "accumulated") {
      sums.add(next, running.rows, row_weight);
    } else {
      sums.blend(next, running.rows, row_weight);
    }

    if (options.record) {
      output.block_tokens.push_back(running.layout->lengths());
      weights.push_back(states.new_zeros({units}).index_copy(0, running.unit_index, act.weight.detach()));
      probabilities.push_back(states.new_zeros({units}).index_copy(0, running.unit_index, p.detach()));
    }
    steps = steps.index_add(0, running.unit_index, torch::ones_like(p).detach());
    const torch::Tensor halted = at::nonzero(act.halts).squeeze(1), going = at::nonzero(act.halts.logical_not()).squeeze(1);
    remainders = remainders.index_add(0, running.unit_index.index_select(0, halted), act.weight.index_select(0, halted));
    h = (h + p).index_select(0, going);
    const torch::Tensor left = running.unit_index.index_select(0, going).to(torch::kCPU);
    if (left.numel() == static_cast<int64_t>(running.units.size())) {
      active = next;
      continue;
    }
    const std::shared_ptr<const PackLayout> before = running.layout;
    running = running_of(all, {left.data_ptr<int64_t>(), left.data_ptr<int64_t>() + left.numel()}, per_token);
    active = per_token ? next.index_select(0, going) : rows_of_examples(next, *before, running.units);
  }

  torch::Tensor ponder = steps + remainders;  // [units]
  if (per_token) {
    ponder =
        mean_per_example({ponder.unsqueeze(1), std::make_shared<const PackLayout>(all.lengths(), std::vector<TokenKind>{}, all.device())})
            .squeeze(1);
  }
  output.auxiliary_losses.push_back({"ponder", ponder, config_.ponder_weight});
  if (pass.ponder.defined()) output.auxiliary_losses.push_back({"tape_ponder", pass.ponder, config_.tape_ponder_weight});
  answer(*head_, sums.tokens(), context, output);

  if (options.record) {
    // [B, steps] for each example, [B, steps, N] for each token (where all sequences are equally long; else packed [total, steps]).
    while (static_cast<int64_t>(weights.size()) < config_.max_steps) {
      weights.push_back(states.new_zeros({units}).detach());
      probabilities.push_back(states.new_zeros({units}).detach());
    }
    const auto shaped = [&](const torch::Tensor& x) {
      return per_token && all.uniform() ? x.view({all.batch(), all.longest(), x.size(1)}).transpose(1, 2).contiguous() : x;
    };
    output.step_weights = shaped(torch::stack(weights, 1));
    output.intermediates["step_weights"] = output.step_weights;
    output.intermediates["halting_probabilities"] = shaped(torch::stack(probabilities, 1));
    const auto by_unit = [&](const torch::Tensor& x) { return per_token && all.uniform() ? x.view({all.batch(), -1}) : x; };
    output.intermediates["steps"] = by_unit(steps.detach()).to(torch::kInt32);
    output.intermediates["remainders"] = by_unit(remainders.detach());
    if (per_token) record_tokens(all, output);
  }
  return output;
}

}  // namespace adatape
