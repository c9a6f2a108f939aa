// Files that are either old or new, never half: written beside the target, synced, renamed.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <string_view>

namespace adatape {

// Replaces path with content. Error names the path and the system's reason (no space, permission ...); the old file is then untouched
// and the partial file is removed.
void write_file_atomically(const std::string& path, std::string_view content);
// The same with a writer; a writer that throws leaves the old file untouched.
void write_file_atomically(const std::string& path, const std::function<void(std::ostream&)>& write);

// The whole file; Error with the reason when it cannot be read or is a folder.
std::string read_file(const std::string& path);

// mkdir -p; Error with the reason.
void make_directories(const std::string& path);

// Writes a folder as one step: calls fill(temporary folder beside path), syncs and renames it to path (which must not exist).
void write_directory_atomically(const std::string& path, const std::function<void(const std::string&)>& fill);

}  // namespace adatape
