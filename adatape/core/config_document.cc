#include <charconv>
#include <system_error>
#include <utility>

#include "adatape/core/check.h"
#include "adatape/core/config_document_impl.h"
#include "adatape/core/config_values.h"
#include "adatape/core/files.h"

namespace adatape {
namespace {

std::vector<std::string> split_path(const std::string& path) {
  std::vector<std::string> parts;
  for (size_t begin = 0;;) {
    const size_t end = path.find('.', begin);
    parts.push_back(path.substr(begin, end == std::string::npos ? end : end - begin));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  return begin == std::string::npos ? "" : text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

// An index of a list, or npos where the text is no number.
size_t parse_index(const std::string& text) {
  size_t index = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  return error == std::errc{} && end == text.data() + text.size() ? index : std::string::npos;
}

bool looks_like_index(const std::string& text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string::npos; }

toml::table parse_toml(const std::string& text, const std::string& name) {
  try {
    return toml::parse(text, name);
  } catch (const toml::parse_error& error) {
    throw Error(concat("config: ", name, ":", error.source().begin.line, ":", error.source().begin.column, ": ", error.description()));
  }
}

// The value of an assignment as a one-key table {value = ...}; toml++ offers no parser for a lone value.
toml::table parse_value(const std::string& text, const std::string& what) {
  try {
    toml::table parsed = toml::parse("value = " + text);
    const toml::node* value = parsed.get("value");
    // More keys: the text held a line break. Dates: no field is one, so 2024-01-01 is a name.
    if (parsed.size() == 1 && value != nullptr && !value->is_date() && !value->is_time() && !value->is_date_time()) return parsed;
  } catch (const toml::parse_error&) {
  }
  try {
    return toml::parse("value = " + toml_text(text));
  } catch (const toml::parse_error&) {
    throw Error(what + ": the value is not UTF-8 text");
  }
}

const toml::node* find(const toml::table& root, const std::string& dotted_path) {
  const toml::node* node = &root;
  for (const std::string& part : split_path(dotted_path)) {
    if (const toml::table* table = node->as_table()) {
      node = table->get(part);
    } else if (const toml::array* array = node->as_array()) {
      const size_t index = parse_index(part);
      node = index < array->size() ? array->get(index) : nullptr;
    } else {
      return nullptr;
    }
    if (node == nullptr) return nullptr;
  }
  return node;
}

// Where an assignment goes: walks the path, making what is missing.
class Assignment {
 public:
  Assignment(std::string what, const std::string& path) : what_(std::move(what)), parts_(split_path(path)) {
    for (const std::string& part : parts_) {
      ADATAPE_CHECK(!part.empty(), what_, "expected key=value with a dotted key, e.g. model.width=192");
    }
  }

  void apply(toml::table& root, const toml::node& value) {
    toml::node* node = &root;
    for (size_t i = 0; i + 1 < parts_.size(); ++i) node = child(*node, i);
    put(*node, parts_.size() - 1, value);
  }

 private:
  // The table or list that parts_[i] names in node.
  toml::node* child(toml::node& node, size_t i) {
    if (toml::table* table = node.as_table()) {
      if (toml::node* found = table->get(parts_[i])) return found;
      // A number after a missing key can only mean the first element of a list.
      if (looks_like_index(parts_[i + 1])) return &table->insert(parts_[i], toml::array{}).first->second;
      return &table->insert(parts_[i], toml::table{}).first->second;
    }
    toml::array& array = list(node, i);
    const size_t at = index(array, i);
    if (at == array.size()) array.push_back(toml::table{});
    return array.get(at);
  }

  void put(toml::node& node, size_t i, const toml::node& value) {
    if (toml::table* table = node.as_table()) {
      table->insert_or_assign(parts_[i], value);
      return;
    }
    toml::array& array = list(node, i);
    const size_t at = index(array, i);
    if (at == array.size()) {
      array.push_back(value);
    } else {
      array.replace(array.cbegin() + static_cast<std::ptrdiff_t>(at), value);
    }
  }

  toml::array& list(toml::node& node, size_t i) {
    ADATAPE_CHECK(node.is_array(), what_, path_until(i), " is ", shown_value(node), ", not a table");
    return *node.as_array();
  }

  size_t index(const toml::array& array, size_t i) const {
    const size_t at = parse_index(parts_[i]);
    ADATAPE_CHECK(at <= array.size(), what_, "the list ", path_until(i), " has ", array.size(),
                  array.size() == 1 ? " element" : " elements", "; expected an index from 0 to ", array.size(), " (", array.size(),
                  " adds one), got ", parts_[i]);
    return at;
  }

  std::string path_until(size_t i) const {
    std::string path;
    for (size_t j = 0; j < i; ++j) path = dotted(path, parts_[j]);
    return path;
  }

  std::string what_;
  std::vector<std::string> parts_;
};

}  // namespace

std::string shown_value(const toml::node& node) {
  if (const auto* text = node.as_string()) {
    // Long texts are cut; a cut inside a multi-byte letter would print rubbish.
    std::string shown = text->get().substr(0, 60);
    if (shown.size() == text->get().size()) return toml_text(shown);
    while (!shown.empty() && (static_cast<unsigned char>(shown.back()) & 0xC0) == 0x80) shown.pop_back();
    if (!shown.empty() && static_cast<unsigned char>(shown.back()) >= 0xC0) shown.pop_back();
    return toml_text(shown + "...");
  }
  if (const auto* integer = node.as_integer()) return std::to_string(integer->get());
  if (const auto* real = node.as_floating_point()) return toml_real(real->get());
  if (const auto* boolean = node.as_boolean()) return boolean->get() ? "true" : "false";
  if (node.is_table()) return "a table";
  if (node.is_array()) return concat("a list of ", node.as_array()->size());
  return "a date or time";
}

ConfigDocument::ConfigDocument() : impl_(std::make_unique<Impl>()) {}
ConfigDocument::~ConfigDocument() = default;
ConfigDocument::ConfigDocument(ConfigDocument&&) noexcept = default;
ConfigDocument& ConfigDocument::operator=(ConfigDocument&&) noexcept = default;
ConfigDocument::ConfigDocument(const ConfigDocument& other) : impl_(std::make_unique<Impl>(*other.impl_)) {}
ConfigDocument& ConfigDocument::operator=(const ConfigDocument& other) {
  impl_ = std::make_unique<Impl>(*other.impl_);
  return *this;
}

ConfigDocument ConfigDocument::from_file(const std::string& path) { return from_text(read_file(path), path); }

ConfigDocument ConfigDocument::from_text(const std::string& text, const std::string& name) {
  ConfigDocument document;
  document.impl_->root = parse_toml(text, name);
  return document;
}

void ConfigDocument::set(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  const std::string path = trimmed(assignment.substr(0, equals));
  const std::string what = "config: --set " + (path.empty() ? toml_text(assignment) : path);
  ADATAPE_CHECK(equals != std::string::npos && !path.empty(), what, "expected key=value, e.g. model.width=192");
  const std::string text = trimmed(assignment.substr(equals + 1));
  ADATAPE_CHECK(!text.empty(), what, "expected a value after =; an empty text is written \"\"");
  const toml::table value = parse_value(text, what);
  toml::table changed = impl_->root;  // a path that fails half way must leave nothing behind
  Assignment(what, path).apply(changed, *value.get("value"));
  impl_->root = std::move(changed);
}

std::string ConfigDocument::text_at(const std::string& dotted_path, const std::string& fallback) const {
  const toml::node* node = find(impl_->root, dotted_path);
  if (node == nullptr) return fallback;
  ADATAPE_CHECK(node->is_string(), "config", dotted_path, ": expected text, got ", shown_value(*node));
  return node->as_string()->get();
}

bool ConfigDocument::has(const std::string& dotted_path) const { return find(impl_->root, dotted_path) != nullptr; }

}  // namespace adatape
