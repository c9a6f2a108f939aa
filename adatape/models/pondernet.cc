#include "adatape/models/pondernet.h"

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/core/rng.h"
#include "adatape/nn/halting.h"
#include "adatape/nn/row_compaction.h"

namespace adatape {

void PonderNetConfig::fields(FieldVisitor& visit) {
  EncoderConfig::fields(visit);
  visit.choice("step", step, {"rnn", "gru", "lstm", "mlp", "transformer"},
               "what is repeated: a recurrent cell or an MLP of ffn_width that reads one vector at every step, or an encoder block");
  visit.integer("max_steps", max_steps, {1, 10000}, "longest computation N");
  visit.integer("evaluation_steps", evaluation_steps, {0, 10000}, "longest computation outside training; 0: max_steps");
  visit.choice("training_steps", training_steps, {"fixed", "mass"},
               "steps while training: max_steps for all, or until an example's probability of having halted exceeds training_mass");
  visit.real("training_mass", training_mass, {0, 1}, "see training_steps");
  visit.choice("evaluation", evaluation, {"threshold", "sampled"},
               "an example halts when its probability of having halted exceeds halting_threshold, or where a draw says so");
  visit.real("halting_threshold", halting_threshold, {0, 1}, "see evaluation");
  visit.choice("halting_reads", halting_reads, {"after", "before"}, "the halting unit reads the state after or before the step");
  visit.real("halting_bias", halting_bias, {}, "start of the halting unit's bias");
  visit.real("prior", prior, {.minimum = 0, .maximum = 0.999999, .exclusive_minimum = true},
             "parameter of the geometric prior: 1 / the expected number of steps before truncation");
  visit.choice("truncation", truncation, {"renormalised", "rest_on_last"}, "what becomes of the prior's mass beyond the last step");
  visit.real("divergence_weight", divergence_weight, {0, 1e6}, "weight of KL(p || prior)");
  visit.real("tape_ponder_weight", tape_ponder_weight, {0, 1e6}, "weight of the readers' ponder loss, where there are readers");
  tape_fields(visit);
}

void PonderNetConfig::resolve(const InputSpec& input) {
  EncoderConfig::resolve(input);
  resolve_tape(*this);
}

void PonderNetConfig::validate(const InputSpec& input) const {
  EncoderConfig::validate(input);
  validate_tape(*this, 1);  // tapes stand in front of the first step
  ADATAPE_CHECK(readers.empty() || step == "transformer", "config", "model.readers: expected none with model.step = \"", step,
                "\", which has no tokens to put a tape to; tapes go with \"transformer\"");
  ADATAPE_CHECK(!input.answers_each, "config", "model.name: \"", name, "\" gives one answer an example, the task asks at each element");
  ADATAPE_CHECK(moe.experts == 0 || step == "transformer", "config", "model.moe.experts: expected 0 with model.step = \"", step, "\", got ",
                moe.experts, "; experts take the place of an encoder block's feed-forward network, which only step = \"transformer\" has");
  ADATAPE_CHECK(step == "transformer" || (input.kind == InputSpec::Kind::kVectors && input.length == 1), "config", "model.step: \"", step,
                "\" reads one vector an example, which this task does not give; expected \"transformer\"");
}

namespace {

// Adds the loss of some examples to the one of its name of all, [batch]; of the others it is 0.
void add_loss_of(const std::vector<int64_t>& examples, int64_t batch, const AuxiliaryLoss& loss, std::vector<AuxiliaryLoss>& all) {
  torch::Tensor values;
  if (loss.of_batch && !examples.empty()) {
    values = loss.values.narrow(0, 0, 1).expand({batch});
  } else {
    values = loss.values.new_zeros({batch}).index_copy(0, index_tensor(examples, loss.values.device()), loss.values);
  }
  const auto same = std::find_if(all.begin(), all.end(), [&](const AuxiliaryLoss& other) { return other.name == loss.name; });
  if (same == all.end()) {
    all.push_back({loss.name, values, loss.weight, loss.of_batch});
  } else {
    same->values = same->values + values;
  }
}

// Calls run(context) in the name of some examples of the batch: draws key on them, and the work counted and the losses are theirs.
template <class Run>
auto in_name_of(const std::vector<int64_t>& examples, const ForwardContext& all, Run run) {
  const auto batch = static_cast<size_t>(all.examples.size(0));
  if (examples.size() == batch) return run(all);
  ForwardContext context = all;
  std::vector<WorkItem> work;
  std::vector<AuxiliaryLoss> losses;
  context.examples = all.examples.index_select(0, index_tensor(examples, torch::kCPU));
  context.work = all.work == nullptr ? nullptr : &work;
  context.auxiliary_losses = all.auxiliary_losses == nullptr ? nullptr : &losses;
  auto result = run(context);
  for (WorkItem& item : work) {
    std::vector<int64_t> rows(batch, 0), numbers(batch, 0);
    for (size_t i = 0; i < examples.size(); ++i) {
      rows[static_cast<size_t>(examples[i])] = item.rows[i];
      numbers[static_cast<size_t>(examples[i])] = item.numbers[i];
    }
    all.work->push_back({item.part, std::move(rows), item.flops_per_row, std::move(numbers), item.weights, item.products});
  }
  for (const AuxiliaryLoss& loss : losses) add_loss_of(examples, static_cast<int64_t>(batch), loss, *all.auxiliary_losses);
  return result;
}

}  // namespace

ModelOutput PonderNet::forward(const Batch& batch, const ForwardOptions& options) {
  ModelOutput output;
  const ForwardContext context = context_of(batch, options, output);
  const int64_t size = batch.size();
  const int64_t longest = options.training || config_.evaluation_steps == 0 ? config_.max_steps : config_.evaluation_steps;
  const bool sampled = !options.training && config_.evaluation == "sampled";
  const double threshold = sampled                            ? 1.0
                           : !options.training                ? config_.halting_threshold
                           : config_.training_steps == "mass" ? config_.training_mass
                                                              : 1.0;
  std::vector<int64_t> running(static_cast<size_t>(size));
  std::iota(running.begin(), running.end(), 0);
  PonderState state = start(batch, context, output);
  torch::Tensor index, left, logits, draws;
  if (sampled) draws = counter_uniform(context.seed, context.step, site(Site::kHalting), context.examples, longest);
  std::vector<torch::Tensor> weights, lambdas;  // of each step, [B], 0 for examples that halted before
  std::vector<int64_t> taken(running.size(), 0);

  for (int64_t n = 0; n < longest; ++n) {
    if (n > 0 && running.empty()) break;
    const bool last = n + 1 == longest, everyone = static_cast<int64_t>(running.size()) == size;
    torch::Tensor lambda, y;
    in_name_of(running, context, [&](const ForwardContext& ours) {
      if (config_.halting_reads == "before") lambda = halting(state, ours);
      advance(state, ours, n);
      if (config_.halting_reads == "after") lambda = halting(state, ours);
      if (options.training) y = answer(state, ours);
      return true;
    });
    if (n == 0) left = torch::ones_like(lambda).detach();
    if (n == 0 || !everyone) index = index_tensor(running, lambda.device());
    const auto spread = [&](const torch::Tensor& rows) {  // [running, ...] -> [B, ...]
      if (everyone) return rows;
      std::vector<int64_t> shape = rows.sizes().vec();
      shape[0] = size;
      return rows.new_zeros(shape).index_copy(0, index, rows);
    };
    PonderStep step = ponder_step(lambda, left, threshold, last);
    if (sampled && !last) {
      const torch::Tensor drawn = draws.select(1, n).index_select(0, index_tensor(running, torch::kCPU)).to(lambda.device());
      step.halts = drawn < lambda;
    }
    if (options.record) {
      std::vector<int64_t> tokens(static_cast<size_t>(size), 0);
      for (size_t i = 0; i < running.size(); ++i) tokens[static_cast<size_t>(running[i])] = state.lengths[i];
      output.block_tokens.push_back(std::move(tokens));
    }
    for (const int64_t example : running) ++taken[static_cast<size_t>(example)];
    if (options.training || options.record) {
      weights.push_back(spread(step.weight));
      lambdas.push_back(spread(lambda.detach()));
    }
    left = step.left;
    if (options.training) output.step_logits.push_back(spread(y));
    if (options.training && threshold >= 1) continue;  // all run to the end

    const RowCompaction compaction(step.halts);
    const std::vector<int64_t>& halted = compaction.leave;
    if (halted.empty()) continue;
    const bool all_halt = compaction.stay.empty();
    if (!options.training) {
      const std::vector<int64_t> whom = values_at(running, halted);
      const PonderState theirs = all_halt ? state : select(state, halted);
      y = in_name_of(whom, context, [&](const ForwardContext& ours) { return answer(theirs, ours); });
      if (!logits.defined()) logits = y.new_zeros({size, y.size(1)});
      logits = logits.index_copy(0, index_tensor(whom, y.device()), y);
    }
    if (all_halt) break;
    keep(state, compaction.stay);
    left = keep_rows(left, compaction.stay);
    running = values_at(running, compaction.stay);
  }
  if (!options.training && !logits.defined()) logits = answer(state, context);  // a batch without examples

  const torch::Tensor steps = index_tensor(taken, left.device());
  torch::Tensor ponder = steps.to(left.scalar_type());
  if (options.training) {
    output.step_weights = torch::stack(weights, 1);
    logits = torch::zeros_like(output.step_logits.front());
    for (size_t n = 0; n < weights.size(); ++n) logits = logits + weights[n].unsqueeze(1) * output.step_logits[n];
    const torch::Tensor divergence =
        divergence_from_geometric(output.step_weights, steps, config_.prior, parse_truncation(config_.truncation));
    output.auxiliary_losses.push_back({"divergence", divergence, config_.divergence_weight});
    const torch::Tensor numbers =
        torch::arange(1, static_cast<int64_t>(weights.size()) + 1, output.step_weights.options().requires_grad(false));
    ponder = (output.step_weights.detach() * numbers).sum(1);
  }
  output.auxiliary_losses.push_back({"ponder_steps", ponder, 0});  // expected ones in training, else those taken
  output.logits = logits;
  if (options.record) {
    const auto padded = [&](std::vector<torch::Tensor> columns) {
      while (static_cast<int64_t>(columns.size()) < longest) columns.push_back(torch::zeros_like(columns.front()));
      return torch::stack(columns, 1).detach();
    };
    output.intermediates["steps"] = steps.to(torch::kInt32);
    output.intermediates["p"] = padded(weights);
    output.intermediates["halting_lambda"] = padded(lambdas);
  }
  return output;
}

torch::Tensor PonderNet::combine(const ModelOutput& output, const ExampleLoss& loss) const {
  if (output.step_logits.empty()) return loss(output.logits);
  torch::Tensor sum;
  for (size_t n = 0; n < output.step_logits.size(); ++n) {
    const torch::Tensor part = output.step_weights.select(1, static_cast<int64_t>(n)) * loss(output.step_logits[n]);
    sum = n == 0 ? part : sum + part;
  }
  return sum;
}

}  // namespace adatape
