// A font for pictures: printable ASCII in dots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace adatape {

// A letter is 5 x 7 dots on the line and two rows below it; the next one begins six dots further.
constexpr int64_t kGlyphRows = 9, kGlyphColumns = 5, kGlyphAdvance = 6, kGlyphBase = 7;

// Whether a dot of a letter is set; letters outside printable ASCII look like "?".
bool glyph_dot(char letter, int64_t row, int64_t column);

// A text (UTF-8, or any bytes) as the font has it: "?" for each character outside printable ASCII, and of more than `longest` letters the
// first ones with "..".
std::string drawable(std::string_view text, size_t longest);

}  // namespace adatape
