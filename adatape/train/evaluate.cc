#include "adatape/train/evaluate.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "adatape/core/check.h"
#include "adatape/tasks/image_classification/image_classification_task.h"

namespace adatape {
namespace {

constexpr int64_t kRecordedExamples = 10000;

// Sums over examples of what a pass without recording gives.
struct Sums {
  int64_t correct = 0;
  double loss = 0;
  std::map<std::string, double> auxiliary;
  int64_t answers = 0, right_answers = 0;                // of elements
  std::map<double, std::pair<int64_t, int64_t>> groups;  // covariate: examples, correct ones

  void add_groups(const at::Tensor& covariates, const at::Tensor& answered_rightly) {
    const at::Tensor values = covariates.to(at::kCPU, at::kDouble).contiguous(),
                     right = answered_rightly.to(at::kCPU, at::kBool).contiguous();
    for (int64_t b = 0; b < values.numel(); ++b) {
      auto& [count, good] = groups[values.const_data_ptr<double>()[b]];
      ++count;
      good += right.const_data_ptr<bool>()[b];
    }
  }
};

// Answers asked of elements, and how many of them are right: logits [total, answers x classes], labels [total] or [total, answers].
std::pair<int64_t, int64_t> count_answers(const at::Tensor& logits, const at::Tensor& labels) {
  const at::Tensor targets = labels.reshape({-1});
  if (targets.numel() == 0) return {0, 0};
  const at::Tensor rows = logits.reshape({targets.numel(), -1}), asked = targets.ne(-1);
  const at::Tensor right = rows.argmax(1).eq(targets).logical_and(asked).logical_and(at::isfinite(rows).all(1));
  return {asked.sum().item<int64_t>(), right.sum().item<int64_t>()};
}

double sum_of(const at::Tensor& values) { return values.sum(at::kDouble).item<double>(); }

// The number in "block 3 / attention" or "step 3 / halting".
std::optional<size_t> block_of(const std::string& part) {
  int block = 0, end = 0;
  const bool found = std::sscanf(part.c_str(), "block %d / %n", &block, &end) == 1 && end > 0;
  if (!found && (std::sscanf(part.c_str(), "step %d / %n", &block, &end) != 1 || end == 0)) return std::nullopt;
  return static_cast<size_t>(block);
}

// Tokens, tape lengths and FLOPs of each example of one recorded batch, added up.
struct Usage {
  double tokens = 0, token_steps = 0, flops = 0;
  std::vector<double> block_tokens, block_flops;
  double tape = 0, tape_squared = 0;
  double steps = 0;
  int64_t halting = 0;  // tokens or examples that the steps are of
  std::vector<EvaluationResult::Experts> experts;
  std::vector<int64_t> choices;  // of each of them

  void add_experts(const ExpertLoad& load) {
    size_t place = 0;
    while (place < experts.size() && experts[place].part != load.part) ++place;
    if (place == experts.size()) {
      experts.push_back({load.part, std::vector<int64_t>(load.served.size()), 0});
      choices.push_back(0);
    }
    for (size_t e = 0; e < load.served.size(); ++e) experts[place].served[e] += load.served[e];
    choices[place] += load.choices;
  }

  static void add_to_block(std::vector<double>& blocks, size_t block, double value) {
    if (blocks.size() <= block) blocks.resize(block + 1);
    blocks[block] += value;
  }

  void add(const ModelOutput& output, size_t examples) {
    for (const ExpertLoad& load : output.expert_loads) add_experts(load);
    for (size_t b = 0; b < examples; ++b) {
      int64_t longest = 0;
      for (size_t block = 0; block < output.block_tokens.size(); ++block) {
        const int64_t count = output.block_tokens[block][b];
        longest = std::max(longest, count);
        token_steps += static_cast<double>(count);
        add_to_block(block_tokens, block, static_cast<double>(count));
      }
      tokens += static_cast<double>(longest);
    }
    for (const WorkItem& item : output.work) {
      double rows = 0;
      for (const int64_t row : item.rows) rows += static_cast<double>(row);
      const double work = rows * static_cast<double>(item.flops_per_row);
      flops += work;
      if (const auto block = block_of(item.part)) add_to_block(block_flops, *block, work);
    }
    if (const auto taken = output.intermediates.find("steps"); taken != output.intermediates.end()) {
      steps += sum_of(taken->second);
      halting += taken->second.numel();
    }
    if (output.readings.empty()) return;
    at::Tensor lengths = output.readings.front().lengths.to(at::kDouble);
    for (size_t r = 1; r < output.readings.size(); ++r) lengths = lengths + output.readings[r].lengths;
    tape += sum_of(lengths);
    tape_squared += sum_of(lengths * lengths);
  }
};

}  // namespace

EvaluationResult evaluate(Model& model, const Task& task, Split split, int64_t examples, int64_t batch_size, at::Device device, bool quick,
                          const std::function<void(int64_t done)>& progress) {
  const at::NoGradGuard no_grad;
  const int64_t count = std::min(examples, task.held_out_size(split));
  ADATAPE_CHECK(batch_size >= 1, "evaluation", "expected a batch size >= 1, got ", batch_size);
  ADATAPE_CHECK(count >= 1, "evaluation", "expected at least one example, got ", examples, " of a split that has ",
                task.held_out_size(split));

  EvaluationResult result;
  result.examples = count;
  Sums sums;
  if (!quick) {  // so that the timed pass finds warm caches and kernels
    const Batch batch = task.held_out_batch(split, 0, std::min(count, batch_size)).to(device);
    model.forward(batch, {}).logits.sum().item<float>();
  }
  for (int64_t first = 0; first < count; first += batch_size) {
    const Batch batch = task.held_out_batch(split, first, std::min(batch_size, count - first)).to(device);
    const auto start = std::chrono::steady_clock::now();
    const ModelOutput output = model.forward(batch, {});
    // Reading a number back waits for the device, so the time below covers the whole forward pass.
    const at::Tensor correct = task.example_correct(output.logits, batch);
    sums.correct += correct.sum().item<int64_t>();
    result.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    sums.loss += sum_of(model.combine(output, [&](const at::Tensor& logits) { return task.example_loss(logits, batch); }));
    if (task.input_spec().answers_each) {
      const auto [asked, right] = count_answers(output.logits, batch.labels);
      sums.answers += asked;
      sums.right_answers += right;
    }
    for (const AuxiliaryLoss& auxiliary : output.auxiliary_losses) sums.auxiliary[auxiliary.name] += sum_of(auxiliary.values);
    if (!quick) {
      sums.add_groups(task.example_covariate(batch), correct);
      if (batch.labels.defined() && !task.input_spec().answers_each)
        result.classification.add(output.logits, class_probabilities(task, output.logits), batch.labels);
    }
    if (progress) progress(first + batch.size());
  }
  const auto total = static_cast<double>(count);
  result.accuracy = static_cast<double>(sums.correct) / total;
  result.loss = sums.loss / total;
  if (sums.answers > 0) result.answer_accuracy = static_cast<double>(sums.right_answers) / static_cast<double>(sums.answers);
  for (const auto& [name, sum] : sums.auxiliary) result.auxiliary_losses[name] = sum / total;
  result.examples_per_second = result.seconds > 0 ? total / result.seconds : 0;
  if (quick) return result;
  result.described = task.describe_loss(result.loss, split);
  result.covariate = task.covariate_name();
  for (const auto& [value, group] : sums.groups) {
    result.by_covariate.push_back({value, group.first, static_cast<double>(group.second) / static_cast<double>(group.first)});
  }

  Usage usage;
  const int64_t recorded = std::min(count, kRecordedExamples);
  for (int64_t first = 0; first < recorded; first += batch_size) {
    const Batch batch = task.held_out_batch(split, first, std::min(batch_size, recorded - first)).to(device);
    usage.add(model.forward(batch, {.record = true}), static_cast<size_t>(batch.size()));
    if (progress) progress(count);
  }
  const auto measured = static_cast<double>(recorded);
  result.tokens = usage.tokens / measured;
  result.experts = usage.experts;
  for (size_t i = 0; i < usage.experts.size(); ++i) {
    const auto made = static_cast<double>(usage.choices[i]);
    double served = 0;
    for (const int64_t choices : usage.experts[i].served) served += static_cast<double>(choices);
    result.experts[i].dropped = made > 0 ? 1 - served / made : 0;
  }
  if (usage.halting > 0) result.steps = usage.steps / static_cast<double>(usage.halting);
  result.token_steps = usage.token_steps / measured;
  result.flops = usage.flops / measured;
  for (std::vector<double>* blocks : {&usage.block_tokens, &usage.block_flops})
    for (double& sum : *blocks) sum /= measured;
  result.block_tokens = usage.block_tokens;
  result.block_flops = usage.block_flops;
  result.tape_length_mean = usage.tape / measured;
  result.tape_length_std = std::sqrt(std::max(0.0, usage.tape_squared / measured - result.tape_length_mean * result.tape_length_mean));
  return result;
}

}  // namespace adatape
