#include "adatape/data/hold_out.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "adatape/core/check.h"

namespace adatape {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names_of(int count) {
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.push_back(concat(i % 2 == 0 ? "cat/" : "dog/", i, ".jpg"));
  return names;
}

// Of names_of: cats and dogs in turn.
std::vector<int32_t> labels_of(int count) {
  std::vector<int32_t> labels;
  for (int i = 0; i < count; ++i) labels.push_back(i % 2);
  return labels;
}

// How many are held out of classes of these sizes.
std::vector<int64_t> held_of(const std::vector<int64_t>& sizes, int64_t count) {
  std::vector<std::string> names;
  std::vector<int32_t> labels;
  for (size_t label = 0; label < sizes.size(); ++label) {
    for (int64_t i = 0; i < sizes[label]; ++i) {
      names.push_back(concat(label, '/', i));
      labels.push_back(static_cast<int32_t>(label));
    }
  }
  const std::vector<bool> held = hold_out(names, labels, count);
  std::vector<int64_t> taken(sizes.size());
  for (size_t i = 0; i < held.size(); ++i) taken[static_cast<size_t>(labels[i])] += held[i];
  return taken;
}

TEST(HoldOutTest, TakesAFixedPartOfEachClass) {
  const std::vector<std::string> names = names_of(1000);
  const std::vector<bool> held = hold_out(names, labels_of(1000), 5000);
  EXPECT_EQ(std::count(held.begin(), held.end(), true), 100);
  int cats = 0;
  for (size_t i = 0; i < names.size(); i += 2) cats += held[i];
  EXPECT_EQ(cats, 50);
  // Fewer of the same where others are gone.
  const std::vector<bool> fewer = hold_out(names_of(500), labels_of(500), 20);
  EXPECT_EQ(std::count(fewer.begin(), fewer.end(), true), 20);
  for (size_t i = 0; i < fewer.size(); ++i) EXPECT_TRUE(!fewer[i] || held[i]) << names[i];
  // The order in which examples come says nothing.
  std::vector<std::string> backwards(names.rbegin(), names.rend());
  std::vector<int32_t> labels = labels_of(1000);
  std::reverse(labels.begin(), labels.end());
  std::vector<bool> again = hold_out(backwards, labels, 5000);
  std::reverse(again.begin(), again.end());
  EXPECT_EQ(again, held);
}

TEST(HoldOutTest, LeavesNoClassOutThatCanBeShared) {
  EXPECT_THAT(held_of(std::vector<int64_t>(10, 4), 5000), Each(1));  // more than a tenth of 40
  EXPECT_THAT(held_of({500, 300, 200}, 5000), ElementsAre(50, 30, 20));
  EXPECT_THAT(held_of({500, 300, 200}, 10), ElementsAre(5, 3, 2));
  EXPECT_THAT(held_of({1000, 3, 1}, 20), ElementsAre(19, 1, 0));
  EXPECT_THAT(held_of({3, 9, 5, 9}, 2), ElementsAre(0, 1, 0, 1));  // count allows no more: the largest
  EXPECT_THAT(held_of({2, 1, 1}, 5000), ElementsAre(1, 0, 0));
  EXPECT_THAT(held_of({2, 2, 196}, 5000), ElementsAre(1, 1, 18));
}

TEST(HoldOutTest, SaysWhatIsWrong) {
  EXPECT_THROW(held_of({1}, 1), Error);
  try {
    held_of({1, 1, 0, 1}, 5);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("expected at least 2 training pictures of some class, so that one can be held out for validation, "
                                        "got 3 in 3 classes"));
  }
}

// Of what is held out of one large class and many small ones, the first part has its share of the small ones.
TEST(HoldOutTest, TheOrderOfWhatIsHeldOutHangsOnNoClass) {
  std::vector<std::string> names;
  std::vector<int32_t> labels;
  for (int32_t label = 0; label <= 200; ++label) {
    for (int i = 0; i < (label == 0 ? 5000 : 2); ++i) {
      names.push_back(concat(label, '/', i, ".jpg"));
      labels.push_back(label);
    }
  }
  const std::vector<bool> held = hold_out(names, labels, 5000);
  std::vector<std::string> chosen;
  std::vector<int32_t> chosen_labels;
  for (size_t i = 0; i < names.size(); ++i) {
    if (!held[i]) continue;
    chosen.push_back(names[i]);
    chosen_labels.push_back(labels[i]);
  }
  const std::vector<size_t> order = mixed_order(chosen);
  ASSERT_EQ(order.size(), chosen.size());
  const auto small = [&](size_t count) {
    int64_t found = 0;
    for (size_t i = 0; i < count; ++i) found += chosen_labels[order[i]] != 0;
    return static_cast<double>(found) / static_cast<double>(count);
  };
  EXPECT_NEAR(small(200), small(order.size()), 0.1);
  EXPECT_GT(small(order.size()), 0.3);
}

}  // namespace
}  // namespace adatape
