#include "adatape/tasks/language_modelling/n_gram.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "adatape/core/check.h"

namespace adatape {
namespace {

double sum_over_bytes(const NGram& model, const std::string& context) {
  double sum = 0;
  for (int byte = 0; byte < 256; ++byte) sum += model.probability(context, static_cast<uint8_t>(byte));
  return sum;
}

TEST(NGramTest, ByHand) {
  // "abab" and "ac": pairs ab 2, ba 1, ac 1. Different bytes before a: 1 (b), before b: 1, before c: 1.
  const NGram model(1, {"abab", "ac"});
  // Order 0: three entries counted once, none twice: D = 1, so all mass goes to 1 / 256 each.
  const double alone = (1 - 1 + 1 * 3 * (1.0 / 256)) / 3;
  EXPECT_DOUBLE_EQ(model.probability("", 'a'), alone);
  // Order 1: once ba, ac; twice ab: D = 2 / (2 + 2) = 1/2. After a: ab 2, ac 1.
  EXPECT_DOUBLE_EQ(model.probability("a", 'b'), (2 - 0.5 + 0.5 * 2 * alone) / 3);
  EXPECT_DOUBLE_EQ(model.probability("xa", 'c'), (1 - 0.5 + 0.5 * 2 * alone) / 3);
  EXPECT_DOUBLE_EQ(model.probability("a", 'z'), 0.5 * 2 * alone / 3);
  EXPECT_DOUBLE_EQ(model.probability("z", 'b'), alone);  // z was never seen
}

TEST(NGramTest, ProbabilitiesSumToOne) {
  const NGram model(3, {"the quick brown fox jumps over the lazy dog; the dog sleeps", "quick thoughts"});
  for (const char* context : {"", "t", "th", "the", "ick", "zzz", "qzz", "zth"})
    EXPECT_NEAR(sum_over_bytes(model, context), 1, 1e-12) << context;
}

TEST(NGramTest, BitsOfWindows) {
  const NGram model(2, {"abcabcabcabd"});
  const double expected = -(std::log2(model.probability("a", 'b')) + std::log2(model.probability("ab", 'c')) +
                            std::log2(model.probability("bc", 'a')) + std::log2(model.probability("x", 'a'))) /
                          4;
  EXPECT_NEAR(model.bits_per_byte({"abca", "xa"}), expected, 1e-12);
  EXPECT_EQ(model.bits_per_byte({"a", ""}), 0);
  EXPECT_NEAR(model.bits("abca"), -std::log2(model.probability("", 'a')) + 4 * expected + std::log2(model.probability("x", 'a')), 1e-12);
  EXPECT_EQ(model.bits(""), 0);
}

TEST(NGramTest, LongerContextsHelpWhereTheTextRepeats) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "abcabdabe";
  EXPECT_LT(NGram(3, {text}).bits_per_byte({text}), 0.5 * NGram(1, {text}).bits_per_byte({text}));
}

TEST(NGramTest, BytesAboveAscii) {
  const NGram model(3, {"\xc3\xa4\xc3\xb6\xc3\xa4\xc3\xb6"});
  EXPECT_GT(model.probability("\xc3\xa4\xc3", 0xb6), 0.3);
}

TEST(NGramTest, Orders) {
  EXPECT_THROW(NGram(4, {}), Error);
  EXPECT_DOUBLE_EQ(NGram(3, {}).probability("abc", 'd'), 1.0 / 256);
}

}  // namespace
}  // namespace adatape
