// The report: a page that opens offline, with the table, the curves, the tapes and what single examples read.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "adatape/analysis/comparison.h"

namespace adatape {

// The page of a comparison whose models have been measured (comparison.h). It needs plotly.js yet (self_contained).
std::string report_html(const Comparison& comparison);

// Where plotly.min.js is looked for: beside the program, then in the source tree that it was built from.
std::vector<std::string> plotly_candidates();

// The first of them that exists, read; Error when there is none.
std::string plotly_script(const std::vector<std::string>& candidates = plotly_candidates());

// Writes results.json and report.html, with plotly.js (the first candidate that exists) within it, into a folder, which is made if need be;
// its other files stay. Error when no candidate exists, before anything is written, or when a file cannot be written.
void write_page(const std::string& folder, const std::function<std::string()>& html, const nlohmann::ordered_json& results,
                const std::vector<std::string>& plotly = plotly_candidates());
// The same of a comparison, and frontier.png: accuracy against speed (frontier.h).
void write_report(const Comparison& comparison, const std::string& folder, const std::vector<std::string>& plotly = plotly_candidates());

}  // namespace adatape
