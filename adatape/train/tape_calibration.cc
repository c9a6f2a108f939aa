#include "adatape/train/tape_calibration.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr double kTolerance = 0.02;   // of a budget
constexpr double kClose = 0.001;      // where the bisection stops
constexpr double kLeastShare = 1e-6;  // one step of every reading
constexpr double kNoThreshold = std::numeric_limits<double>::infinity();

// Thresholds are rounded, so that what is printed is what was measured.
double rounded(double threshold) { return std::max(1e-6, std::round(threshold * 1e6) / 1e6); }

// Puts the readers' settings back when the work is done or given up.
class KeptSettings {
 public:
  explicit KeptSettings(const std::vector<TapeReader*>& readers) : readers_(readers) {
    for (const TapeReader* reader : readers) kept_.push_back(reader->config);
  }
  ~KeptSettings() {
    for (size_t r = 0; r < readers_.size(); ++r) readers_[r]->config = kept_[r];
  }
  KeptSettings(const KeptSettings&) = delete;
  KeptSettings& operator=(const KeptSettings&) = delete;

 private:
  const std::vector<TapeReader*>& readers_;
  std::vector<TapeReaderConfig> kept_;
};

void apply(TapeReaderConfig& reader, const ReaderSetting& setting) {
  reader.threshold = setting.threshold;
  if (!std::isfinite(setting.threshold)) reader.halting = "none";
  if (setting.max_tape_tokens) reader.max_tape_tokens = setting.max_tape_tokens;
}

double flops_of_work(const std::vector<WorkItem>& work) {
  double flops = 0;
  for (const WorkItem& item : work) {
    for (const int64_t rows : item.rows) flops += static_cast<double>(rows) * static_cast<double>(item.flops_per_row);
  }
  return flops;
}

}  // namespace

TapeCalibration::TapeCalibration(const LoadedRun& run, at::Device device, int64_t examples, std::function<void()> progress)
    : run_(run),
      device_(device),
      split_(run.task->calibration_split()),
      examples_(std::min(examples, run.task->held_out_size(split_))),
      progress_(std::move(progress)),
      readers_(run.model->tape_readers()) {
  ADATAPE_CHECK(examples_ >= 1, "tape budget", "expected at least one calibration example, got ", examples);
  bool any = false;
  for (size_t r = 0; r < readers_.size(); ++r) {
    own_.push_back(readers_[r]->config);
    any = any || adjustable(r);
    dependent_ = dependent_ || (r > 0 && own_[r].query != "learned");
  }
  ADATAPE_CHECK(any, "tape budget", "expected a model with a reader that halts by a threshold; ", run.config.label, " (",
                run.config.model->name, ") has none");
}

bool TapeCalibration::adjustable(size_t reader) const { return own_[reader].halting == "threshold" && own_[reader].selection != "all"; }

std::vector<ReaderSetting> TapeCalibration::settings(double share, double stretch) {
  std::vector<ReaderSetting> settings;
  for (size_t r = 0; r < readers_.size(); ++r) {
    if (!adjustable(r)) continue;
    ReaderSetting one{r, share, std::nullopt};
    if (own_[r].max_tape_tokens) {
      one.max_tape_tokens = *own_[r].max_tape_tokens;
      if (stretch > 1) {
        const std::vector<int64_t>& reached = recorded(stretch)[r].lengths;
        one.max_tape_tokens = std::max(*one.max_tape_tokens, *std::max_element(reached.begin(), reached.end()));
      }
      one.threshold = share * static_cast<double>(*one.max_tape_tokens);
    }
    one.threshold = rounded(one.threshold);
    settings.push_back(one);
  }
  return settings;
}

void TapeCalibration::for_each_batch(const std::function<void(const ModelOutput& output, int64_t first, int64_t count)>& use) {
  const at::NoGradGuard no_grad;
  const int64_t batch_size = run_.config.evaluation.batch_size;
  for (int64_t first = 0; first < examples_; first += batch_size) {
    if (progress_) progress_();
    const Batch batch = run_.task->held_out_batch(split_, first, std::min(batch_size, examples_ - first));
    for (int64_t b = 0; static_cast<int64_t>(input_lengths_.size()) < examples_ && b < batch.size(); ++b) {
      input_lengths_.push_back(batch.images.defined() ? 0
                                                      : batch.offsets[static_cast<size_t>(b + 1)] - batch.offsets[static_cast<size_t>(b)]);
    }
    const ModelOutput output = run_.model->forward(batch.to(device_), {.record = true});
    halts_ = halts_ || output.intermediates.contains("steps");
    use(output, first, batch.size());
  }
}

const std::vector<TapeCalibration::Recorded>& TapeCalibration::recorded(double stretch) {
  const auto found = recorded_.find(stretch);
  if (found != recorded_.end()) return found->second;
  const KeptSettings kept(readers_);
  for (size_t r = 0; r < readers_.size(); ++r) {
    if (!adjustable(r)) continue;
    const std::optional<int64_t> own = own_[r].max_tape_tokens;
    const auto longest = own ? std::optional(static_cast<int64_t>(std::ceil(stretch * static_cast<double>(*own)))) : std::nullopt;
    apply(readers_[r]->config, {r, kNoThreshold, longest});
  }
  std::vector<Recorded> readers(readers_.size());
  for_each_batch([&](const ModelOutput& output, int64_t first, int64_t count) {
    for (size_t r = 0; r < readers.size(); ++r) {
      Recorded& reader = readers[r];
      const at::Tensor halting = output.readings[r].halting.to(at::kCPU, at::kFloat).contiguous();
      const at::Tensor lengths = output.readings[r].lengths.to(at::kCPU).contiguous();
      reader.lengths.insert(reader.lengths.end(), lengths.const_data_ptr<int64_t>(), lengths.const_data_ptr<int64_t>() + count);
      // Batches differ in T where it is the longest bank's: rows of earlier batches are widened.
      const int64_t longest = std::max(reader.longest, halting.size(1));
      std::vector<float> all(static_cast<size_t>((first + count) * longest));
      for (int64_t b = 0; b < first; ++b) {
        std::copy_n(reader.halting.begin() + b * reader.longest, reader.longest, all.begin() + b * longest);
      }
      for (int64_t b = 0; b < count; ++b) {
        std::copy_n(halting.const_data_ptr<float>() + b * halting.size(1), halting.size(1), all.begin() + (first + b) * longest);
      }
      reader.longest = longest;
      reader.halting = std::move(all);
    }
  });
  return recorded_[stretch] = std::move(readers);
}

// FLOPs of a forward pass without halting depend on the input's length and the tape lengths alone, so one example stands for all that share
// them.
double TapeCalibration::flops_of(int64_t example, const std::vector<int64_t>& lengths) {
  const auto [found, missing] = flops_.try_emplace({input_lengths_[static_cast<size_t>(example)], lengths}, 0.0);
  if (!missing) return found->second;
  const at::NoGradGuard no_grad;
  const KeptSettings kept(readers_);
  for (size_t r = 0; r < readers_.size(); ++r) {
    if (adjustable(r)) apply(readers_[r]->config, {r, kNoThreshold, std::max<int64_t>(1, lengths[r])});
  }
  const Batch batch = run_.task->held_out_batch(split_, example, 1).to(device_);
  found->second = flops_of_work(run_.model->forward(batch, {.record = true}).work);
  return found->second;
}

TapeCalibration::Cost TapeCalibration::cost(double share, double stretch, bool with_flops) {
  if (dependent_) return cost_by_forward(share, stretch);
  const std::vector<Recorded>& readers = recorded(stretch);
  if (with_flops && halts_) return cost_by_forward(share, stretch);
  const std::vector<ReaderSetting> set = settings(share, stretch);
  Cost cost;
  std::vector<int64_t> lengths(readers.size());
  for (int64_t b = 0; b < examples_; ++b) {
    for (size_t r = 0; r < readers.size(); ++r) lengths[r] = readers[r].lengths[static_cast<size_t>(b)];
    for (const ReaderSetting& one : set) {
      int64_t& length = lengths[one.reader];
      const double threshold = one.max_tape_tokens ? one.threshold : static_cast<float>(length) * static_cast<float>(one.threshold);
      const float* halting = readers[one.reader].halting.data() + b * readers[one.reader].longest;
      if (one.max_tape_tokens) length = std::min(length, *one.max_tape_tokens);
      for (int64_t t = 0; t < length; ++t) {
        if (halting[t] >= threshold - 1e-5) length = t + 1;  // as the operator halts (ops/tape_read/tape_read.h)
      }
    }
    for (const int64_t length : lengths) cost.tape_tokens += static_cast<double>(length);
    if (with_flops) cost.flops += flops_of(b, lengths);
  }
  cost.tape_tokens /= static_cast<double>(examples_);
  cost.flops /= static_cast<double>(examples_);
  return cost;
}

TapeCalibration::Cost TapeCalibration::cost_by_forward(double share, double stretch) {
  const std::vector<ReaderSetting> set = settings(share, stretch);
  const auto [found, missing] = forwarded_.try_emplace({share, stretch}, Cost{});
  if (!missing) return found->second;
  const KeptSettings kept(readers_);
  for (const ReaderSetting& one : set) apply(readers_[one.reader]->config, one);
  Cost cost;
  for_each_batch([&](const ModelOutput& output, int64_t, int64_t) {
    for (const TapeReading& reading : output.readings) cost.tape_tokens += reading.lengths.sum().item<double>();
    cost.flops += flops_of_work(output.work);
  });
  cost.tape_tokens /= static_cast<double>(examples_);
  cost.flops /= static_cast<double>(examples_);
  return forwarded_[{share, stretch}] = cost;
}

double TapeCalibration::fewest_tokens() { return cost(kLeastShare, 1, false).tape_tokens; }
double TapeCalibration::most_tokens(double stretch) { return cost(1, stretch, false).tape_tokens; }
double TapeCalibration::full_flops() { return cost(1, 1, true).flops; }

TapeSetting TapeCalibration::find(const TapeBudget& budget) {
  const auto amount = [&](double share, double stretch) {
    const Cost at = cost(share, stretch, budget.share_of_flops);
    return budget.share_of_flops ? at.flops / full_flops() : at.tape_tokens;
  };
  double low = kLeastShare, high = 1, stretch = 1;
  const double least = amount(low, 1);
  ADATAPE_CHECK(least <= budget.amount * (1 + kTolerance), "tape budget", "expected at least ",
                budget.share_of_flops ? concat(std::ceil(1000 * least) / 10, "%") : concat(std::ceil(1000 * least) / 1000),
                ", what one tape token for each reading takes, got ", budget.text);
  double most = amount(high, 1);
  while (most < budget.amount) {
    const double longer = amount(high, 2 * stretch);
    if (longer <= most) break;  // the bank is read
    most = longer;
    stretch *= 2;
  }
  if (most <= budget.amount) low = high;
  // Invariant: the amount at low is not above the budget (but for the tolerance at the least share), that at high is.
  double reached = amount(low, stretch), above = amount(high, stretch);
  const bool by_forward = dependent_ || (halts_ && budget.share_of_flops);
  for (int i = 0; i < (by_forward ? 16 : 50) && low < high && reached < budget.amount * (1 - kClose); ++i) {
    const double middle = (low + high) / 2, at = amount(middle, stretch);
    (at <= budget.amount ? low : high) = middle;
    (at <= budget.amount ? reached : above) = at;
  }
  // Where lengths move in large steps the amount above the budget may be the one that meets it.
  if (reached < budget.amount * (1 - kTolerance) && above <= budget.amount * (1 + kTolerance)) {
    low = high;
    reached = above;
  }
  const Cost found = cost(low, stretch, true);
  TapeSetting setting;
  setting.budget = budget;
  setting.readers = settings(low, stretch);
  setting.share = low;
  setting.beyond_training = stretch > 1;
  setting.met = std::abs(reached - budget.amount) <= kTolerance * budget.amount;
  setting.tape_tokens = found.tape_tokens;
  setting.flops = found.flops;
  setting.flops_share = found.flops / full_flops();
  setting.examples = examples_;
  setting.split = split_ == Split::kTrain ? "training" : "validation";
  return setting;
}

std::vector<TapeBudget> sweep_budgets(TapeCalibration& calibration) {
  constexpr int kInTraining = 5;  // equal steps
  const double fewest = calibration.fewest_tokens(), most = calibration.most_tokens(), beyond = calibration.most_tokens(2);
  std::vector<double> amounts;
  for (int i = 0; i <= kInTraining; ++i) amounts.push_back(fewest + (most - fewest) * i / kInTraining);
  for (const double amount : {most + (beyond - most) / 2, beyond}) {
    if (beyond > 1.02 * most) amounts.push_back(amount);
  }
  std::vector<TapeBudget> budgets;
  for (const double amount : amounts) budgets.push_back(parse_tape_budget(concat(std::round(1000 * amount) / 1000)));
  return budgets;
}

}  // namespace adatape
