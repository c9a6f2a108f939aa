// The tasks by name, one line each: an explicit list, since linkers drop static initialisers.
#include "adatape/core/check.h"
#include "adatape/tasks/addition/addition_task.h"
#include "adatape/tasks/algorithmic/algorithmic_task.h"
#include "adatape/tasks/cluttered_scenes/cluttered_scenes_task.h"
#include "adatape/tasks/graphs/graphs_task.h"
#include "adatape/tasks/image_classification/image_classification_task.h"
#include "adatape/tasks/language_identification/language_identification_task.h"
#include "adatape/tasks/language_modelling/language_modelling_task.h"
#include "adatape/tasks/logic/logic_task.h"
#include "adatape/tasks/nested_arithmetic/nested_arithmetic_task.h"
#include "adatape/tasks/parity/parity_task.h"
#include "adatape/tasks/sort/sort_task.h"
#include "adatape/tasks/task.h"

namespace adatape {

at::Tensor Task::element_covariate(const Batch&) const { return {}; }
std::vector<int64_t> TaskConfig::read_text(const std::string&) const { throw Error(concat("task ", name, ": has no text form")); }
std::string TaskConfig::write_text(const std::vector<int64_t>&) const { throw Error(concat("task ", name, ": has no text form")); }

const std::vector<TaskEntry>& task_registry() {
  static const std::vector<TaskEntry> registry = {
      {"parity", "is the number of 1s in a sequence over {-1, 0, 1} odd", make_parity_config, make_parity_task},
      {"image_classification", "which class does an image show (IDX files, such as Fashion-MNIST, or folders of pictures)",
       make_image_classification_config, make_image_classification_task},
      {"logic", "what comes out of chains of binary gates", make_logic_config, make_logic_task},
      {"addition", "what is the sum so far of decimal numbers, digit by digit", make_addition_config, make_addition_task},
      {"sort", "in which order did real numbers come, from the smallest to the largest", make_sort_config, make_sort_task},
      {"nested_arithmetic", "which digit is an expression of min, max, median and sum modulo 10", make_nested_arithmetic_config,
       make_nested_arithmetic_task},
      {"cluttered_scenes", "which garment lies somewhere among pieces of others (scenes made on the fly from IDX files)",
       make_cluttered_scenes_config, make_cluttered_scenes_task},
      {"algorithmic", "copy, reverse or add decimal numbers (arXiv 1807.03819)", make_algorithmic_config, make_algorithmic_task},
      {"language_modelling", "which byte of a text comes next (any text files, such as Debian's fortunes)", make_language_modelling_config,
       make_language_modelling_task},
      {"language_identification", "in which language is a window of text written (any folder of texts, such as Debian's fortunes)",
       make_language_identification_config, make_language_identification_task},
      {"graphs", "are two nodes of a random graph connected, or is its number of triangles odd", make_graphs_config, make_graphs_task},
  };
  return registry;
}

const TaskEntry& find_task(const std::string& name) {
  std::vector<std::string> names;
  std::string known;
  for (const TaskEntry& entry : task_registry()) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
    known += (known.empty() ? "" : ", ") + entry.name;
  }
  const std::string nearest = nearest_word(name, names);
  throw Error(concat("task: expected one of ", known, ", got \"", name, '"', nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?"));
}

}  // namespace adatape
