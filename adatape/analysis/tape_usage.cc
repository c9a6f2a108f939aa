#include "adatape/analysis/tape_usage.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/data/preprocess.h"
#include "adatape/models/tape_front.h"
#include "adatape/tasks/image_classification/image_classification_config.h"

namespace adatape {
namespace {

std::vector<double> numbers_of(const at::Tensor& tensor) {
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

// The rows of an example's bank.
int64_t bank_rows_of(const TapeBankConfig& bank, const InputSpec& spec, int64_t symbols) {
  if (bank.kind == "learnable") return bank.rows;
  if (spec.sequences()) return symbols;
  const int64_t height = bank.resolution > 0 ? bank.resolution : spec.height, width = bank.resolution > 0 ? bank.resolution : spec.width;
  return (height / bank.patch) * (width / bank.patch);
}

// How a task makes numbers of pictures; those that do not say give -1 .. 1.
Preprocess preprocess_of(const TaskConfig& task, const InputSpec& spec) {
  if (const auto* images = dynamic_cast<const ImageClassificationConfig*>(&task)) return images->preprocess();
  Preprocess preprocess;
  preprocess.channels = spec.channels;
  preprocess.height = spec.height;
  preprocess.width = spec.width;
  return preprocess;
}

}  // namespace

ExampleReading example_reading(const TapeReading& reading, int64_t b, const TapeFrontConfig& config, const InputSpec& spec,
                               int64_t symbols) {
  const TapeReaderConfig& reader = config.readers.at(static_cast<size_t>(reading.reader));
  const auto bank =
      std::find_if(config.banks.begin(), config.banks.end(), [&](const TapeBankConfig& one) { return one.name == reader.bank; });
  ADATAPE_CHECK(bank != config.banks.end(), "tape usage", "expected a bank called ", reader.bank);
  ExampleReading result;
  result.reader = reading.reader;
  result.before_block = reading.before_block;
  result.bank = bank->name;
  result.learnable = bank->kind == "learnable";
  result.bank_rows = bank_rows_of(*bank, spec, symbols);
  result.patch = bank->patch;
  result.resolution = bank->resolution;
  const int64_t rows = *reader.rows_per_step, by_bank = (result.bank_rows + rows - 1) / rows;
  result.longest = reader.max_tape_tokens && reader.selection != "all" ? std::min(*reader.max_tape_tokens, by_bank) : by_bank;
  if (reader.halting == "threshold" && reader.selection != "all") {
    result.threshold = reader.max_tape_tokens ? reader.threshold : reader.threshold * static_cast<double>(by_bank);
  }
  const auto steps = reading.lengths[b].item<int64_t>();
  const int64_t width = reading.indices.size(2);
  const at::Tensor indices = reading.indices[b].to(at::kCPU).contiguous();
  const std::vector<double> weights = numbers_of(reading.weights[b]), halting = numbers_of(reading.halting[b]);
  for (int64_t t = 0; t < steps; ++t) {
    ReadingStep step;
    step.halting = halting[static_cast<size_t>(t)];
    for (int64_t k = 0; k < width; ++k) {
      const int64_t row = indices.const_data_ptr<int64_t>()[t * width + k];
      if (row < 0) continue;
      step.rows.push_back(row);
      step.weights.push_back(weights[static_cast<size_t>(t * width + k)]);
    }
    result.steps.push_back(std::move(step));
  }
  return result;
}

ShownExample shown_example(const LoadedRun& run, const ModelOutput& output, const Batch& batch, int64_t b, int64_t first,
                           double covariate) {
  const auto& config = dynamic_cast<const TapeFrontConfig&>(*run.config.model);
  const InputSpec spec = run.task->input_spec();
  ShownExample example;
  example.index = first + b;
  example.label = batch.labels[b].item<int64_t>();
  example.answer = output.logits[b].argmax().item<int64_t>();
  example.covariate = covariate;
  if (batch.images.defined()) {
    const at::Tensor planes = batch.images[b].to(at::kCPU, at::kFloat).contiguous();
    example.picture = picture_of_planes(planes.const_data_ptr<float>(), preprocess_of(*run.config.task, spec));
  } else if (batch.vectors.defined()) {
    example.symbols.resize(static_cast<size_t>(batch.offsets[static_cast<size_t>(b) + 1] - batch.offsets[static_cast<size_t>(b)]));
    std::iota(example.symbols.begin(), example.symbols.end(), 0);
  } else {
    const at::Tensor symbols =
        batch.symbols.slice(0, batch.offsets[static_cast<size_t>(b)], batch.offsets[static_cast<size_t>(b) + 1]).to(at::kCPU).contiguous();
    example.symbols.assign(symbols.const_data_ptr<int64_t>(), symbols.const_data_ptr<int64_t>() + symbols.numel());
  }
  for (const TapeReading& reading : output.readings) {
    example.readings.push_back(example_reading(reading, b, config, spec, static_cast<int64_t>(example.symbols.size())));
  }
  return example;
}

namespace {

// Steps as models record them: of each example [B], of each token [B, N], or packed [tokens].
void add_pondering(TapeUsage& usage, const at::Tensor& recorded, const Batch& host, const Task& task) {
  const std::vector<double> steps = numbers_of(recorded), covariates = numbers_of(task.example_covariate(host));
  const at::Tensor by_element = task.element_covariate(host);
  usage.ponder_by_element = by_element.defined() && by_element.numel() == recorded.numel();
  const int64_t size = host.size(), count = recorded.numel(), elements = host.offsets.empty() ? 0 : host.offsets.back();
  // Sequences may have tokens beside their elements, equally many each and before them.
  const bool of_tokens = count > size && elements > 0;
  const int64_t beside = of_tokens ? (count - elements) / size : 0;
  size_t at = 0;
  for (int64_t b = 0; b < size; ++b) {
    const int64_t tokens =
        of_tokens ? host.offsets[static_cast<size_t>(b) + 1] - host.offsets[static_cast<size_t>(b)] + beside : count / size;
    double sum = 0;
    for (int64_t i = 0; i < tokens; ++i) {
      const double taken = steps.at(at++);
      sum += taken;
      if (!of_tokens || i < beside) continue;
      const auto place = static_cast<size_t>(i - beside);
      if (usage.ponder_positions.size() <= place) usage.ponder_positions.resize(place + 1);
      TapeUsage::PositionSteps& position = usage.ponder_positions[place];
      ++position.examples;
      position.sum += taken;
      position.squares += taken * taken;
    }
    if (usage.ponder_by_element) continue;
    usage.ponder_steps.push_back(tokens > 0 ? sum / static_cast<double>(tokens) : 0);
    usage.ponder_covariates.push_back(covariates[static_cast<size_t>(b)]);
  }
  if (!usage.ponder_by_element) return;
  const std::vector<double> difficulties = numbers_of(by_element);
  usage.ponder_steps.insert(usage.ponder_steps.end(), steps.begin(), steps.end());
  usage.ponder_covariates.insert(usage.ponder_covariates.end(), difficulties.begin(), difficulties.end());
}

void add_boxes(ObjectShare& on_object, const ModelOutput& output, const at::Tensor& boxes, const TapeFrontConfig& config,
               const InputSpec& spec) {
  for (size_t r = 0; boxes.defined() && r < output.readings.size(); ++r) {
    const std::optional<BankGrid> grid = bank_grid(config, r, spec);
    if (!grid) continue;
    const TapeReading& reading = output.readings[r];
    const at::Tensor indices = reading.indices.to(at::kCPU).contiguous(), weights = reading.weights.to(at::kCPU, at::kFloat).contiguous(),
                     lengths = reading.lengths.to(at::kCPU).contiguous();
    const int64_t steps = indices.size(1), width = indices.size(2);
    for (int64_t b = 0; b < boxes.size(0); ++b) {
      on_object.add(*grid, indices.const_data_ptr<int64_t>() + b * steps * width, weights.const_data_ptr<float>() + b * steps * width,
                    lengths.const_data_ptr<int64_t>()[b], width, boxes.const_data_ptr<int64_t>() + 4 * b);
    }
  }
}

}  // namespace

TapeUsage measure_tape_usage(const LoadedRun& run, at::Device device, int64_t examples, int64_t shown,
                             const std::function<void()>& progress) {
  const at::NoGradGuard no_grad;
  const auto* config = dynamic_cast<const TapeFrontConfig*>(run.config.model.get());
  TapeUsage usage;
  usage.has_readers = config != nullptr && !config->readers.empty();
  const int64_t held_out = run.task->held_out_size(Split::kTest);
  usage.examples = std::min(usage.has_readers ? examples : std::min(examples, kCostExamples), held_out);
  const InputSpec spec = run.task->input_spec();
  const int64_t batch_size = std::min<int64_t>(run.config.evaluation.batch_size, 500);
  CostBreakdown cost;
  bool wrong_shown = false;
  for (int64_t first = 0; first < usage.examples; first += batch_size) {
    if (progress) progress();
    const Batch host = run.task->held_out_batch(Split::kTest, first, std::min(batch_size, usage.examples - first));
    const Batch batch = host.to(device);
    const ModelOutput output = run.model->forward(batch, {.record = true});
    cost.add(output, batch.size());
    if (const auto steps = output.intermediates.find("steps"); steps != output.intermediates.end()) {
      usage.examples = std::min(examples, held_out);
      add_pondering(usage, steps->second, host, *run.task);
    }
    if (!usage.has_readers) continue;
    add_boxes(usage.on_object, output, run.task->held_out_boxes(Split::kTest, first, batch.size()), *config, spec);
    at::Tensor lengths = output.readings.front().lengths;
    for (size_t r = 1; r < output.readings.size(); ++r) lengths = lengths + output.readings[r].lengths;
    const std::vector<double> of_batch = numbers_of(lengths), covariates = numbers_of(run.task->example_covariate(host));
    const std::vector<double> correct = numbers_of(run.task->example_correct(output.logits, batch));
    usage.lengths.insert(usage.lengths.end(), of_batch.begin(), of_batch.end());
    usage.covariates.insert(usage.covariates.end(), covariates.begin(), covariates.end());
    if (spec.answers_each) continue;  // an example has many answers: none to show beside it
    for (int64_t b = 0; b < batch.size(); ++b) {
      const bool wrong = correct[static_cast<size_t>(b)] == 0;
      if (first + b >= shown && (wrong_shown || !wrong || shown == 0)) continue;
      wrong_shown = wrong_shown || wrong;
      usage.shown.push_back(shown_example(run, output, batch, b, first, covariates[static_cast<size_t>(b)]));
    }
  }
  usage.cost = cost.parts();
  return usage;
}

}  // namespace adatape
