#include "adatape/data/hold_out.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "adatape/core/check.h"

namespace adatape {
namespace {

std::vector<std::string> names_of(int count) {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back(concat(i % 2 == 0 ? "cat/" : "dog/", i, ".jpg"));
  return names;
}

TEST(HoldOutTest, TakesAFixedPartOfEachClass) {
  const std::vector<std::string> names = names_of(1000);
  const std::vector<bool> held = hold_out(names, 5000);
  EXPECT_EQ(std::count(held.begin(), held.end(), true), 100);
  int cats = 0;
  for (size_t i = 0; i < names.size(); i += 2) cats += held[i];
  EXPECT_NEAR(cats, 50, 20);
  // Fewer of the same where others are gone.
  const std::vector<bool> fewer = hold_out(names_of(500), 20);
  EXPECT_EQ(std::count(fewer.begin(), fewer.end(), true), 20);
  for (size_t i = 0; i < fewer.size(); ++i) EXPECT_TRUE(!fewer[i] || held[i]) << names[i];
  EXPECT_EQ(hold_out({"a", "b"}, 1).size(), 2u);
  EXPECT_THROW(hold_out({"a"}, 1), Error);
}

}  // namespace
}  // namespace adatape
