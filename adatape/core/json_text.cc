#include "adatape/core/json_text.h"

#include <nlohmann/json.hpp>

namespace adatape {

std::string json_text(const nlohmann::ordered_json& value, int indent) {
  return value.dump(indent, ' ', /*ensure_ascii=*/false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace adatape
