// adatape list models|tasks|options: what there is to choose from.
#include <algorithm>
#include <iostream>

#include "adatape/cli/command.h"
#include "adatape/core/check.h"
#include "adatape/models/presets.h"
#include "adatape/models/registry.h"
#include "adatape/models/text_config.h"
#include "adatape/models/text_sizes.h"
#include "adatape/train/run_config.h"

namespace adatape::cli {
namespace {

constexpr const char* kListMore =
    "Examples:\n"
    "  adatape list models\n"
    "  adatape list models vit_small_patch16_224    the keys that this name stands for\n"
    "  adatape list models gpt2           the same for a size of a text model\n"
    "  adatape list options adatape       keys of [model] with name = \"adatape\"\n"
    "  adatape list options parity        keys of [task] with name = \"parity\"\n"
    "  adatape list options training      keys of [training]; also: evaluation, run (keys of no table)\n"
    "  adatape list options               all of them";

struct ListArguments {
  std::string what, name;
};

using Rows = std::vector<std::vector<std::string>>;

// Left-aligned columns; a cell wider than kWidest pushes its row only.
void print_table(const Rows& rows) {
  constexpr size_t kWidest = 48;
  std::vector<size_t> widths(rows.front().size(), 0);
  for (const auto& row : rows) {
    for (size_t column = 0; column < row.size(); ++column) {
      if (row[column].size() <= kWidest) widths[column] = std::max(widths[column], row[column].size());
    }
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t column = 0; column + 1 < row.size(); ++column) {
      line += row[column] + std::string(row[column].size() < widths[column] ? widths[column] - row[column].size() : 0, ' ') + "  ";
    }
    std::cout << line << row.back() << "\n";
  }
}

template <class Entry>
void print_registry(const std::vector<Entry>& registry) {
  Rows rows;
  for (const Entry& entry : registry) {
    rows.push_back({entry.name, entry.summary});
    if constexpr (requires { entry.sizes; }) {
      if (!entry.sizes.empty()) rows.push_back({"", "size: " + entry.sizes});
    }
  }
  print_table(rows);
}

void print_models() {
  print_registry(model_registry());
  std::cout << "\nPublished sizes, each a model.name of its own; keys beside it override its own:\n";
  Rows rows;
  for (const PresetFamily& family : preset_families()) rows.push_back({family.names, family.summary});
  print_table(rows);
}

// What a preset's name stands for, as TOML.
void print_preset(const ModelPreset& preset) {
  ConfigDocument document = ConfigDocument::from_text("[model]\nname = \"" + preset.name + "\"\n");
  expand_preset(document);
  const auto config = find_model(preset.model).make_config();
  struct Root {
    ModelConfig& model;
    void fields(FieldVisitor& visit) { visit.table("model", model, "what learns"); }
  } root{*config};
  document.read(root);
  std::cout << "# " << preset.name << ": " << preset.size << "\n" << to_toml(root);
}

// The same for a size of a text model; false: no such size.
bool print_text_size(const std::string& name) {
  for (const TextSize& size : text_sizes()) {
    if (size.name != name) continue;
    TextConfig config = size.family == "gpt" ? gpt_defaults() : size.family == "palm" ? palm_defaults() : t5_defaults();
    struct Root {
      ModelConfig& model;
      void fields(FieldVisitor& visit) { visit.table("model", model, "what learns"); }
    } root{config};
    ConfigDocument::from_text(concat("[model]\nname = \"", size.family, "\"\nsize = \"", name, "\"\n")).read(root);
    std::cout << "# " << name << ": " << size.parameters << " parameters, model.size of model.name = \"" << size.family << "\"\n"
              << to_toml(root);
    return true;
  }
  return false;
}

void print_model(const std::string& name) {
  if (print_text_size(name)) return;
  for (const ModelEntry& entry : model_registry()) {
    ADATAPE_CHECK(entry.name != name, "list models", "expected the name of a published size, got that of a model; `adatape list options ",
                  name, "` shows its keys");
  }
  print_preset(require_preset(name));
}

// The fields of RunConfig that belong to no table.
struct RunFields {
  RunConfig config;
  void fields(FieldVisitor& visit) {
    config.task = task_registry().front().make_config();
    config.model = model_registry().front().make_config();
    config.fields(visit);
  }
};

// One group of options: a heading and its keys with the table's name before them.
struct Group {
  std::string name;  // as `list options NAME` takes it
  std::string heading;
  std::vector<OptionInfo> options;
};

template <class Struct>
std::vector<OptionInfo> options_of(const std::string& table, Struct& value) {
  return list_options([&](FieldVisitor& visit) { visit.table(table, value, ""); });
}

std::vector<Group> all_groups() {
  std::vector<Group> groups;
  RunFields run;
  std::vector<OptionInfo> top = list_options([&](FieldVisitor& visit) { run.fields(visit); });
  std::erase_if(top, [](const OptionInfo& option) { return option.key.find('.') != std::string::npos; });
  groups.push_back({"run", "the run", std::move(top)});
  for (const TaskEntry& entry : task_registry()) {
    const auto config = entry.make_config();
    config->name = entry.name;
    groups.push_back({entry.name, concat("[task] with name = \"", entry.name, "\""), options_of("task", *config)});
  }
  for (const ModelEntry& entry : model_registry()) {
    const auto config = entry.make_config();
    config->name = entry.name;
    groups.push_back({entry.name, concat("[model] with name = \"", entry.name, "\""), options_of("model", *config)});
  }
  TrainingConfig training;
  groups.push_back({"training", "[training]", options_of("training", training)});
  EvaluationConfig evaluation;
  groups.push_back({"evaluation", "[evaluation]", options_of("evaluation", evaluation)});
  return groups;
}

void print_options(const std::string& name) {
  const std::vector<Group> groups = all_groups();
  std::vector<std::string> names;
  bool printed = false;
  for (const Group& group : groups) {
    names.push_back(group.name);
    if (!name.empty() && group.name != name) continue;
    std::cout << (printed ? "\n" : "") << group.heading << "\n";
    printed = true;
    Rows rows = {{"key", "type", "default", "help"}};
    for (const OptionInfo& option : group.options) rows.push_back({option.key, option.type, option.default_value, option.help});
    print_table(rows);
  }
  if (printed) return;
  std::string family;
  if (const ModelPreset* preset = find_preset(name)) family = preset->model;
  for (const TextSize& size : text_sizes()) {
    if (size.name == name) family = size.family;
  }
  ADATAPE_CHECK(family.empty(), "list options", "expected the name of a model, got ", name, ", a size of ", family,
                "; see `adatape list options ", family, "`, and `adatape list models ", name, "` for what it sets");
  const std::string nearest = nearest_word(name, names);
  throw Error(concat("list options: expected the name of a model or task, or training, evaluation or run, got \"", name, "\"",
                     nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?"));
}

int list(const ListArguments& arguments) {
  ADATAPE_CHECK(arguments.what != "tasks" || arguments.name.empty(), "list", "expected no name after tasks, got ", arguments.name);
  if (arguments.what == "models") arguments.name.empty() ? print_models() : print_model(arguments.name);
  if (arguments.what == "tasks") print_registry(task_registry());
  if (arguments.what == "options") print_options(arguments.name);
  return 0;
}

}  // namespace

std::function<int()> declare_list(CLI::App& app) {
  auto arguments = std::make_shared<ListArguments>();
  app.footer(kListMore);
  app.add_option("WHAT", arguments->what, "models, tasks or options")
      ->required()
      ->check(CLI::IsMember({"models", "tasks", "options"}))
      ->type_name("");
  app.add_option("NAME", arguments->name, "for models: a published size; for options: a model, a task, training, evaluation or run [all]");
  return [arguments] { return list(*arguments); };
}

}  // namespace adatape::cli
