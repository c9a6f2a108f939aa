// Configuration: each struct lists its fields once (name, default, range, help); TOML in and out, `--set`, `list options` and
// error texts are all derived from that list.
//
//   struct Reader {
//     int64_t rows_per_step = 5;
//     void fields(FieldVisitor& visit) { visit.integer("rows_per_step", rows_per_step, {.minimum = 1}, "bank rows merged at each step"); }
//   };
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace adatape {

struct IntegerRange {
  int64_t minimum = std::numeric_limits<int64_t>::min();
  int64_t maximum = std::numeric_limits<int64_t>::max();
};

struct RealRange {
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool exclusive_minimum = false;  // the value must be > minimum, not only >=
};

// Walks the fields of a configuration struct. A field keeps its default when the source does not name it.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  virtual void integer(const std::string& name, int64_t& value, IntegerRange range, const std::string& help) = 0;
  // An integer, or one given word in its place (nullopt), e.g. max_tape_tokens = 10 | "bank".
  virtual void integer_or(const std::string& name, std::optional<int64_t>& value, const std::string& word, IntegerRange range,
                          const std::string& help) = 0;
  virtual void real(const std::string& name, double& value, RealRange range, const std::string& help) = 0;
  virtual void boolean(const std::string& name, bool& value, const std::string& help) = 0;
  virtual void text(const std::string& name, std::string& value, const std::string& help) = 0;
  virtual void choice(const std::string& name, std::string& value, const std::vector<std::string>& choices, const std::string& help) = 0;
  virtual void integers(const std::string& name, std::vector<int64_t>& value, IntegerRange range, const std::string& help) = 0;
  virtual void reals(const std::string& name, std::vector<double>& value, RealRange range, const std::string& help) = 0;

  // A nested table: any struct with fields(FieldVisitor&).
  template <class Struct>
  void table(const std::string& name, Struct& value, const std::string& help) {
    table_of(name, help, [&](FieldVisitor& visit) { value.fields(visit); });
  }
  // A list of tables, [[name]] in TOML. A list that the source names replaces the default list; each element starts from Struct{}.
  template <class Struct>
  void list(const std::string& name, std::vector<Struct>& value, const std::string& help) {
    list_of(
        name, help, value.size(), [&](size_t size) { value.assign(size, Struct{}); },
        [&](size_t index, FieldVisitor& visit) { value[index].fields(visit); });
  }

 protected:
  using VisitTable = std::function<void(FieldVisitor&)>;
  using Resize = std::function<void(size_t)>;
  using VisitElement = std::function<void(size_t, FieldVisitor&)>;
  virtual void table_of(const std::string& name, const std::string& help, const VisitTable& visit) = 0;
  // An implementation that describes rather than reads may call resize(1) on an empty list to show an element's fields, then resize(0).
  virtual void list_of(const std::string& name, const std::string& help, size_t size, const Resize& resize, const VisitElement& visit) = 0;
};

// A parsed TOML document that `--set` may change before structs are read from it.
class ConfigDocument {
 public:
  ConfigDocument();
  ~ConfigDocument();
  ConfigDocument(ConfigDocument&&) noexcept;
  ConfigDocument& operator=(ConfigDocument&&) noexcept;
  ConfigDocument(const ConfigDocument&);
  ConfigDocument& operator=(const ConfigDocument&);

  // Throws Error with file, line and column when the text is not TOML or the file cannot be read.
  static ConfigDocument from_file(const std::string& path);
  static ConfigDocument from_text(const std::string& text, const std::string& name = "config");

  // Applies "model.readers.0.threshold=3". The value is read as TOML, and as plain text where it is not TOML ("input=tokens").
  // Missing tables are made; a list index must exist or be the next one.
  void set(const std::string& assignment);

  // The text at a dotted path, or fallback when absent; Error when it is not text. For the `name` that picks a schema.
  std::string text_at(const std::string& dotted_path, const std::string& fallback) const;
  bool has(const std::string& dotted_path) const;

  // Reads the root table into the struct. Unknown keys, wrong types and values out of range throw Error: the full dotted key, what was
  // expected, what came, and for an unknown key the nearest known one.
  template <class Struct>
  void read(Struct& value) const {
    read_root([&](FieldVisitor& visit) { value.fields(visit); });
  }

 private:
  void read_root(const std::function<void(FieldVisitor&)>& visit) const;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The complete TOML text of a struct, every field written, in declaration order; reads back to the same values (reals round-trip).
std::string to_toml(const std::function<void(FieldVisitor&)>& visit);
template <class Struct>
std::string to_toml(Struct& value) {
  return to_toml(std::function<void(FieldVisitor&)>([&](FieldVisitor& visit) { value.fields(visit); }));
}

struct OptionInfo {
  std::string key;            // dotted; list elements as readers.N.key
  std::string type;           // "integer >= 1", "real in (0, 1]", "one of: a, b", "true|false", "text", "integer >= 1 | \"bank\"", ...
  std::string default_value;  // as TOML
  std::string help;
};
// Every field of a struct, as `adatape list options` prints it.
std::vector<OptionInfo> list_options(const std::function<void(FieldVisitor&)>& visit);

// The candidate with the smallest edit distance to word, or "" when none is near.
std::string nearest_word(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace adatape
