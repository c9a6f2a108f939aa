// Golden cases of the repository, and a copy that a test may spoil.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <functional>
#include <string>

#include "adatape/core/check.h"
#include "adatape/core/safetensors.h"

namespace adatape::testing {

inline std::string golden(const std::string& name) { return std::string(ADATAPE_SOURCE_DIR "/tests/golden/") + name; }

// A copy of a case (or an empty folder), removed at the end.
class CaseCopy {
 public:
  explicit CaseCopy(const std::string& name = "") {
    std::string made = (std::filesystem::temp_directory_path() / "adatape_case_XXXXXX").string();
    if (::mkdtemp(made.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = made;
    if (!name.empty()) std::filesystem::copy(golden(name), path_);
  }
  ~CaseCopy() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  CaseCopy(const CaseCopy&) = delete;
  CaseCopy& operator=(const CaseCopy&) = delete;

  std::string folder() const { return path_.string(); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  // Rewrites one safetensors file.
  void change(const std::string& file, const std::function<void(NamedTensors&)>& edit) const {
    NamedTensors tensors = read_safetensors(*this / file).tensors;
    edit(tensors);
    write_safetensors(*this / file, tensors);
  }

 private:
  std::filesystem::path path_;
};

// The message of the Error that action throws, "" when it throws none.
}  // namespace adatape::testing
