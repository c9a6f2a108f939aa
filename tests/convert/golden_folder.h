// Golden cases of the repository, and a copy that a test may spoil.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <string>

#include "adatape/core/safetensors.h"
#include "tests/temporary_folder.h"

namespace adatape::testing {

inline std::string golden(const std::string& name) { return std::string(ADATAPE_SOURCE_DIR "/tests/golden/") + name; }

// A copy of a case (or an empty folder), removed at the end.
class CaseCopy {
 public:
  explicit CaseCopy(const std::string& name = "") {
    if (!name.empty()) std::filesystem::copy(golden(name), folder());
  }
  std::string folder() const { return folder_.path(); }
  std::string operator/(const std::string& name) const { return folder_ / name; }
  // Rewrites one safetensors file.
  void change(const std::string& file, const std::function<void(NamedTensors&)>& edit) const {
    NamedTensors tensors = read_safetensors(*this / file).tensors;
    edit(tensors);
    write_safetensors(*this / file, tensors);
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace adatape::testing
