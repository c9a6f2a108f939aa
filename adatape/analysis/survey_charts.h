// Charts of a survey of readings (reading_survey.h): what its page and its pictures show alike.
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/chart.h"
#include "adatape/analysis/reading_survey.h"

namespace adatape {

struct MeanAndDeviation {
  double mean = 0, deviation = 0;
};
MeanAndDeviation spread_of(const std::vector<double>& values);

// Its number where the task has no name for it.
std::string class_name(const ReadingSurvey& survey, int64_t index);

// Mean share of examples that read a patch against its distance from the image's centre, and the mean over all patches. Error for a bank
// whose rows have no places.
Chart centre_bias(const ReaderSurvey& reader);

// Mean and deviation of the tape length for each class that has examples.
Chart length_by_class(const ReadingSurvey& survey);

// Mean and deviation of the tape length in ten groups of equal size by loss, or by margin, each named by its median.
enum class Difficulty { kLoss, kMargin };
Chart length_by_difficulty(const ReadingSurvey& survey, Difficulty difficulty);

}  // namespace adatape
