// What a ConfigDocument holds; apart from config.h so that only the files that need toml++ pay for it.
#pragma once

#include <toml++/toml.h>
#include <string>

#include "adatape/core/config.h"

namespace adatape {

struct ConfigDocument::Impl {
  toml::table root;
};

// A value as an error shows it: "abc", 3, a table.
std::string shown_value(const toml::node& node);

}  // namespace adatape
