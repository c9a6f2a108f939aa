// Reads a document into structs: the visitor that fills fields and remembers which keys it was asked for.
#include <algorithm>
#include <utility>

#include "adatape/core/check.h"
#include "adatape/core/config_document_impl.h"
#include "adatape/core/config_values.h"

namespace adatape {
namespace {

// What the whole walk learns; unknown keys are reported at its end, when all known ones have been seen.
struct ReadState {
  struct Unknown {
    std::string prefix, name;
  };
  std::vector<std::string> known;  // full dotted keys
  std::vector<Unknown> unknown;
};

class ReadVisitor : public FieldVisitor {
 public:
  // table: null where the document does not have it (fields keep their defaults, their keys are still known).
  ReadVisitor(const toml::table* table, std::string prefix, ReadState& state) : table_(table), prefix_(std::move(prefix)), state_(state) {}

  void integer(const std::string& name, int64_t& value, IntegerRange range, const std::string&) override {
    if (const toml::node* node = find(name)) value = integer_of(*node, name, range);
  }

  void integer_or(const std::string& name, std::optional<int64_t>& value, const std::string& word, IntegerRange range,
                  const std::string&) override {
    const toml::node* node = find(name);
    if (node == nullptr) return;
    const auto* text = node->as_string();
    const auto* number = node->as_integer();
    check(number != nullptr ? contains(range, number->get()) : text != nullptr && text->get() == word, name,
          integer_or_type_name(range, word), *node);
    value = number != nullptr ? std::optional<int64_t>(number->get()) : std::nullopt;
  }

  void real(const std::string& name, double& value, RealRange range, const std::string&) override {
    if (const toml::node* node = find(name)) value = real_of(*node, name, range);
  }

  void boolean(const std::string& name, bool& value, const std::string&) override {
    const toml::node* node = find(name);
    if (node == nullptr) return;
    check(node->is_boolean(), name, "true or false", *node);
    value = node->as_boolean()->get();
  }

  void text(const std::string& name, std::string& value, const std::string&) override {
    const toml::node* node = find(name);
    if (node == nullptr) return;
    check(node->is_string(), name, "text", *node);
    value = node->as_string()->get();
  }

  void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices, const std::string&) override {
    const toml::node* node = find(name);
    if (node == nullptr) return;
    const std::string given = node->is_string() ? node->as_string()->get() : "";
    if (!node->is_string() || std::find(choices.begin(), choices.end(), given) == choices.end()) {
      const std::string near = nearest_word(given, choices);
      throw Error(concat("config: ", dotted(prefix_, name), ": expected ", choice_type_name(choices), "; got ", shown_value(*node),
                         near.empty() ? "" : concat("; did you mean ", near, "?")));
    }
    value = given;
  }

  void integers(const std::string& name, std::vector<int64_t>& value, IntegerRange range, const std::string&) override {
    read_list(
        name, value, [&](const toml::node& node, const std::string& key) { return integer_of(node, key, range); }, type_name(range));
  }

  void reals(const std::string& name, std::vector<double>& value, RealRange range, const std::string&) override {
    read_list(
        name, value, [&](const toml::node& node, const std::string& key) { return real_of(node, key, range); }, type_name(range));
  }

  // Every key of the table that no field asked for.
  void note_unknown() const {
    if (table_ == nullptr) return;
    for (const auto& [key, node] : *table_) {
      const std::string name(key.str());
      if (std::find(names_.begin(), names_.end(), name) == names_.end()) state_.unknown.push_back({prefix_, name});
    }
  }

 protected:
  void table_of(const std::string& name, const std::string&, const VisitTable& visit) override {
    const toml::node* node = find(name);
    check(node == nullptr || node->is_table(), name, "a table", node);
    ReadVisitor nested(node == nullptr ? nullptr : node->as_table(), dotted(prefix_, name), state_);
    visit(nested);
    nested.note_unknown();
  }

  void list_of(const std::string& name, const std::string&, size_t, const Resize& resize, const VisitElement& visit) override {
    const toml::node* node = find(name);
    if (node == nullptr) return;
    check(node->is_array(), name, "a list of tables", *node);
    const toml::array& array = *node->as_array();
    for (size_t i = 0; i < array.size(); ++i) check(array[i].is_table(), dotted(name, std::to_string(i)), "a table", array[i]);
    resize(array.size());
    for (size_t i = 0; i < array.size(); ++i) {
      ReadVisitor element(array[i].as_table(), dotted(dotted(prefix_, name), std::to_string(i)), state_);
      visit(i, element);
      element.note_unknown();
    }
  }

 private:
  const toml::node* find(const std::string& name) {
    names_.push_back(name);
    state_.known.push_back(dotted(prefix_, name));
    return table_ == nullptr ? nullptr : table_->get(name);
  }

  void check(bool condition, const std::string& name, const std::string& expected, const toml::node* node) const {
    ADATAPE_CHECK(condition, "config", dotted(prefix_, name), ": expected ", expected, ", got ", shown_value(*node));
  }
  void check(bool condition, const std::string& name, const std::string& expected, const toml::node& node) const {
    check(condition, name, expected, &node);
  }

  int64_t integer_of(const toml::node& node, const std::string& name, const IntegerRange& range) const {
    const auto* number = node.as_integer();
    check(number != nullptr && contains(range, number->get()), name, type_name(range), node);
    return number->get();
  }

  double real_of(const toml::node& node, const std::string& name, const RealRange& range) const {
    check(node.is_number(), name, type_name(range), node);
    const double number = node.is_integer() ? static_cast<double>(node.as_integer()->get()) : node.as_floating_point()->get();
    check(contains(range, number), name, type_name(range), node);
    return number;
  }

  template <class Value, class Read>
  void read_list(const std::string& name, std::vector<Value>& value, const Read& read, const std::string& type) {
    const toml::node* node = find(name);
    if (node == nullptr) return;
    check(node->is_array(), name, "a list of " + type, *node);
    std::vector<Value> values;
    for (size_t i = 0; i < node->as_array()->size(); ++i) values.push_back(read((*node->as_array())[i], dotted(name, std::to_string(i))));
    value = std::move(values);
  }

  const toml::table* table_;
  std::string prefix_;
  ReadState& state_;
  std::vector<std::string> names_;
};

std::string last_part(const std::string& key) { return key.substr(key.rfind('.') + 1); }

// The known key that was most likely meant: a slip in the same table, else the same name in another table, else a slip in the whole key.
std::string nearest_key(const ReadState::Unknown& unknown, const std::vector<std::string>& known) {
  const std::string prefix = unknown.prefix.empty() ? "" : unknown.prefix + ".";
  std::vector<std::string> siblings;
  for (const std::string& key : known) {
    if (key.size() > prefix.size() && key.compare(0, prefix.size(), prefix) == 0 && key.find('.', prefix.size()) == std::string::npos) {
      siblings.push_back(key.substr(prefix.size()));
    }
  }
  if (const std::string near = nearest_word(unknown.name, siblings); !near.empty()) return prefix + near;
  for (const std::string& key : known) {
    if (last_part(key) == unknown.name) return key;
  }
  return nearest_word(dotted(unknown.prefix, unknown.name), known);
}

}  // namespace

void ConfigDocument::read_root(const std::function<void(FieldVisitor&)>& visit) const {
  ReadState state;
  ReadVisitor root(&impl_->root, "", state);
  visit(root);
  root.note_unknown();
  if (state.unknown.empty()) return;
  const ReadState::Unknown& first = state.unknown.front();
  const std::string near = nearest_key(first, state.known);
  throw Error(concat("config: unknown key ", dotted(first.prefix, first.name), near.empty() ? "" : concat("; did you mean ", near, "?"),
                     near.empty() ? "; see 'adatape list options'" : " (see 'adatape list options')"));
}

}  // namespace adatape
