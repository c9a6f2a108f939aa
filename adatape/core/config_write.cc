// Structs as text: TOML that reads back to the same values, and the rows of `adatape list options`.
#include <utility>

#include "adatape/core/config.h"
#include "adatape/core/config_values.h"

namespace adatape {
namespace {

// A visitor to which every field is a key, a type, a value as TOML and a help text.
class DescribingVisitor : public FieldVisitor {
 public:
  void integer(const std::string& name, int64_t& value, IntegerRange range, const std::string& help) override {
    field(name, type_name(range), std::to_string(value), help);
  }
  void integer_or(const std::string& name, std::optional<int64_t>& value, const std::string& word, IntegerRange range,
                  const std::string& help) override {
    field(name, integer_or_type_name(range, word), value ? std::to_string(*value) : toml_text(word), help);
  }
  void real(const std::string& name, double& value, RealRange range, const std::string& help) override {
    field(name, type_name(range), toml_real(value), help);
  }
  void boolean(const std::string& name, bool& value, const std::string& help) override {
    field(name, "true|false", value ? "true" : "false", help);
  }
  void text(const std::string& name, std::string& value, const std::string& help) override { field(name, "text", toml_text(value), help); }
  void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices, const std::string& help) override {
    field(name, choice_type_name(choices), toml_text(value), help);
  }
  void integers(const std::string& name, std::vector<int64_t>& value, IntegerRange range, const std::string& help) override {
    field(name, "list of " + type_name(range), toml_list(value), help);
  }
  void reals(const std::string& name, std::vector<double>& value, RealRange range, const std::string& help) override {
    field(name, "list of " + type_name(range), toml_list(value), help);
  }

 protected:
  virtual void field(const std::string& name, const std::string& type, const std::string& value, const std::string& help) = 0;
};

class TomlVisitor : public DescribingVisitor {
 public:
  explicit TomlVisitor(std::string prefix) : prefix_(std::move(prefix)) {}
  std::string text_of_table() const { return lines_ + tables_; }
  bool has_lines() const { return !lines_.empty(); }

 protected:
  void field(const std::string& name, const std::string&, const std::string& value, const std::string&) override {
    lines_ += toml_key(name) + " = " + value + "\n";
  }
  void table_of(const std::string& name, const std::string&, const VisitTable& visit) override { append("[", name, "]", visit); }
  void list_of(const std::string& name, const std::string&, size_t size, const Resize&, const VisitElement& visit) override {
    // [[name]] cannot say "none", so an empty list is a key of its parent.
    if (size == 0) lines_ += toml_key(name) + " = []\n";
    for (size_t i = 0; i < size; ++i) append("[[", name, "]]", [&](FieldVisitor& visitor) { visit(i, visitor); });
  }

 private:
  void append(const char* open, const std::string& name, const char* close, const VisitTable& visit) {
    TomlVisitor nested(dotted(prefix_, toml_key(name)));
    visit(nested);
    tables_ += "\n" + (open + nested.prefix_) + close + "\n" + nested.text_of_table();
  }

  std::string prefix_;
  std::string lines_, tables_;  // in TOML a table's own keys must come before its sub-tables
};

class OptionsVisitor : public DescribingVisitor {
 public:
  OptionsVisitor(std::string prefix, std::vector<OptionInfo>& options) : prefix_(std::move(prefix)), options_(options) {}

 protected:
  void field(const std::string& name, const std::string& type, const std::string& value, const std::string& help) override {
    options_.push_back({dotted(prefix_, name), type, value, help});
  }
  void table_of(const std::string& name, const std::string&, const VisitTable& visit) override {
    OptionsVisitor nested(dotted(prefix_, name), options_);
    visit(nested);
  }
  void list_of(const std::string& name, const std::string& help, size_t size, const Resize& resize, const VisitElement& visit) override {
    field(name, "list of tables", size == 0 ? "[]" : std::to_string(size) + (size == 1 ? " element" : " elements"), help);
    if (size == 0) resize(1);
    OptionsVisitor element(dotted(dotted(prefix_, name), "N"), options_);
    visit(0, element);
    if (size == 0) resize(0);
  }

 private:
  std::string prefix_;
  std::vector<OptionInfo>& options_;
};

}  // namespace

std::string to_toml(const std::function<void(FieldVisitor&)>& visit) {
  TomlVisitor root("");
  visit(root);
  const std::string text = root.text_of_table();
  return root.has_lines() || text.empty() ? text : text.substr(1);  // no blank line at the top
}

std::vector<OptionInfo> list_options(const std::function<void(FieldVisitor&)>& visit) {
  std::vector<OptionInfo> options;
  OptionsVisitor root("", options);
  visit(root);
  return options;
}

}  // namespace adatape
