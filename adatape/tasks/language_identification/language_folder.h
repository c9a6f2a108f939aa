// A folder of texts by language: a sub-folder or a file each.
#pragma once

#include <string>
#include <vector>

namespace adatape {

struct LanguageText {
  std::string name;          // the sub-folder's, or the file's without its extension
  std::string path;          // what it is made of: a sub-folder with all below it, a file, or the folder itself for its loose files
  bool loose_files = false;  // path is the folder itself, of which only the files directly in it count
};

// The languages of a folder by name. loose_files: "each" file beside the sub-folders is a language, or they are together the one of that
// name. Links and folders called `skip` are passed over, files of names that begin with a dot too. Throws Error where there is no such
// folder, with hint behind it, and where a name comes twice or is not UTF-8.
std::vector<LanguageText> find_languages(const std::string& path, const std::string& loose_files, const std::string& skip,
                                         const std::string& hint);

}  // namespace adatape
