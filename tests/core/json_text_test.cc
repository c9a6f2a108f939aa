#include "adatape/core/json_text.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace adatape {
namespace {

TEST(JsonText, IsTheJsonThatWasGiven) {
  const nlohmann::ordered_json value = {{"b", {1, 2}}, {"a", "gro\xc3\x9f"}};
  EXPECT_EQ(json_text(value), "{\"b\":[1,2],\"a\":\"gro\xc3\x9f\"}");
  EXPECT_EQ(json_text(value, 2), value.dump(2));
}

TEST(JsonText, BytesThatAreNotUtf8AreReplaced) {
  const nlohmann::ordered_json value = {{"command", "train gro\xdf.toml"}};
  EXPECT_EQ(nlohmann::json::parse(json_text(value))["command"], "train gro\xef\xbf\xbd.toml");
}

}  // namespace
}  // namespace adatape
