#include "adatape/train/config_difference.h"

#include <utility>
#include <vector>

namespace adatape {
namespace {

struct Field {
  std::string key, value;
};

// Lists every field with its value as TOML.
class FlatVisitor : public FieldVisitor {
 public:
  FlatVisitor(std::string prefix, std::vector<Field>& fields) : prefix_(std::move(prefix)), fields_(fields) {}

  void integer(const std::string& name, int64_t& value, IntegerRange range, const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.integer(name, value, range, help); });
  }
  void integer_or(const std::string& name, std::optional<int64_t>& value, const std::string& word, IntegerRange range,
                  const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.integer_or(name, value, word, range, help); });
  }
  void real(const std::string& name, double& value, RealRange range, const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.real(name, value, range, help); });
  }
  void boolean(const std::string& name, bool& value, const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.boolean(name, value, help); });
  }
  void text(const std::string& name, std::string& value, const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.text(name, value, help); });
  }
  void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices, const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.choice(name, value, choices, help); });
  }
  void integers(const std::string& name, std::vector<int64_t>& value, IntegerRange range, const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.integers(name, value, range, help); });
  }
  void reals(const std::string& name, std::vector<double>& value, RealRange range, const std::string& help) override {
    add(name, [&](FieldVisitor& visit) { visit.reals(name, value, range, help); });
  }

 protected:
  void table_of(const std::string& name, const std::string&, const VisitTable& visit) override {
    FlatVisitor nested(prefix_ + name + ".", fields_);
    visit(nested);
  }
  void list_of(const std::string& name, const std::string&, size_t size, const Resize&, const VisitElement& visit) override {
    for (size_t i = 0; i < size; ++i) {
      FlatVisitor nested(prefix_ + name + "." + std::to_string(i) + ".", fields_);
      visit(i, nested);
    }
  }

 private:
  // The text of the one field, "name = value\n", without its name: TOML is written in one place only.
  void add(const std::string& name, const std::function<void(FieldVisitor&)>& visit) {
    const std::string line = to_toml(visit);
    const size_t begin = line.find("= ", line.find(name) + name.size()) + 2;
    fields_.push_back({prefix_ + name, line.substr(begin, line.size() - begin - 1)});
  }

  std::string prefix_;
  std::vector<Field>& fields_;
};

std::vector<Field> flatten(RunConfig& config) {
  std::vector<Field> fields;
  FlatVisitor visit("", fields);
  config.fields(visit);
  return fields;
}

const std::string* find(const std::vector<Field>& fields, const std::string& key) {
  for (const Field& field : fields) {
    if (field.key == key) return &field.value;
  }
  return nullptr;
}

}  // namespace

std::optional<ConfigDifference> first_difference(RunConfig& before, RunConfig& after) {
  const std::vector<Field> old_fields = flatten(before), new_fields = flatten(after);
  const std::string absent = "(absent)";
  for (const Field& field : new_fields) {
    const std::string* old_value = find(old_fields, field.key);
    if (old_value == nullptr || *old_value != field.value) {
      return ConfigDifference{field.key, old_value == nullptr ? absent : *old_value, field.value};
    }
  }
  for (const Field& field : old_fields) {
    if (find(new_fields, field.key) == nullptr) return ConfigDifference{field.key, field.value, absent};
  }
  return std::nullopt;
}

}  // namespace adatape
