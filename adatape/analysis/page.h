// The frame of a report page: style, script, and figures that are drawn when they come into view.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace adatape {

// Builds the body of one page.
class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}

  // HTML as it is: whoever calls has escaped what comes from files.
  void html(const std::string& text) { body_ += text; }
  // A figure of plotly.js with a sentence under it; caption is plain text.
  void figure(const nlohmann::ordered_json& figure, const std::string& caption);
  // The whole document. It loads plotly.min.js from beside itself and nothing else.
  std::string document() const;

 private:
  std::string title_, body_;
  int figures_ = 0;
};

}  // namespace adatape
