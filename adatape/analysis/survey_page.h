// The page of a survey of readings (reading_survey.h).
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/figures.h"
#include "adatape/analysis/reading_survey.h"
#include "adatape/analysis/survey_charts.h"

namespace adatape {

// Share of examples that read a patch; class_index < 0: of all classes.
Figure survey_heatmap(const ReaderSurvey& reader, int64_t class_index);

// A chart as plotly.js draws it.
Figure figure_of(const Chart& chart, int height);

// The page; title: of the run, remark: under it, such as the budget ("" = none), notes: of the task. It needs plotly.js yet
// (self_contained).
std::string survey_html(const ReadingSurvey& survey, const std::string& title, const std::string& remark, const std::string& command,
                        const std::vector<std::string>& symbol_names, const std::vector<std::string>& notes = {});

// Numbers of the page as JSON: lengths, heatmaps over all and by class, shares.
nlohmann::ordered_json survey_json(const ReadingSurvey& survey);

}  // namespace adatape
