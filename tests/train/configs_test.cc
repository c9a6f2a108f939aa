// Every configuration of the repository is one that `adatape train` takes, or `adatape import` for published weights.
#include <algorithm>
#include <set>

#include "adatape/models/presets.h"
#include "adatape/models/registry.h"
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

// A size asked for by its name is the model of its recipe.
TEST(Configs, ImageNetRecipesAreTheNamedSizes) {
  struct Root {
    ModelConfig& model;
    void fields(FieldVisitor& visit) { visit.table("model", model, ""); }
  };
  InputSpec input;
  input.kind = InputSpec::Kind::kImages;
  input.channels = 3;
  input.height = input.width = 224;
  input.classes = 1000;
  for (const auto& [file, name] :
       {std::pair("adatape_s16", "adatape_small_patch16_224"), std::pair("adatape_b16", "adatape_base_patch16_224"),
        std::pair("adatape_b32", "adatape_base_patch32_224")}) {
    const std::string text = read_file(concat(ADATAPE_SOURCE_DIR "/configs/images/imagenet/", file, ".toml"));
    const size_t begin = text.find("\n[model]\n");
    ConfigDocument document = ConfigDocument::from_text(text.substr(begin, text.find("[training]") - begin));
    const auto recipe = find_model("adatape").make_config(), preset = preset_config(require_preset(name), input);
    Root of_recipe{*recipe}, of_preset{*preset};
    document.read(of_recipe);
    recipe->resolve(input);
    EXPECT_EQ(to_toml(of_preset), to_toml(of_recipe)) << name;
  }
}

}  // namespace
}  // namespace adatape
