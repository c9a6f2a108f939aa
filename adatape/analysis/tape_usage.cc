#include "adatape/analysis/tape_usage.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
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

// Steps of examples as models record them, one after the other, and which of them are of elements of the example's sequence.
struct RecordedSteps {
  std::vector<double> steps;
  std::vector<int64_t> counts;  // of each example
  std::vector<bool> of_element;
};

RecordedSteps recorded_steps(const ModelOutput& output, const Batch& host) {
  RecordedSteps recorded;
  recorded.steps = numbers_of(output.intermediates.at("steps"));
  const auto size = static_cast<size_t>(host.size()), count = recorded.steps.size();
  const int64_t elements = host.offsets.empty() ? 0 : host.offsets.back();
  if (const auto counts = output.intermediates.find("token_counts"); counts != output.intermediates.end()) {
    for (const double tokens : numbers_of(counts->second)) recorded.counts.push_back(std::llround(tokens));
    for (const double kind : numbers_of(output.intermediates.at("token_kinds")))
      recorded.of_element.push_back(kind == static_cast<double>(TokenKind::kInput));
  } else {  // of whole examples, or of the elements alone
    recorded.of_element.assign(count, true);
    for (size_t b = 0; b < size; ++b)
      recorded.counts.push_back(count == size || host.offsets.empty() ? 1 : host.offsets[b + 1] - host.offsets[b]);
  }
  ADATAPE_CHECK(recorded.counts.size() == size && recorded.of_element.size() == count &&
                    std::accumulate(recorded.counts.begin(), recorded.counts.end(), int64_t{0}) == static_cast<int64_t>(count),
                "tape usage", "expected steps of ", size, " examples with ", elements, " elements, got ", count);
  // Patches are no elements, nor is a sequence that is one token as a whole.
  if (std::count(recorded.of_element.begin(), recorded.of_element.end(), true) != elements) recorded.of_element.assign(count, false);
  return recorded;
}

void add_pondering(TapeUsage& usage, const ModelOutput& output, const Batch& host, const Task& task) {
  const RecordedSteps recorded = recorded_steps(output, host);
  const bool has_places = static_cast<int64_t>(recorded.steps.size()) > host.size();
  std::vector<double> of_elements, of_examples;
  size_t at = 0;
  for (const int64_t count : recorded.counts) {
    double sum = 0;
    size_t place = 0;
    for (int64_t i = 0; i < count; ++i, ++at) {
      const double taken = recorded.steps[at];
      sum += taken;
      if (!recorded.of_element[at]) continue;
      of_elements.push_back(taken);
      if (!has_places) continue;
      if (usage.ponder_positions.size() <= place) usage.ponder_positions.resize(place + 1);
      TapeUsage::PositionSteps& position = usage.ponder_positions[place++];
      ++position.examples;
      position.sum += taken;
      position.squares += taken * taken;
    }
    of_examples.push_back(count > 0 ? sum / static_cast<double>(count) : 0);
  }
  const at::Tensor by_element = task.element_covariate(host);
  usage.ponder_by_element = by_element.defined() && by_element.numel() == static_cast<int64_t>(of_elements.size());
  const std::vector<double>& steps = usage.ponder_by_element ? of_elements : of_examples;
  const std::vector<double> covariates = numbers_of(usage.ponder_by_element ? by_element : task.example_covariate(host));
  usage.ponder_steps.insert(usage.ponder_steps.end(), steps.begin(), steps.end());
  usage.ponder_covariates.insert(usage.ponder_covariates.end(), covariates.begin(), covariates.end());
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
    if (output.intermediates.contains("steps")) {
      usage.examples = std::min(examples, held_out);
      add_pondering(usage, output, host, *run.task);
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
