// Where two configurations of a run differ.
#pragma once

#include <optional>
#include <string>

#include "adatape/train/run_config.h"

namespace adatape {

struct ConfigDifference {
  std::string key;            // dotted, list elements by index: model.readers.0.threshold
  std::string before, after;  // as TOML; "(absent)" where only the other has the key
};

// The first field, in declaration order, whose value differs.
std::optional<ConfigDifference> first_difference(RunConfig& before, RunConfig& after);

}  // namespace adatape
