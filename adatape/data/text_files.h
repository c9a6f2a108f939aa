// The bytes of a text file, or of all text files of a folder.
#pragma once

#include <string>
#include <vector>

namespace adatape {

struct TextSearch {
  bool below = true;  // of a folder also what lies in its sub-folders
  std::string skip;   // sub-folders of this name are passed over, at any depth; empty: none
};

// A file as it is; of a folder all regular files below it (links are not followed, so that nothing counts twice) in the order of their
// paths, without those that hold a NUL byte within their first 4096 (indices, pictures). Throws Error where nothing is found, with hint
// behind it.
std::vector<std::string> read_text_files(const std::string& path, const std::string& hint, const TextSearch& search = {});

}  // namespace adatape
