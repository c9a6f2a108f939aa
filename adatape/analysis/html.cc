#include "adatape/analysis/html.h"

#include <nlohmann/json.hpp>

#include "adatape/core/check.h"
#include "adatape/core/json_text.h"

namespace adatape {

std::string escape_html(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  for (const char letter : text) {
    switch (letter) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += letter;
    }
  }
  return escaped;
}

std::string html_cell(std::string_view text, const char* kind) { return concat("<td class=\"", kind, "\">", escape_html(text), "</td>"); }

std::string script_json(const nlohmann::ordered_json& value) {
  std::string text;
  for (const char letter : json_text(value)) {
    if (letter == '<') {
      text += "\\u003c";
    } else {
      text += letter;
    }
  }
  return text;
}

}  // namespace adatape
