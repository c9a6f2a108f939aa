// The table of a comparison: the same cells for the terminal and for the page.
#pragma once

#include <string>
#include <vector>

#include "adatape/analysis/results.h"

namespace adatape {

struct Column {
  std::string title;
  std::string meaning;  // one sentence
  bool number = true;   // aligned right
};

// The last column, where it is there: how the run was chosen.
inline constexpr const char* kChosenColumn = "chosen";

struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // one a model
};

// A row a model. With several seeds: accuracy is mean and worst, seconds and speed are medians, draws are listed by seed, the rest are
// means. Columns that say the same of all (one task, one seed, no remark) are left out.
Table table_of(const std::vector<ComparedModel>& models);

// Aligned lines with two spaces between columns, and a rule under the titles.
std::string table_text(const Table& table);

}  // namespace adatape
