#include "adatape/core/utf8.h"

#include <gtest/gtest.h>

namespace adatape {
namespace {

TEST(Utf8Test, TellsTextFromOtherBytes) {
  for (const char* text : {"", "cat", "gro\xc3\x9f", "\xe7\x8c\xab", "\xf0\x9f\x90\x88", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
    EXPECT_TRUE(is_utf8(text)) << text;
  for (const char* text :
       {"\xff", "\x80", "a\xc3", "\xc3z", "\xc0\xaf", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf0\x82\x82\xac"}) {
    EXPECT_FALSE(is_utf8(text)) << text;
  }
}

TEST(Utf8Test, PrintsWhatItCan) {
  EXPECT_EQ(printable("gro\xc3\x9f"), "gro\xc3\x9f");
  EXPECT_EQ(printable("gro\xdf.jpg"), "gro?.jpg");
}

TEST(Utf8Test, WritesControlCharactersForTerminals) {
  EXPECT_EQ(for_terminal("gro\xc3\x9f cat, \\"), "gro\xc3\x9f cat, \\");
  EXPECT_EQ(for_terminal("a\nb\tc\x1b[31m\x7f"), "a\\nb\\tc\\x1b[31m\\x7f");
  EXPECT_EQ(for_terminal("\xc2\x9b"
                         "31m\xc2\xa0"),
            "\\x9b31m\xc2\xa0");  // U+009B is a terminal's "ESC [" in one
  EXPECT_EQ(for_terminal("gro\xdf\n"), "gro?\\n");
}

}  // namespace
}  // namespace adatape
