#include "adatape/analysis/reading_survey.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "adatape/core/check.h"
#include "adatape/tasks/image_classification/image_classification_task.h"

namespace adatape {
namespace {

// Adds up one batch of one reader. sums: read and weight as counts, by_class as counts.
void add_reading(ReaderSurvey& survey, const TapeReading& reading, const std::vector<int64_t>& labels, const at::Tensor& boxes,
                 ObjectShare& on_object) {
  const at::Tensor indices = reading.indices.to(at::kCPU).contiguous(), weights = reading.weights.to(at::kCPU, at::kFloat).contiguous();
  const at::Tensor lengths = reading.lengths.to(at::kCPU).contiguous();
  const int64_t longest = indices.size(1), width = indices.size(2);
  const auto grow = [](std::vector<double>& values, int64_t row) {
    if (static_cast<size_t>(row) >= values.size()) values.resize(static_cast<size_t>(row) + 1);
  };
  for (size_t b = 0; b < labels.size(); ++b) {
    const int64_t* of_example = indices.const_data_ptr<int64_t>() + static_cast<int64_t>(b) * longest * width;
    const float* weight = weights.const_data_ptr<float>() + static_cast<int64_t>(b) * longest * width;
    const int64_t steps = lengths.const_data_ptr<int64_t>()[b];
    std::vector<double>& of_class = survey.by_class[static_cast<size_t>(labels[b])];
    for (int64_t i = 0; i < steps * width; ++i) {
      const int64_t row = of_example[i];
      if (row < 0) continue;
      grow(survey.read, row);
      grow(survey.weight, row);
      grow(of_class, row);
      ++survey.read[static_cast<size_t>(row)];
      survey.weight[static_cast<size_t>(row)] += static_cast<double>(weight[i]);
      ++of_class[static_cast<size_t>(row)];
    }
    if (survey.grid && boxes.defined()) {
      on_object.add(*survey.grid, of_example, weight, steps, width, boxes.const_data_ptr<int64_t>() + 4 * static_cast<int64_t>(b));
    }
  }
}

void divide(std::vector<double>& values, double by) {
  for (double& value : values) value /= by;
}

ShownExample run_one(const LoadedRun& run, at::Device device, int64_t index) {
  const Batch host = run.task->held_out_batch(Split::kTest, index, 1);
  const Batch batch = host.to(device);
  const ModelOutput output = run.model->forward(batch, {});
  return shown_example(run, output, batch, 0, index, run.task->example_covariate(host)[0].item<double>());
}

}  // namespace

ReadingSurvey survey_readings(const LoadedRun& run, at::Device device, int64_t examples, int64_t shown,
                              const std::function<void(int64_t done)>& progress) {
  const at::NoGradGuard no_grad;
  const auto* config = dynamic_cast<const TapeFrontConfig*>(run.config.model.get());
  ADATAPE_CHECK(config != nullptr && !config->readers.empty(), run.folder, "expected a model with a tape, got ", run.config.model->name,
                config != nullptr ? " without readers" : "");
  const InputSpec spec = run.task->input_spec();
  ReadingSurvey survey;
  survey.examples = std::min(examples, run.task->held_out_size(Split::kTest));
  survey.class_names = run.task->class_names();
  for (size_t r = 0; r < config->readers.size(); ++r) {
    ReaderSurvey reader;
    reader.reader = static_cast<int64_t>(r);
    reader.bank = config->readers[r].bank;
    reader.grid = bank_grid(*config, r, spec);
    reader.by_class.resize(static_cast<size_t>(spec.classes));
    survey.readers.push_back(std::move(reader));
  }
  const int64_t batch_size = std::min<int64_t>(run.config.evaluation.batch_size, 500);
  std::vector<double> of_class(static_cast<size_t>(spec.classes), 0);
  for (int64_t first = 0; first < survey.examples; first += batch_size) {
    if (progress) progress(first);
    const int64_t count = std::min(batch_size, survey.examples - first);
    const Batch batch = run.task->held_out_batch(Split::kTest, first, count).to(device);
    const ModelOutput output = run.model->forward(batch, {});
    ADATAPE_CHECK(output.logits.dim() == 2 && output.logits.size(0) == count && output.logits.size(1) == spec.classes, run.folder,
                  "expected a model that gives an example one class, got logits ", output.logits.sizes());
    const at::Tensor boxes = run.task->held_out_boxes(Split::kTest, first, count);
    const at::Tensor labels = batch.labels.to(at::kCPU, at::kLong).contiguous();
    const at::Tensor probabilities = class_probabilities(*run.task, output.logits).to(at::kCPU).contiguous();
    const at::Tensor answers = output.logits.argmax(1).to(at::kCPU).contiguous();
    const at::Tensor losses = run.model->combine(output, [&](const at::Tensor& logits) { return run.task->example_loss(logits, batch); })
                                  .to(at::kCPU, at::kDouble)
                                  .contiguous();
    at::Tensor lengths = output.readings.front().lengths;
    for (size_t r = 1; r < output.readings.size(); ++r) lengths = lengths + output.readings[r].lengths;
    lengths = lengths.to(at::kCPU).contiguous();
    const std::vector<int64_t> of_batch(labels.const_data_ptr<int64_t>(), labels.const_data_ptr<int64_t>() + count);
    for (int64_t b = 0; b < count; ++b) {
      const double* row = probabilities.const_data_ptr<double>() + b * spec.classes;
      const int64_t label = of_batch[static_cast<size_t>(b)];
      double best_other = 0;
      for (int64_t c = 0; c < spec.classes; ++c) best_other = c == label ? best_other : std::max(best_other, row[c]);
      survey.margins.push_back(row[label] - best_other);
      survey.losses.push_back(losses.const_data_ptr<double>()[b]);
      survey.lengths.push_back(static_cast<double>(lengths.const_data_ptr<int64_t>()[b]));
      survey.answers.push_back(answers.const_data_ptr<int64_t>()[b]);
      ++of_class[static_cast<size_t>(label)];
    }
    survey.labels.insert(survey.labels.end(), of_batch.begin(), of_batch.end());
    for (size_t r = 0; r < survey.readers.size(); ++r)
      add_reading(survey.readers[r], output.readings[r], of_batch, boxes, survey.on_object);
  }
  for (ReaderSurvey& reader : survey.readers) {
    const size_t rows = reader.grid ? static_cast<size_t>(reader.grid->size()) : reader.read.size();
    reader.read.resize(rows);
    reader.weight.resize(rows);
    divide(reader.read, static_cast<double>(survey.examples));
    divide(reader.weight, static_cast<double>(survey.examples));
    for (size_t c = 0; c < reader.by_class.size(); ++c) {
      reader.by_class[c].resize(of_class[c] > 0 ? rows : 0);
      divide(reader.by_class[c], of_class[c]);
    }
  }
  std::vector<int64_t> order(static_cast<size_t>(survey.examples));
  std::iota(order.begin(), order.end(), 0);
  const auto length = [&](int64_t index) { return survey.lengths[static_cast<size_t>(index)]; };
  const auto chosen = std::min<size_t>(order.size(), static_cast<size_t>(shown));
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) < length(b); });
  for (size_t i = 0; i < chosen; ++i) survey.shortest.push_back(run_one(run, device, order[i]));
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  for (size_t i = 0; i < chosen; ++i) survey.longest.push_back(run_one(run, device, order[i]));
  if (progress) progress(survey.examples);
  return survey;
}

}  // namespace adatape
