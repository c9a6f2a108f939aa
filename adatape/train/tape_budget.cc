#include "adatape/train/tape_budget.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "adatape/core/check.h"
#include "adatape/models/tape_front.h"

namespace adatape {

namespace {

std::string without_outer_blanks(const std::string& text) {
  const size_t begin = text.find_first_not_of(' ');
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

}  // namespace

TapeBudget parse_tape_budget(const std::string& text) {
  TapeBudget budget;
  std::string number = without_outer_blanks(text);
  budget.share_of_flops = number.ends_with('%');
  if (budget.share_of_flops) number = without_outer_blanks(number.substr(0, number.size() - 1));
  budget.text = number + (budget.share_of_flops ? "%" : "");
  char* end = nullptr;
  budget.amount = std::strtod(number.c_str(), &end);
  const bool digits = !number.empty() && number.find_first_not_of("0123456789.eE+-") == std::string::npos && *end == '\0';
  ADATAPE_CHECK(digits && std::isfinite(budget.amount) && budget.amount > 0, "tape budget",
                "expected mean tape tokens such as 4.5, or a share of the FLOPs of full tapes such as 60%, got \"", text, "\"");
  if (budget.share_of_flops) budget.amount /= 100;
  return budget;
}

void apply_tape_setting(LoadedRun& run, const TapeSetting& setting) {
  const std::vector<TapeReader*> readers = run.model->tape_readers();
  auto* config = dynamic_cast<TapeFrontConfig*>(run.config.model.get());
  const auto change = [](TapeReaderConfig& reader, const ReaderSetting& to) {
    reader.threshold = to.threshold;
    if (to.max_tape_tokens) reader.max_tape_tokens = to.max_tape_tokens;
  };
  for (const ReaderSetting& one : setting.readers) {
    ADATAPE_CHECK(one.reader < readers.size(), "tape budget", "expected a setting of readers 0 .. ",
                  static_cast<int64_t>(readers.size()) - 1, ", got one of reader ", one.reader);
    change(readers[one.reader]->config, one);
    if (config != nullptr) change(config->readers.at(one.reader), one);
  }
}

std::vector<std::string> tape_setting_assignments(const TapeSetting& setting) {
  std::vector<std::string> assignments;
  for (const ReaderSetting& one : setting.readers) {
    const std::string key = "model.readers." + std::to_string(one.reader) + ".";
    if (setting.beyond_training && one.max_tape_tokens) assignments.push_back(concat(key, "max_tape_tokens=", *one.max_tape_tokens));
    char threshold[64];
    std::snprintf(threshold, sizeof(threshold), "%.10g", one.threshold);
    assignments.push_back(concat(key, "threshold=", threshold));
  }
  return assignments;
}

}  // namespace adatape
