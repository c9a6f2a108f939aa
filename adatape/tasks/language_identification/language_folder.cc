#include "adatape/tasks/language_identification/language_folder.h"

#include <algorithm>
#include <filesystem>

#include "adatape/core/check.h"
#include "adatape/core/utf8.h"

namespace adatape {

std::vector<LanguageText> find_languages(const std::string& path, const std::string& loose_files, const std::string& skip,
                                         const std::string& hint) {
  namespace fs = std::filesystem;
  ADATAPE_CHECK(fs::is_directory(path), path, "expected a folder with a sub-folder or a file for each language, found ",
                fs::exists(path) ? "a file" : "nothing there", "; ", hint);
  std::vector<LanguageText> languages;
  bool loose = false;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_symlink() || name.front() == '.') continue;
    if (entry.is_directory()) {
      if (name != skip) languages.push_back({name, entry.path().string()});
    } else if (entry.is_regular_file()) {
      loose = true;
      if (loose_files == "each") languages.push_back({entry.path().stem().string(), entry.path().string()});
    }
  }
  if (loose && loose_files != "each") languages.push_back({loose_files, path, true});
  for (const LanguageText& language : languages) {  // config.toml names them, and TOML is UTF-8
    ADATAPE_CHECK(is_utf8(language.name), path, "expected languages with names in UTF-8, got \"", printable(language.name),
                  "\"; rename it");
  }
  std::sort(languages.begin(), languages.end(), [](const LanguageText& a, const LanguageText& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(languages.begin(), languages.end(), [](const LanguageText& a, const LanguageText& b) { return a.name == b.name; });
  ADATAPE_CHECK(twice == languages.end(), path, "expected different names of languages, got \"", twice->name, "\" twice; rename one");
  return languages;
}

}  // namespace adatape
