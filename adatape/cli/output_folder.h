// A folder for results, looked at before the work that fills it.
#pragma once

#include <string>

namespace adatape::cli {

// Error where results could not be written to this folder, made if need be: a file is in the way, or permissions are. Makes nothing.
void check_output_folder(const std::string& folder);

}  // namespace adatape::cli
