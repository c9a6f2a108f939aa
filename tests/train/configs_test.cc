// Every configuration of the repository is one that `adatape train` takes, or `adatape import` for published weights.
#include <algorithm>
#include <set>

#include "test_run.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;

TEST(Configs, AreReadAndSayTheirOwnCommand) {
  int64_t count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(ADATAPE_SOURCE_DIR "/configs")) {
    if (entry.path().extension() != ".toml") continue;
    const std::string path = entry.path().string();
    // Classes of ImageNet are the folders of pictures that a user has: without them the configuration says so and nothing else.
    const bool needs_pictures = path.find("/images/imagenet/") != std::string::npos;
    const std::string error = error_of([&] { RunConfig::from_document(ConfigDocument::from_file(path)); });
    EXPECT_TRUE(error == "no error" || (needs_pictures && error.find("expected a folder train in") != std::string::npos))
        << path << ": " << error;
    const std::string command = path.find("/published/") != std::string::npos ? "adatape import --from transformers " : "adatape train ";
    EXPECT_THAT(read_file(path), ::testing::HasSubstr(command + fs::relative(entry.path(), ADATAPE_SOURCE_DIR).string())) << path;
    ++count;
  }
  EXPECT_GT(count, 20);
}

// Models that are set against each other see the same examples under the same optimiser.
TEST(Configs, FamiliesAreTrainedAlike) {
  for (const char* folder :
       {"images/fashion_mnist", "images/fashion_mnist/long", "images/cluttered_scenes", "graphs", "language_identification"}) {
    std::set<std::string> tasks, trainings;
    for (const auto& entry : fs::directory_iterator(std::string(ADATAPE_SOURCE_DIR "/configs/") + folder)) {
      if (entry.path().extension() != ".toml" || entry.is_symlink()) continue;
      RunConfig config = RunConfig::from_document(ConfigDocument::from_file(entry.path().string()));
      config.training.learning_rate = 1;  // each model's own: chosen among equally many for each
      tasks.insert(to_toml(*config.task));
      trainings.insert(to_toml(config.training));
      EXPECT_EQ(config.label, entry.path().stem());
    }
    EXPECT_EQ(tasks.size(), 1u) << folder;
    EXPECT_EQ(trainings.size(), 1u) << folder;
  }
}

}  // namespace
}  // namespace adatape
