// Text that may not be text: names of files come as any bytes.
#pragma once

#include <string>
#include <string_view>

namespace adatape {

// True for well-formed UTF-8 (no overlong forms, surrogates or code points above U+10FFFF).
bool is_utf8(std::string_view text);

// The same text where it is UTF-8; elsewhere each byte beyond ASCII becomes "?". For error texts and JSON.
std::string printable(std::string_view text);

// What of it may go to a terminal: as printable, and control characters (C0, DEL and C1) written as in C: "\n", "\x1b". A name of a file
// could else move the cursor or colour the screen.
std::string for_terminal(std::string_view text);

}  // namespace adatape
