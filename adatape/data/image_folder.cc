#include "adatape/data/image_folder.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>
#include <sstream>
#include <utility>

#include "adatape/core/check.h"
#include "adatape/core/utf8.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;

constexpr const char* kComponent = "image folder";

bool is_picture(const fs::path& path) {
  std::string extension = path.extension().string();
  for (char& letter : extension) letter = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

// Entries of a folder by name, without hidden ones.
std::vector<fs::directory_entry> entries_of(const fs::path& folder) {
  std::vector<fs::directory_entry> entries;
  std::error_code code;
  for (fs::directory_iterator each(folder, code), end; !code && each != end; each.increment(code)) {
    if (!each->path().filename().string().starts_with(".")) entries.push_back(*each);
  }
  ADATAPE_CHECK(!code, kComponent, "expected a readable folder ", printable(folder.string()), ", got \"", code.message(), '"');
  std::sort(entries.begin(), entries.end());
  return entries;
}

using Identity = std::pair<dev_t, ino_t>;

// above: the folders that lead to this one. A link to one of them would go on for ever.
void collect(const fs::path& folder, int32_t label, std::set<Identity>& above, std::vector<PictureFile>& files) {
  struct stat status;
  ADATAPE_CHECK(::stat(folder.c_str(), &status) == 0, kComponent, "expected a readable folder ", printable(folder.string()));
  const auto [place, fresh] = above.insert({status.st_dev, status.st_ino});
  ADATAPE_CHECK(fresh, kComponent, "expected folders that end, got a link that leads back: ", printable(folder.string()));
  for (const fs::directory_entry& entry : entries_of(folder)) {
    std::error_code ignored;
    if (entry.is_directory(ignored)) {
      collect(entry.path(), label, above, files);
    } else if (is_picture(entry.path())) {
      files.push_back({entry.path().string(), label});
    }
  }
  above.erase(place);
}

}  // namespace

std::optional<std::string> split_folder(const std::string& root, const std::string& split) {
  std::vector<std::string> names = {split};
  if (split == "validation") names.emplace_back("val");
  for (const std::string& name : names) {
    const fs::path path = fs::path(root) / name;
    std::error_code ignored;
    if (fs::is_directory(path, ignored)) return path.string();
  }
  return std::nullopt;
}

std::vector<std::string> find_classes(const std::string& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : entries_of(folder)) {
    std::error_code ignored;
    if (!entry.is_directory(ignored)) continue;
    names.push_back(entry.path().filename().string());
    ADATAPE_CHECK(is_utf8(names.back()), kComponent, folder, ": expected class folders with names in UTF-8, got \"",
                  printable(names.back()), "\"; rename it");
  }
  ADATAPE_CHECK(names.size() >= 2, kComponent, folder, ": expected a folder for each of at least 2 classes, got ",
                names.empty() ? "none" : concat("only \"", names.front(), '"'));
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<PictureFile> find_pictures(const std::string& folder, const std::vector<std::string>& classes) {
  for (const fs::directory_entry& entry : entries_of(folder)) {
    std::error_code ignored;
    const std::string name = entry.path().filename().string();
    ADATAPE_CHECK(!entry.is_directory(ignored) || std::find(classes.begin(), classes.end(), name) != classes.end(), kComponent, folder,
                  ": expected folders named for the ", classes.size(), " classes, got \"", printable(name), '"');
  }
  std::vector<PictureFile> files;
  for (size_t label = 0; label < classes.size(); ++label) {
    const fs::path path = fs::path(folder) / classes[label];
    std::error_code ignored;
    ADATAPE_CHECK(fs::is_directory(path, ignored), kComponent, folder, ": expected pictures of every class, found no folder \"",
                  classes[label], '"');
    const size_t before = files.size();
    std::set<Identity> above;
    collect(path, static_cast<int32_t>(label), above, files);
    ADATAPE_CHECK(files.size() > before, kComponent, path.string(), ": expected pictures (.jpg, .jpeg or .png), found none");
  }
  return files;
}

}  // namespace adatape
