// The tasks by name, one line each: an explicit list, since linkers drop static initialisers.
#include "adatape/core/check.h"
#include "adatape/tasks/image_classification/image_classification_task.h"
#include "adatape/tasks/parity/parity_task.h"
#include "adatape/tasks/task.h"

namespace adatape {

const std::vector<TaskEntry>& task_registry() {
  static const std::vector<TaskEntry> registry = {
      {"parity", "is the number of 1s in a sequence over {-1, 0, 1} odd", make_parity_config, make_parity_task},
      {"image_classification", "which class does an image show (IDX files, such as Fashion-MNIST, or folders of pictures)",
       make_image_classification_config, make_image_classification_task},
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
