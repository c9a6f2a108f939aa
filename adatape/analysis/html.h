// Text and JSON as HTML holds them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace adatape {

// & < > " ' as entities: safe between tags and in quoted attributes. Plotly's labels, which know a few tags, take it too.
std::string escape_html(std::string_view text);
// A cell of a table; the text is escaped, the kind is its class.
std::string html_cell(std::string_view text, const char* kind = "number");

// JSON that may stand in a <script> element: every < is \u003c, so that no text in it can close the element or open a comment. Bytes that
// are not UTF-8 become U+FFFD.
std::string script_json(const nlohmann::ordered_json& value);

}  // namespace adatape
