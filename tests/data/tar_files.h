// Small tar files for tests.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace adatape {

// A member: header and content, filled up to whole blocks.
inline std::string tar_member(const std::string& name, const std::string& content, char kind = '0', const std::string& prefix = "") {
  std::string header(512, '\0');
  header.replace(0, std::min<size_t>(name.size(), 100), name, 0, 100);
  char size[12];
  std::snprintf(size, sizeof size, "%011lo", static_cast<unsigned long>(content.size()));
  header.replace(124, 11, size, 11);
  header[156] = kind;
  header.replace(257, 8,
                 std::string("ustar\0"
                             "00",
                             8));
  header.replace(345, prefix.size(), prefix);
  header.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (const char byte : header) sum += static_cast<unsigned char>(byte);
  char digits[8];
  std::snprintf(digits, sizeof digits, "%06o", sum);
  header.replace(148, 7, digits, 7);
  return header + content + std::string((512 - content.size() % 512) % 512, '\0');
}

inline std::string tar_end() { return std::string(1024, '\0'); }

}  // namespace adatape
