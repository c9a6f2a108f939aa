// How configuration speaks of types and values: the same words in `list options`, in error texts and in TOML.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "adatape/core/config.h"

namespace adatape {

// "integer", "integer >= 1", "integer in [0, 10]".
std::string type_name(const IntegerRange& range);
// "real", "real > 0", "real in (0, 1]".
std::string type_name(const RealRange& range);
// "one of: a, b".
std::string choice_type_name(const std::vector<std::string>& choices);
// integer_or: "integer >= 1 | \"bank\"".
std::string integer_or_type_name(const IntegerRange& range, const std::string& word);

bool contains(const IntegerRange& range, int64_t value);
bool contains(const RealRange& range, double value);  // false for nan

// The shortest TOML real that reads back to exactly this value: 3.0, 0.001, 1e+20, inf.
std::string toml_real(double value);
// A TOML basic string with its quotes.
std::string toml_text(const std::string& value);
// A key as it is written in TOML: quoted where it is not bare.
std::string toml_key(const std::string& key);
std::string toml_list(const std::vector<int64_t>& values);
std::string toml_list(const std::vector<double>& values);

// "a, b".
std::string joined(const std::vector<std::string>& words);

// "a" + "b" is "a.b"; an empty prefix is the root.
std::string dotted(const std::string& prefix, const std::string& name);

}  // namespace adatape
