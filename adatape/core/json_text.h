// JSON as text, whatever stands in it: paths and arguments are any bytes, and records hold them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace adatape {

// The text of value; indent as nlohmann's dump has it, -1 for one line. Bytes that are not UTF-8 become U+FFFD, where dump() would throw.
std::string json_text(const nlohmann::ordered_json& value, int indent = -1);

}  // namespace adatape
