#include "adatape/data/text_files.h"

#include <algorithm>
#include <filesystem>

#include "adatape/core/check.h"
#include "adatape/core/files.h"

namespace adatape {

std::vector<std::string> read_text_files(const std::string& path, const std::string& hint, const TextSearch& search) {
  namespace fs = std::filesystem;
  const std::string rest = hint.empty() ? "" : "; " + hint;
  ADATAPE_CHECK(fs::exists(path), path, "expected a text file or a folder of them, found nothing there", rest);
  std::vector<std::string> names, texts;
  if (fs::is_directory(path)) {
    for (auto entries = fs::recursive_directory_iterator(path); entries != fs::recursive_directory_iterator(); ++entries) {
      const fs::directory_entry& entry = *entries;
      if (entry.is_directory() && (!search.below || entry.path().filename() == search.skip)) entries.disable_recursion_pending();
      if (!entry.is_symlink() && entry.is_regular_file()) names.push_back(entry.path().string());
    }
    std::sort(names.begin(), names.end());
  } else {
    names.push_back(path);
  }
  for (const std::string& name : names) {
    std::string text = read_file(name);
    if (text.substr(0, 4096).find('\0') == std::string::npos && !text.empty()) texts.push_back(std::move(text));
  }
  ADATAPE_CHECK(!texts.empty(), path, "expected text, found ", names.size(), " files without any", rest);
  return texts;
}

}  // namespace adatape
