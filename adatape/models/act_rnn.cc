#include "adatape/models/act_rnn.h"

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/models/encoder_config.h"
#include "adatape/nn/halting.h"
#include "adatape/nn/pack_layout.h"
#include "adatape/nn/row_compaction.h"
#include "adatape/nn/stem.h"

namespace adatape {

void ActRnnConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "which model: see `adatape list models`");
  visit.choice("cell", cell, {"rnn", "gru", "lstm"}, "the recurrent cell");
  visit.integer("width", width, {1, 65536}, "width of its state");
  visit.choice("halting", halting, {"act", "fixed"},
               "steps at an element: until the halting unit stops, or max_steps for all (the baseline)");
  visit.integer("max_steps", max_steps, {1, 10000}, "most steps at an element");
  visit.real("epsilon", epsilon, {0, 0.5}, "an element is done when its probabilities sum to 1 - epsilon or more");
  visit.real("halting_bias", halting_bias, {}, "start of the halting unit's bias");
  visit.real("ponder_weight", ponder_weight, {0, 1e6},
             "weight of the ponder loss: steps + remainder, summed over the elements of an example");
}

void ActRnnConfig::validate(const InputSpec& input) const {
  ADATAPE_CHECK(input.sequences(), "config", "model.name: \"act_rnn\" reads sequences of symbols or vectors, the task gives images");
  ADATAPE_CHECK(input.classes >= 2, "config", "task: expected at least 2 classes, got ", input.classes);
}

ActRnn::ActRnn(const ActRnnConfig& config, const InputSpec& input) : config_(config), input_(input) {
  const int64_t features = input.kind == InputSpec::Kind::kSymbols ? input.vocabulary : input.dimension;
  cell_ = register_module("cell", std::make_shared<RecurrentCell>(parse_cell(config.cell), features + 1, config.width));
  if (config.halting == "act") halting_ = register_module("halting", std::make_shared<Linear>(config.width, 1));
  output_ = register_module("output", std::make_shared<Linear>(config.width, input.classes));
}

void ActRnn::initialize(uint64_t seed, uint64_t draw) {
  torch::NoGradGuard no_grad;
  at::Generator generator = parameter_generator(seed, draw);
  cell_->initialize(generator);
  if (halting_) {
    xavier_uniform(*halting_, generator);
    halting_->bias.fill_(config_.halting_bias);
  }
  xavier_uniform(*output_, generator);
}

// What happens at one place of the sequences, and what is kept of all places.
struct ActRnn::Pondering {
  // Of this place: the row in the pack and the example of each element.
  std::vector<int64_t> rows, examples;
  // Of all places.
  std::vector<std::vector<int64_t>> ran;  // ran[n][b]: elements of example b that took step n
  std::vector<int64_t> steps;             // [total]
  torch::Tensor remainders;               // [B] sum over the example's elements, differentiable
  bool record = false;
  torch::Tensor weights, probabilities, element_remainders;  // [total, max_steps], [total]

  void count(int64_t step, const std::vector<int64_t>& places) {
    if (static_cast<size_t>(step) >= ran.size()) ran.emplace_back(static_cast<size_t>(remainders.size(0)), 0);
    for (const int64_t place : places) {
      ++ran[static_cast<size_t>(step)][static_cast<size_t>(examples[static_cast<size_t>(place)])];
      ++steps[static_cast<size_t>(rows[static_cast<size_t>(place)])];
    }
  }
};

namespace {

// Rows of all parts together, row i to place places[i].
RecurrentState in_place_order(const std::vector<RecurrentState>& parts, const std::vector<int64_t>& places, torch::Device device) {
  std::vector<int64_t> source(places.size());
  for (size_t i = 0; i < places.size(); ++i) source[static_cast<size_t>(places[i])] = static_cast<int64_t>(i);
  std::vector<torch::Tensor> hidden, cell;
  for (const RecurrentState& part : parts) {
    hidden.push_back(part.hidden);
    if (part.cell.defined()) cell.push_back(part.cell);
  }
  const RecurrentState all = {torch::cat(hidden), cell.empty() ? torch::Tensor() : torch::cat(cell)};
  return all.select(index_tensor(source, device));
}

}  // namespace

// projected [elements, gates x S] and their states before this place -> their states behind it.
RecurrentState ActRnn::ponder(const torch::Tensor& projected, RecurrentState state, Pondering& pondering) const {
  const torch::Device device = projected.device();
  const torch::Tensor flag = cell_->weight_ih.select(1, cell_->weight_ih.size(1) - 1);
  std::vector<int64_t> running(pondering.rows.size());  // places in rows
  std::iota(running.begin(), running.end(), 0);
  if (!halting_) {
    for (int64_t n = 0; n < config_.max_steps; ++n) {
      state = cell_->forward(n == 0 ? projected + flag : projected, state);
      pondering.count(n, running);
    }
    return state;
  }
  RecurrentState mean;               // of those running, so far
  std::vector<RecurrentState> done;  // means of those that halted, in the order of `halted`
  std::vector<int64_t> halted;
  torch::Tensor input = projected, h = projected.new_zeros({projected.size(0)}).detach();
  for (int64_t n = 0; !running.empty(); ++n) {
    state = cell_->forward(n == 0 ? projected + flag : input, state);
    const torch::Tensor p = torch::sigmoid(halting_->forward(state.hidden)).squeeze(1);
    const ActStep act = act_step(p, h, config_.epsilon, n + 1 == config_.max_steps, HaltsAt::kAboveOrEqual);
    const torch::Tensor weight = act.weight.unsqueeze(1);
    mean = n == 0 ? state.weighted(weight) : mean.plus_weighted(weight, state);
    h = h + p;
    pondering.count(n, running);
    if (pondering.record) {
      const torch::Tensor rows = index_tensor(values_at(pondering.rows, running), device);
      pondering.weights.select(1, n).index_copy_(0, rows, act.weight.detach());
      pondering.probabilities.select(1, n).index_copy_(0, rows, p.detach());
    }
    const RowCompaction compaction(act.halts);
    if (compaction.leave.empty()) continue;
    const torch::Tensor leave = index_tensor(compaction.leave, device), rest = act.weight.index_select(0, leave);
    const std::vector<int64_t> places = values_at(running, compaction.leave);
    pondering.remainders = pondering.remainders.index_add(0, index_tensor(values_at(pondering.examples, places), device), rest);
    if (pondering.record) {
      pondering.element_remainders.index_copy_(0, index_tensor(values_at(pondering.rows, places), device), rest.detach());
    }
    halted.insert(halted.end(), places.begin(), places.end());
    done.push_back(compaction.stay.empty() ? mean : mean.select(leave));
    running = values_at(running, compaction.stay);
    if (running.empty()) break;
    input = keep_rows(input, compaction.stay);
    state = state.keep(compaction.stay);
    mean = mean.keep(compaction.stay);
    h = keep_rows(h, compaction.stay);
  }
  return in_place_order(done, halted, device);
}

ModelOutput ActRnn::forward(const Batch& batch, const ForwardOptions& options) {
  check_batch(batch, input_);
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  const int64_t size = batch.size();
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < size; ++b) lengths.push_back(batch.offsets[b + 1] - batch.offsets[b]);
  const auto layout = std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, cell_->weight_hh.device());
  const int64_t total = layout->total();

  torch::Tensor projected;  // [total, gates x S], without the flag
  const int64_t features = cell_->weight_ih.size(1) - 1;
  const torch::Tensor weight = cell_->weight_ih.narrow(1, 0, features);
  if (batch.vectors.defined()) {
    projected = linear(batch.vectors, weight, cell_->bias_ih);
    context.count("input", lengths, product_cost(weight.size(1), weight.size(0), true));
  } else {
    projected = (weight.t() + cell_->bias_ih).index_select(0, batch.symbols);
  }

  Pondering pondering;
  pondering.remainders = projected.new_zeros({size}).detach();
  pondering.steps.assign(static_cast<size_t>(total), 0);
  pondering.record = options.record && halting_ != nullptr;
  if (pondering.record) {
    pondering.weights = torch::zeros({total, config_.max_steps}, projected.options().requires_grad(false));
    pondering.probabilities = torch::zeros_like(pondering.weights);
    pondering.element_remainders = torch::zeros({total}, pondering.weights.options());
  }
  RecurrentState state = cell_->zero_state(size);
  std::vector<torch::Tensor> hidden;  // of the elements, place after place
  std::vector<int64_t> order;         // their rows in the pack
  for (int64_t place = 0; place < layout->longest(); ++place) {
    pondering.rows.clear();
    pondering.examples.clear();
    for (int64_t b = 0; b < size; ++b) {
      if (lengths[static_cast<size_t>(b)] <= place) continue;
      pondering.examples.push_back(b);
      pondering.rows.push_back(batch.offsets[static_cast<size_t>(b)] + place);
    }
    const bool everyone = static_cast<int64_t>(pondering.rows.size()) == size;
    const torch::Tensor here =
        layout->longest() == 1 && everyone ? projected : projected.index_select(0, index_tensor(pondering.rows, layout->device()));
    const torch::Tensor whose = everyone ? torch::Tensor() : index_tensor(pondering.examples, layout->device());
    const RecurrentState next = ponder(here, everyone ? state : state.select(whose), pondering);
    if (input_.answers_each) {
      hidden.push_back(next.hidden);
      order.insert(order.end(), pondering.rows.begin(), pondering.rows.end());
    }
    if (everyone) {
      state = next;
    } else {
      state.hidden = state.hidden.index_copy(0, whose, next.hidden);
      if (state.cell.defined()) state.cell = state.cell.index_copy(0, whose, next.cell);
    }
  }

  if (input_.answers_each) {
    std::vector<int64_t> place_of(order.size());
    for (size_t i = 0; i < order.size(); ++i) place_of[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
    const torch::Tensor packed =
        hidden.empty() ? state.hidden.narrow(0, 0, 0) : torch::cat(hidden).index_select(0, index_tensor(place_of, layout->device()));
    output.logits = output_->forward(packed);
    output.logits_layout = layout;
    context.count("output", lengths, output_->cost_per_row());
  } else {
    output.logits = output_->forward(state.hidden);
    context.count("output", std::vector<int64_t>(static_cast<size_t>(size), 1), output_->cost_per_row());
  }

  std::vector<int64_t> taken(static_cast<size_t>(size), 0);
  for (const std::vector<int64_t>& step : pondering.ran) {
    for (size_t b = 0; b < step.size(); ++b) taken[b] += step[b];
  }
  const torch::Tensor ponder = index_tensor(taken, layout->device()).to(projected.scalar_type()) + pondering.remainders;
  output.auxiliary_losses.push_back({"ponder", ponder, halting_ ? config_.ponder_weight : 0});

  if (options.record) {
    for (size_t n = 0; n < pondering.ran.size(); ++n) {
      context.count("step " + std::to_string(n) + " / cell", pondering.ran[n], cell_->state_cost_per_row());
      if (halting_) context.count("step " + std::to_string(n) + " / halting", pondering.ran[n], halting_->cost_per_row());
      output.block_tokens.push_back(pondering.ran[n]);
    }
    const auto by_element = [&](const torch::Tensor& x) {  // [total, ...] -> [B, L, ...] where all sequences are equally long
      if (!layout->uniform()) return x.detach();
      std::vector<int64_t> shape = x.sizes().vec();
      shape[0] = layout->longest();
      shape.insert(shape.begin(), size);
      return x.detach().view(shape);
    };
    output.intermediates["steps"] = by_element(index_tensor(pondering.steps, layout->device()).to(torch::kInt32));
    if (pondering.record) {
      output.intermediates["step_weights"] = by_element(pondering.weights);
      output.intermediates["halting_probabilities"] = by_element(pondering.probabilities);
      output.intermediates["remainders"] = by_element(pondering.element_remainders);
    }
    if (input_.answers_each) output.intermediates["outputs"] = by_element(output.logits);
    output.intermediates["final_state"] = state.hidden.detach();
    if (state.cell.defined()) output.intermediates["final_cell"] = state.cell.detach();
  }
  return output;
}

}  // namespace adatape
