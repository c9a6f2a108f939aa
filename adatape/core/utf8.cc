#include "adatape/core/utf8.h"

#include <cstdint>

namespace adatape {

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80 ? 1 : lead >> 5 == 0x6 ? 2 : lead >> 4 == 0xe ? 3 : lead >> 3 == 0x1e ? 4 : 0;
    if (length == 0 || i + length > text.size()) return false;
    uint32_t code = length == 1 ? lead : lead & (0x7fu >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if (next >> 6 != 0x2) return false;
      code = code << 6 | (next & 0x3fu);
    }
    constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kLeast[length] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return false;
    i += length;
  }
  return true;
}

std::string printable(std::string_view text) {
  std::string shown(text);
  if (is_utf8(text)) return shown;
  for (char& letter : shown) {
    if (static_cast<unsigned char>(letter) >= 0x80) letter = '?';
  }
  return shown;
}

std::string for_terminal(std::string_view text) {
  constexpr const char* kDigits = "0123456789abcdef";
  const std::string whole = printable(text);
  std::string shown;
  for (size_t i = 0; i < whole.size(); ++i) {
    auto code = static_cast<unsigned char>(whole[i]);
    // U+0080 to U+009F, C2 80 to C2 9F in UTF-8, are control characters too.
    const bool high = code == 0xc2 && i + 1 < whole.size() && static_cast<unsigned char>(whole[i + 1]) < 0xa0;
    if (high) code = static_cast<unsigned char>(whole[++i]);
    if (code == '\n' || code == '\t' || code == '\r') {
      shown += '\\';
      shown += code == '\n' ? 'n' : code == '\t' ? 't' : 'r';
    } else if (high || code < 0x20 || code == 0x7f) {
      shown += "\\x";
      shown += kDigits[code >> 4];
      shown += kDigits[code & 0xf];
    } else {
      shown += whole[i];
    }
  }
  return shown;
}

}  // namespace adatape
