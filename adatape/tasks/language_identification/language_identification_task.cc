#include "adatape/tasks/language_identification/language_identification_task.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <limits>

#include "adatape/core/check.h"
#include "adatape/data/text_files.h"
#include "adatape/tasks/classification.h"
#include "adatape/tasks/image_classification/image_classification_config.h"
#include "adatape/tasks/language_identification/language_folder.h"
#include "adatape/tasks/language_modelling/n_gram.h"

namespace adatape {
namespace {

constexpr char kLanguageIdentificationWhere[] = "task language_identification";
constexpr int64_t kLanguageIdentificationBytes = 256;
constexpr uint64_t kLanguageIdentificationHeldOutSeed = 0x6c61'6e67'7561'6765;  // "language"

}  // namespace

void LanguageIdentificationConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "name of the task");
  visit.text("path", path,
             "folder with a sub-folder or a file for each language, named after it; Debian's fortunes, fortunes-de, -es and -it put theirs "
             "where the default is");
  visit.text(
      "loose_files", loose_files,
      "files beside the sub-folders: \"each\" is a language, or together they are the one of this name; auto = \"en\" for the default "
      "path, else \"each\"");
  visit.text("skip", skip, "name of folders that are passed over; those of Debian's fortunes hold encrypted text");
  visit.text("languages", languages, "names of the languages to tell apart, separated by commas; empty: all that are found");
  visit.integer("length", length, {.minimum = 1, .maximum = kTextBlock}, "bytes of a window, of the longest where lengths vary");
  visit.integer_or("length_minimum", length_minimum, "length", {.minimum = 1, .maximum = kTextBlock},
                   "bytes of the shortest window; lengths are drawn from here on");
  visit.integer("n_gram", n_gram, {1, 3}, "order of the n-grams that are shown beside: how many bytes they go by");
}

void LanguageIdentificationConfig::resolve() {
  if (loose_files == "auto") loose_files = path == kFortunes ? "en" : "each";
  if (!length_minimum) length_minimum = length;
  if (!languages.empty()) return;
  std::vector<std::string> found;
  for (const LanguageText& language : find_languages(path, loose_files, skip, text_hint(path))) found.push_back(language.name);
  languages = join_names(found);
  ADATAPE_CHECK(found.size() >= 2, kLanguageIdentificationWhere, "expected at least 2 languages in ", path,
                ", a sub-folder or a file each, found ", found.size(), found.empty() ? "" : concat(" (", languages, ")"));
}

std::vector<std::string> LanguageIdentificationConfig::names() const {
  return languages.empty() ? std::vector<std::string>{} : split_names(languages);
}

void LanguageIdentificationConfig::validate() const {
  ADATAPE_CHECK(names().size() >= 2, kLanguageIdentificationWhere, "expected at least 2 task.languages, got \"", languages, '"');
  ADATAPE_CHECK(length_minimum.value_or(length) <= length, kLanguageIdentificationWhere, "expected length_minimum <= length, got ",
                *length_minimum, " and ", length);
}

InputSpec LanguageIdentificationConfig::input_spec() const {
  InputSpec spec;
  spec.kind = InputSpec::Kind::kSymbols;
  spec.vocabulary = kLanguageIdentificationBytes;
  spec.length = length;
  spec.classes = static_cast<int64_t>(names().size());
  return spec;
}

LanguageIdentificationTask::LanguageIdentificationTask(const LanguageIdentificationConfig& config) : config_(config) {
  config_.resolve();
  config_.validate();
  const std::string hint = text_hint(config_.path);
  const std::vector<LanguageText> found = find_languages(config_.path, config_.loose_files, config_.skip, hint);
  for (const std::string& name : config_.names()) {
    const auto language = std::find_if(found.begin(), found.end(), [&](const LanguageText& one) { return one.name == name; });
    std::string known, whole;
    for (const LanguageText& one : found) known += (known.empty() ? "" : ", ") + one.name;
    ADATAPE_CHECK(language != found.end(), kLanguageIdentificationWhere, "expected languages out of ", known, " in ", config_.path,
                  ", got \"", name, '"');
    const TextSearch search{.below = !language->loose_files, .skip = config_.skip};
    for (const std::string& text : read_text_files(language->path, hint, search)) whole += text;
    texts_.emplace_back(kLanguageIdentificationWhere, std::move(whole), config_.length, concat(language->path, " (\"", name, "\")"));
  }
}

int64_t LanguageIdentificationTask::draw_length(CounterRng& random) const {
  if (!lengths_vary()) return config_.length;
  return shortest() + static_cast<int64_t>(random.below(static_cast<uint64_t>(config_.length - shortest() + 1)));
}

// No ATen kernels here, only at::empty: batches are made on threads that must not start an OpenMP team each.
Batch LanguageIdentificationTask::batch_of(const std::vector<Window>& windows) const {
  const auto count = static_cast<int64_t>(windows.size());
  Batch batch;
  batch.offsets.push_back(0);
  for (const Window& window : windows) batch.offsets.push_back(batch.offsets.back() + window.length);
  batch.symbols = at::empty({batch.offsets.back()}, at::kLong);
  batch.labels = at::empty({count}, at::kLong);
  batch.examples = at::empty({count}, at::kLong);
  for (size_t b = 0; b < windows.size(); ++b) {
    const Window& window = windows[b];
    const char* text = texts_[static_cast<size_t>(window.language)].text().data() + window.start;
    int64_t* symbols = batch.symbols.data_ptr<int64_t>() + batch.offsets[b];
    for (int64_t i = 0; i < window.length; ++i) symbols[i] = static_cast<uint8_t>(text[i]);
    batch.labels.data_ptr<int64_t>()[b] = window.language;
    batch.examples.data_ptr<int64_t>()[b] = window.example;
  }
  return batch;
}

Batch LanguageIdentificationTask::training_batch(uint64_t seed, uint64_t step, int64_t batch_size) const {
  ADATAPE_CHECK(batch_size >= 1, kLanguageIdentificationWhere, "expected a batch size >= 1, got ", batch_size);
  std::vector<Window> windows;
  for (int64_t b = 0; b < batch_size; ++b) {
    CounterRng random(seed, step, site(Site::kData), static_cast<uint64_t>(b));
    Window window;
    window.language = static_cast<int64_t>(random.below(texts_.size()));
    window.start = texts_[static_cast<size_t>(window.language)].draw_start(random);
    window.length = draw_length(random);
    window.example = static_cast<int64_t>(step) * batch_size + b;
    windows.push_back(window);
  }
  return batch_of(windows);
}

int64_t LanguageIdentificationTask::held_out_size(Split split) const {
  size_t least = texts_.front().held_out(split).size();
  for (const TextWindows& text : texts_) least = std::min(least, text.held_out(split).size());
  return static_cast<int64_t>(least * texts_.size());
}

std::vector<LanguageIdentificationTask::Window> LanguageIdentificationTask::held_out_windows(Split split, int64_t first,
                                                                                             int64_t count) const {
  const int64_t size = held_out_size(split), languages = static_cast<int64_t>(texts_.size()), each = size / languages;
  ADATAPE_CHECK(first >= 0 && count >= 0 && first <= size && count <= size - first, kLanguageIdentificationWhere,
                "expected held-out examples within 0 .. ", size - 1, ", got ", count, " from ", first);
  std::vector<Window> windows;
  for (int64_t i = first; i < first + count; ++i) {
    const int64_t language = i % languages;
    const std::vector<int64_t>& starts = texts_[static_cast<size_t>(language)].held_out(split);
    CounterRng random(kLanguageIdentificationHeldOutSeed, 0, site(Site::kData, split == Split::kTest ? 2 : 1), static_cast<uint64_t>(i));
    const int64_t place = i / languages * static_cast<int64_t>(starts.size()) / each;
    windows.push_back({language, starts[static_cast<size_t>(place)], draw_length(random), i});
  }
  return windows;
}

Batch LanguageIdentificationTask::held_out_batch(Split split, int64_t first, int64_t count) const {
  return batch_of(held_out_windows(split, first, count));
}

int64_t LanguageIdentificationTask::epoch_size() const {
  int64_t bytes = 0;
  for (const TextWindows& text : texts_) bytes += text.training_bytes();
  return bytes / config_.length;
}

at::Tensor LanguageIdentificationTask::example_loss(const at::Tensor& logits, const Batch& batch) const {
  return classification_loss(kLanguageIdentificationWhere, logits, batch.labels, static_cast<int64_t>(texts_.size()));
}

at::Tensor LanguageIdentificationTask::example_correct(const at::Tensor& logits, const Batch& batch) const {
  return classification_correct(kLanguageIdentificationWhere, logits, batch.labels, static_cast<int64_t>(texts_.size()));
}

std::vector<std::pair<std::string, double>> LanguageIdentificationTask::describe_loss(double, Split split) const {
  const std::lock_guard<std::mutex> guard(lock_);
  if (n_gram_accuracy_.count(split) == 0) {
    std::vector<NGram> models;
    for (const TextWindows& text : texts_) {
      std::vector<std::string> training;
      for (const auto& [begin, end] : text.training_runs())
        training.push_back(text.text().substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin)));
      models.emplace_back(static_cast<int>(config_.n_gram), training);
    }
    const std::vector<Window> windows = held_out_windows(split, 0, held_out_size(split));
    int64_t right = 0;
    for (const Window& window : windows) {
      const std::string& text = texts_[static_cast<size_t>(window.language)].text();
      const std::string bytes = text.substr(static_cast<size_t>(window.start), static_cast<size_t>(window.length));
      int64_t best = 0;
      double fewest = std::numeric_limits<double>::infinity();
      for (size_t i = 0; i < models.size(); ++i) {
        const double bits = models[i].bits(bytes);
        if (bits < fewest) {
          fewest = bits;
          best = static_cast<int64_t>(i);
        }
      }
      right += best == window.language;
    }
    n_gram_accuracy_[split] = static_cast<double>(right) / static_cast<double>(windows.size());
  }
  return {{concat("accuracy of order-", config_.n_gram, " n-grams"), n_gram_accuracy_[split]}};
}

at::Tensor LanguageIdentificationTask::example_covariate(const Batch& batch) const {
  if (!lengths_vary()) return batch.labels.to(at::kCPU, at::kFloat);
  at::Tensor lengths = at::empty({batch.size()}, at::kFloat);
  for (size_t b = 0; b + 1 < batch.offsets.size(); ++b) {
    lengths.data_ptr<float>()[b] = static_cast<float>(batch.offsets[b + 1] - batch.offsets[b]);
  }
  return lengths;
}

std::vector<std::string> LanguageIdentificationTask::notes() const {
  std::string text = "bytes of text:";
  const std::vector<std::string> names = config_.names();
  for (size_t i = 0; i < names.size(); ++i) text += concat(i == 0 ? " " : ", ", names[i], " ", texts_[i].text().size());
  return {text};
}

std::unique_ptr<TaskConfig> make_language_identification_config() { return std::make_unique<LanguageIdentificationConfig>(); }

std::unique_ptr<Task> make_language_identification_task(const TaskConfig& config) {
  const auto* own = dynamic_cast<const LanguageIdentificationConfig*>(&config);
  ADATAPE_CHECK(own != nullptr, kLanguageIdentificationWhere, "expected the configuration of task language_identification, got that of \"",
                config.name, '"');
  return std::make_unique<LanguageIdentificationTask>(*own);
}

}  // namespace adatape
