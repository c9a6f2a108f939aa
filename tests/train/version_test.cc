#include "adatape/train/version.h"

#include "test_run.h"

namespace adatape {
namespace {

TEST(Version, IsThatOfTheBuild) {
  const std::string build = read_file(concat(ADATAPE_SOURCE_DIR, "/CMakeLists.txt"));
  EXPECT_THAT(build, ::testing::HasSubstr(concat("project(adatape VERSION ", kVersion, " ")));
}

}  // namespace
}  // namespace adatape
