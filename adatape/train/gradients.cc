#include "adatape/train/gradients.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <exception>
#include <optional>

#include "adatape/core/check.h"
#include "adatape/nn/mixed_precision.h"
#include "adatape/train/micro_batch.h"
#include "adatape/train/score_function.h"

namespace adatape {
namespace {

// Gradients of so many values are added up in less time than waking threads for each operator takes.
constexpr int64_t kFewParameters = 2'000'000;
constexpr int64_t kFewestExamples = 16;  // of a part

void add(std::vector<std::pair<std::string, at::Tensor>>& losses, const std::string& name, const at::Tensor& value) {
  const auto found = std::find_if(losses.begin(), losses.end(), [&](const auto& loss) { return loss.first == name; });
  if (found == losses.end()) {
    losses.emplace_back(name, value);
  } else {
    found->second = found->second + value;
  }
}

// Small models have many short gradients: a call for each would take longer than the sum.
at::Tensor sum_of(const at::Tensor& a, const at::Tensor& b) {
  constexpr int64_t kShort = 1 << 14;
  if (!a.is_cpu() || a.scalar_type() != at::kFloat || b.scalar_type() != at::kFloat || !a.is_contiguous() || !b.is_contiguous() ||
      a.numel() > kShort || a.sizes() != b.sizes())
    return a + b;
  at::Tensor sum = at::empty_like(a);
  float* const to = sum.mutable_data_ptr<float>();
  const int64_t count = a.numel();
  const float *const x = a.const_data_ptr<float>(), *const y = b.const_data_ptr<float>();
  for (int64_t i = 0; i < count; ++i) to[i] = x[i] + y[i];
  return sum;
}

// mean(values) * share; ATen's mean costs a small model twice what a sum does.
at::Tensor share_of_mean(const at::Tensor& values, double share) { return values.sum() * (share / static_cast<double>(values.numel())); }

BatchGradients gradients_of_part(Model& model, const std::vector<at::Tensor>& parameters, const Task& task, const Batch& part,
                                 const ForwardOptions& options, double share, at::ScalarType products) {
  const at::AutoGradMode gradients(true);  // a thread of its own does not inherit it
  BatchGradients result;
  std::optional<MixedPrecision> precision(std::in_place, products, parameters.front().device());
  const ModelOutput output = model.forward(part, options);
  const at::Tensor task_losses = model.combine(output, [&](const at::Tensor& logits) { return task.example_loss(logits, part); });
  const at::Tensor task_loss = share_of_mean(task_losses, share);
  at::Tensor loss = task_loss;
  for (const AuxiliaryLoss& auxiliary : output.auxiliary_losses) {
    const at::Tensor mean = share_of_mean(auxiliary.weight == 0 ? auxiliary.values.detach() : auxiliary.values, share);
    if (auxiliary.weight != 0) loss = loss + mean * auxiliary.weight;
    add(result.losses, auxiliary_key(auxiliary.name), mean.detach());
  }
  if (!output.auxiliary_losses.empty()) add(result.losses, "task_loss", task_loss.detach());
  add(result.losses, "loss", loss.detach());
  // Its value says nothing (only its gradient does), so it is no part of the loss that is written down.
  for (const RandomChoice& choice : output.random_choices) {
    if (choice.weight != 0) loss = loss + score_function_loss(task_losses, choice.log_density) * (choice.weight * share);
  }
  precision.reset();
  result.gradients = torch::autograd::grad({loss}, parameters, {}, /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  return result;
}

}  // namespace

std::string auxiliary_key(const std::string& name) {
  const bool counts = name.ends_with("_steps") || name.ends_with("_choices") || name.ends_with("_tokens");
  return counts ? name : name + "_loss";
}

void counts_to_shares(std::map<std::string, double>& numbers) {
  const auto put = [&](const char* share, const char* part, const char* whole) {
    const auto found = numbers.find(part), all = numbers.find(whole);
    if (found == numbers.end() || all == numbers.end()) return;
    numbers[share] = all->second > 0 ? found->second / all->second : 0;
    numbers.erase(found);
    numbers.erase(all);
  };
  put("dropped_share", "dropped_choices", "expert_choices");
  put("unserved_share", "unserved_tokens", "expert_tokens");
}

BatchGradients gradients_of(Model& model, const Task& task, const Batch& batch, const ForwardOptions& options, double share, int64_t parts,
                            at::ScalarType products) {
  const std::vector<at::Tensor> parameters = model.parameters();
  parts = std::min(parts, batch.size());
  if (parts <= 1) return gradients_of_part(model, parameters, task, batch, options, share, products);

  std::vector<BatchGradients> results(static_cast<size_t>(parts));
  std::vector<std::exception_ptr> errors(static_cast<size_t>(parts));
  const int64_t size = batch.size();
  const bool answers_each = task.input_spec().answers_each;
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      try {
        const int64_t first = i * size / parts, count = (i + 1) * size / parts - first;
        results[static_cast<size_t>(i)] =
            gradients_of_part(model, parameters, task, micro_batch(batch, first, count, answers_each), options,
                              share * static_cast<double>(count) / static_cast<double>(size), products);
      } catch (...) {
        errors[static_cast<size_t>(i)] = std::current_exception();  // the first part's error is the one that is told
      }
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  BatchGradients sum = std::move(results.front());
  for (size_t i = 1; i < results.size(); ++i) {
    for (const auto& [name, value] : results[i].losses) add(sum.losses, name, value);
    for (size_t p = 0; p < parameters.size(); ++p) {
      const at::Tensor& other = results[i].gradients[p];
      if (!other.defined()) continue;
      at::Tensor& gradient = sum.gradients[p];
      gradient = gradient.defined() ? sum_of(gradient, other) : other;
    }
  }
  return sum;
}

int64_t parallel_parts(const TrainingConfig& config, const Model& model, int64_t examples, at::Device device) {
  if (config.parallel == "operators" || !device.is_cpu()) return 1;
  const int64_t threads = at::get_num_threads();
  if (config.parallel == "examples") return std::min(threads, examples);
  int64_t parameters = 0;
  for (const at::Tensor& parameter : model.parameters()) parameters += parameter.numel();
  const int64_t parts = std::min(threads, examples / kFewestExamples);
  return model.examples_are_independent() && parameters <= kFewParameters ? std::max<int64_t>(1, parts) : 1;
}

}  // namespace adatape
