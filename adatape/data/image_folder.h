// Pictures in folders named for their classes: ROOT/train/CLASS/*.jpg, ROOT/validation (or val), ROOT/test.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace adatape {

struct PictureFile {
  std::string path;
  int32_t label = 0;  // index into the classes
};

// The folder of a split below root: "train", "validation" (or "val") or "test"; nullopt where there is none.
std::optional<std::string> split_folder(const std::string& root, const std::string& split);

// The class folders of a split's folder, sorted by the bytes of their names. Hidden folders (.name) are passed over, links followed. Error:
// not readable, no or one class, a name that is not UTF-8.
std::vector<std::string> find_classes(const std::string& folder);

// All pictures (.jpg, .jpeg, .png in any case) of a split's folder, folders within class folders included, by class and then by path.
// Error: a folder that is no known class, a class without pictures or without a folder, links that loop.
std::vector<PictureFile> find_pictures(const std::string& folder, const std::vector<std::string>& classes);

}  // namespace adatape
