// The frame of a report page: style, scripts, and figures that are drawn when they come into view.
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
  // The whole document but for plotly.js, which takes 5 MB: self_contained puts it in. It loads nothing.
  std::string document() const;

 private:
  std::string title_, body_;
  int figures_ = 0;
};

// A document of Page with the text of plotly.js in its place, so that the file shows its plots wherever it is opened or sent. Error where
// the page has no such place.
std::string self_contained(std::string page, const std::string& plotly);

}  // namespace adatape
