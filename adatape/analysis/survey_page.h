// The page of a survey of readings (reading_survey.h).
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/figures.h"
#include "adatape/analysis/reading_survey.h"

namespace adatape {

// Share of examples that read a patch; class_index < 0: of all classes.
Figure survey_heatmap(const ReaderSurvey& reader, int64_t class_index);

// Mean share of examples that read a patch against its distance from the image's centre, and the mean over all patches.
Figure centre_bias(const ReaderSurvey& reader);

// Mean and deviation of the tape length for each class.
Figure length_by_class(const ReadingSurvey& survey);

// Mean and deviation of the tape length in ten groups of equal size by loss, or by margin.
enum class Difficulty { kLoss, kMargin };
Figure length_by_difficulty(const ReadingSurvey& survey, Difficulty difficulty);

// The page; title: of the run, remark: under it, such as the budget ("" = none). It loads plotly.min.js from its own folder and nothing
// else.
std::string survey_html(const ReadingSurvey& survey, const std::string& title, const std::string& remark, const std::string& command,
                        const std::vector<std::string>& symbol_names);

// Numbers of the page as JSON: lengths, heatmaps, shares.
nlohmann::ordered_json survey_json(const ReadingSurvey& survey);

}  // namespace adatape
