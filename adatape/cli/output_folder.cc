#include "adatape/cli/output_folder.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "adatape/core/check.h"

namespace adatape::cli {

void check_output_folder(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  fs::path there = fs::absolute(folder, ignored);
  while (!fs::exists(there, ignored) && there.has_relative_path()) there = there.parent_path();
  const int code = !fs::is_directory(there, ignored) ? ENOTDIR : ::access(there.c_str(), W_OK | X_OK) != 0 ? errno : 0;
  ADATAPE_CHECK(code == 0, "cannot write " + folder, there.string(), ": ", std::strerror(code), "; choose another --output");
}

}  // namespace adatape::cli
