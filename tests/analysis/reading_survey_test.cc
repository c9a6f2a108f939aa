#include "adatape/analysis/reading_survey.h"

#include <numeric>

#include "adatape/analysis/survey_page.h"
#include "adatape/analysis/survey_pictures.h"
#include "adatape/data/decode.h"
#include "adatape/models/adatape.h"
#include "adatape/models/registry.h"
#include "adatape/nn/initialize.h"
#include "test_runs.h"
#include "tests/data/idx_files.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using nlohmann::ordered_json;
using ::testing::HasSubstr;

TEST(BankGrid, LiesInTheImageAsTheTaskGivesIt) {
  AdaTapeConfig config;
  config.banks.front().patch = 4;
  config.readers.front().bank = "input";
  InputSpec spec;
  spec.kind = InputSpec::Kind::kImages;
  spec.height = 10;  // two left over
  spec.width = 8;
  const BankGrid grid = *bank_grid(config, 0, spec);
  EXPECT_EQ(grid.rows, 2);
  EXPECT_EQ(grid.columns, 2);
  EXPECT_DOUBLE_EQ(grid.share_inside(3, 5, 6, 2, 10), 2.0 / 4 * 2 / 4);
  EXPECT_EQ(grid.share_inside(0, 4, 0, 6, 8), 0);
  EXPECT_NEAR(grid.centre_distance(0), std::hypot(3, 2) / std::hypot(5, 4), 1e-12);
  config.banks.front().resolution = 16;  // the bank sees 16 x 16: a patch is 2.5 x 2 pixels of the image
  EXPECT_DOUBLE_EQ(bank_grid(config, 0, spec)->patch_height, 2.5);
  EXPECT_EQ(bank_grid(config, 0, spec)->size(), 16);
  config.banks.front().kind = "learnable";
  EXPECT_FALSE(bank_grid(config, 0, spec).has_value());
  config.banks.front().kind = "input";
  spec.kind = InputSpec::Kind::kSymbols;
  EXPECT_FALSE(bank_grid(config, 0, spec).has_value());
}

TEST(ObjectShare, CountsRowsWeightsAndChance) {
  const BankGrid grid{2, 2, 4, 4, 8, 8};
  const int64_t indices[] = {0, 3, 1, -1}, box[] = {0, 0, 4, 6};  // row 0 inside, row 1 half, row 3 outside
  const float weights[] = {0.75f, 0.25f, 1.0f, 0.0f};
  ObjectShare share;
  share.add(grid, indices, weights, 2, 2, box);
  EXPECT_DOUBLE_EQ(share.rows(), 1.5 / 3);
  EXPECT_DOUBLE_EQ(share.weighted(), (0.75 + 0.5) / 2);
  EXPECT_DOUBLE_EQ(share.chance(), 1.5 / 4);
  share.add(grid, indices, weights, 0, 2, box);  // read nothing: not counted
  EXPECT_EQ(share.examples(), 1);
}

// A run on cluttered scenes of 24 x 24 pixels with an untrained model; images are white squares.
class SurveyTest : public ::testing::Test {
 protected:
  static constexpr int64_t kTest = 60;

  void SetUp() override {
    const auto file = [&](const std::string& prefix, uint32_t count) {
      std::string pixels, labels;
      for (uint32_t i = 0; i < count; ++i) {
        for (int place = 0; place < 64; ++place)
          pixels.push_back(static_cast<char>(40 + (i * 37 + static_cast<uint32_t>(place) * 11) % 200));
        labels.push_back(static_cast<char>(i % 3));
      }
      write_bytes(folder_.file(prefix + "-images-idx3-ubyte"), idx_bytes({count, 8, 8}, pixels));
      write_bytes(folder_.file(prefix + "-labels-idx1-ubyte"), idx_bytes({count}, labels));
    };
    file("train", 12);
    file("t10k", kTest);
  }

  static constexpr const char* kScenes =
      "name = \"cluttered_scenes\"\nheight = 8\nwidth = 8\ncanvas = 24\nlargest_piece = 6\nsmallest_piece = 4\n";

  LoadedRun run_of(const std::string& model, const std::string& task = kScenes) const {
    LoadedRun run;
    run.folder = "here";
    run.config = RunConfig::from_document(ConfigDocument::from_text(
        "[task]\n" + task + "classes = 3\nvalidation_examples = 4\npath = \"" + folder_.path() +
        "\"\n[model]\nwidth = 16\nheads = 2\nffn_width = 16\npatch = 8\n" + model + "[evaluation]\nbatch_size = 17\n"));
    run.task = find_task(run.config.task->name).make_task(*run.config.task);
    run.model = find_model(run.config.model->name).make_model(*run.config.model, run.task->input_spec());
    torch::NoGradGuard no_grad;
    at::Generator generator = parameter_generator(5, 0);
    for (const NamedParameter& parameter : run.model->named_parameters()) {
      torch::Tensor noise = torch::zeros_like(parameter.tensor);
      normal(noise, 0.4, generator);
      parameter.tensor.data().add_(noise);
    }
    return run;
  }
  LoadedRun tape_run(const std::string& task = kScenes) const {
    return run_of(
        "name = \"adatape\"\n[[model.banks]]\nname = \"input\"\npatch = 4\n[[model.readers]]\nmax_tape_tokens = 6\nthreshold = 2.0\n"
        "rows_per_step = 3\n",
        task);
  }
  Picture decoded(const std::string& name) const {
    const std::string bytes = read_file(folder_.file(name));
    return decode_picture({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), name});
  }
  TemporaryFolder folder_;
};

TEST_F(SurveyTest, AddsUpWhatExamplesRead) {
  const LoadedRun run = tape_run();
  const ReadingSurvey survey = survey_readings(run, at::kCPU, 50, 3);
  EXPECT_EQ(survey.examples, 50);
  const TapeUsage usage = measure_tape_usage(run, at::kCPU, 50, 0);
  EXPECT_EQ(survey.lengths, usage.lengths);
  EXPECT_DOUBLE_EQ(survey.on_object.rows(), usage.on_object.rows());

  const ReaderSurvey& reader = survey.readers.front();
  ASSERT_EQ(reader.read.size(), 36u);
  const double steps = std::accumulate(survey.lengths.begin(), survey.lengths.end(), 0.0) / 50;
  EXPECT_NEAR(std::accumulate(reader.read.begin(), reader.read.end(), 0.0), 3 * steps, 1e-9);  // three rows a step
  EXPECT_NEAR(std::accumulate(reader.weight.begin(), reader.weight.end(), 0.0), steps, 1e-5);  // weights of a step sum to 1
  double by_class = 0;
  for (size_t c = 0; c < 3; ++c)
    by_class += reader.by_class[c][5] * static_cast<double>(std::count(survey.labels.begin(), survey.labels.end(), c));
  EXPECT_NEAR(by_class, 50 * reader.read[5], 1e-9);

  const at::Tensor boxes = run.task->held_out_boxes(Split::kTest, 0, 50);
  const double area = (boxes.select(1, 2) * boxes.select(1, 3)).to(torch::kFloat64).mean().item<double>() / (24 * 24);
  EXPECT_NEAR(survey.on_object.chance(), area, 1e-9);  // patches tile the canvas
  EXPECT_EQ(survey.on_object.examples(), 50);
  for (size_t i = 0; i < 50; ++i) {
    EXPECT_EQ(survey.margins[i] > 0, survey.answers[i] == survey.labels[i]) << i;
  }
}

TEST_F(SurveyTest, ShowsTheShortestAndTheLongest) {
  const ReadingSurvey survey = survey_readings(tape_run(), at::kCPU, kTest, 3);
  std::vector<double> sorted = survey.lengths;
  std::sort(sorted.begin(), sorted.end());
  ASSERT_EQ(survey.shortest.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(static_cast<double>(survey.shortest[i].readings[0].steps.size()), sorted[i]);
    EXPECT_EQ(static_cast<double>(survey.longest[i].readings[0].steps.size()), sorted[sorted.size() - 1 - i]);
    EXPECT_EQ(survey.longest[i].label, survey.labels[static_cast<size_t>(survey.longest[i].index)]);
  }
  EXPECT_LT(sorted.front(), sorted.back());
}

TEST_F(SurveyTest, BecomesAPageAndPictures) {
  const ReadingSurvey survey = survey_readings(tape_run(), at::kCPU, kTest, 2);
  const std::string page = survey_html(survey, "<b>", "tape budget 3", "adatape analyse", {});
  EXPECT_THAT(page,
              ::testing::AllOf(HasSubstr("What &lt;b&gt; reads"), HasSubstr("tape budget 3"), HasSubstr("On the thing to be recognised"),
                               HasSubstr("Shortest"), HasSubstr("by chance"), ::testing::Not(HasSubstr("Garments"))));
  EXPECT_EQ(survey_heatmap(survey.readers[0], -1)["data"][0]["z"].size(), 6u);
  EXPECT_NEAR(survey_heatmap(survey.readers[0], 1)["data"][0]["z"][2][3].get<double>(), survey.readers[0].by_class[1][15], 1e-4);
  EXPECT_THAT(survey_html(survey, "", "", "", {}, {"3 of 9 <test> pictures"}), HasSubstr("3 of 9 &lt;test&gt; pictures"));
  EXPECT_THAT(page, ::testing::Not(HasSubstr("that differ most")));
  // Of very many classes those are drawn whose readings are unlike all others'.
  ReadingSurvey many = survey;
  many.readers[0].by_class.assign(60, many.readers[0].read);
  many.readers[0].by_class[50][0] += 1;
  many.class_names.resize(60);
  for (size_t c = 0; c < 60; ++c) many.class_names[c] = concat("class_", c, "_");
  const std::string of_many = survey_html(many, "", "", "", {});
  EXPECT_THAT(of_many,
              ::testing::AllOf(HasSubstr("the 40 that differ most from the mean"), HasSubstr("class_50_"), HasSubstr("class_38_")));
  EXPECT_THAT(of_many.substr(of_many.find("By class"), of_many.find("How much it reads") - of_many.find("By class")),
              ::testing::Not(HasSubstr("class_39_")));
  const Chart by_class = length_by_class(survey);
  EXPECT_EQ(by_class.names, (std::vector<std::string>{"0", "1", "2"}));
  double all = 0;
  for (size_t c = 0; c < 3; ++c)
    all += by_class.points[c].y * static_cast<double>(std::count(survey.labels.begin(), survey.labels.end(), c));
  EXPECT_NEAR(all, std::accumulate(survey.lengths.begin(), survey.lengths.end(), 0.0), 1e-9);
  const Figure difficulty = figure_of(length_by_difficulty(survey, Difficulty::kLoss), 320);
  EXPECT_EQ(difficulty["data"][0]["x"],
            nlohmann::ordered_json::parse("[0.0,1.0,2.0,3.0,4.0,5.0,6.0,7.0,8.0,9.0]"));  // equal medians have places of their own
  EXPECT_EQ(difficulty["layout"]["xaxis"]["ticktext"].size(), 10u);
  EXPECT_FALSE(difficulty["layout"]["xaxis"].contains("type"));
  const ordered_json json = survey_json(survey);
  EXPECT_EQ(json["by_example"]["tape_length"].size(), static_cast<size_t>(kTest));
  EXPECT_EQ(json["class_names"], ordered_json({"0", "1", "2"}));
  EXPECT_EQ(json["readers"][0]["by_class"].get<std::vector<std::vector<double>>>(), survey.readers[0].by_class);

  const std::vector<std::string> names = write_survey_pictures(survey, folder_.path());
  EXPECT_EQ(names, (std::vector<std::string>{"length_by_class.png", "length_by_loss.png", "length_by_margin.png", "reader_0_heatmap.png",
                                             "reader_0_centre.png", "reader_0_classes.png", "shortest.png", "longest.png"}));
  for (const std::string& name : names) EXPECT_GT(decoded(name).width, 500) << name;
  EXPECT_EQ(decoded("shortest.png").width, 2 * (288 + 8 + 288) + 3 * 8);  // 24 pixels, twelve times as large
}

// Images of 16 x 8 with another mean and deviation than 0.5, and a loss of each class for itself.
TEST_F(SurveyTest, ShowsPicturesInTheirOwnColoursAndTheTasksProbabilities) {
  std::string pixels;
  for (uint32_t i = 0; i < 12 * 8 * 16; ++i) pixels.push_back(static_cast<char>(i * 29 % 251));
  for (const char* prefix : {"train", "t10k"}) {
    write_bytes(folder_.file(std::string(prefix) + "-images-idx3-ubyte"), idx_bytes({12, 8, 16}, pixels));
    write_bytes(folder_.file(std::string(prefix) + "-labels-idx1-ubyte"), idx_bytes({12}, std::string("\0\1\2\0\1\2\0\1\2\0\1\2", 12)));
  }
  const LoadedRun run =
      tape_run("name = \"image_classification\"\nheight = 8\nwidth = 16\nmean = [0.485]\nstd = [0.229]\nloss = \"sigmoid\"\n");
  const ReadingSurvey survey = survey_readings(run, at::kCPU, 12, 1);
  const ShownExample& shown = survey.longest.front();
  ASSERT_EQ(shown.picture.height, 8);
  ASSERT_EQ(shown.picture.width, 16);
  for (int64_t i = 0; i < 8 * 16; ++i)
    ASSERT_EQ(shown.picture.pixels[static_cast<size_t>(3 * i)], static_cast<uint8_t>(pixels[static_cast<size_t>(shown.index * 128 + i)]));
  write_survey_pictures(survey, folder_.path());
  EXPECT_EQ(decoded("longest.png").width, 2 * 560 + 3 * 8);  // twice as wide as high
  EXPECT_NEAR(static_cast<double>(decoded("longest.png").height), 280 + 2 * 8, 30);

  const torch::NoGradGuard no_grad;
  const at::Tensor sigmoids = run.model->forward(run.task->held_out_batch(Split::kTest, 0, 12), {}).logits.sigmoid();
  for (int64_t i = 0; i < 12; ++i) {
    const at::Tensor others = sigmoids[i].clone();
    others[i % 3] = 0;
    EXPECT_NEAR(survey.margins[static_cast<size_t>(i)], (sigmoids[i][i % 3] - others.max()).item<double>(), 1e-5);
  }
}

TEST_F(SurveyTest, NeedsATape) {
  const LoadedRun run = run_of("name = \"vit\"\n");
  EXPECT_THAT(error_of([&] { survey_readings(run, at::kCPU, 10, 1); }), HasSubstr("here: expected a model with a tape, got vit"));
}

TEST(SurveyPictures, BrightWhereMuchIsRead) {
  const BankGrid grid{2, 2, 4, 4, 8, 8};
  Picture picture = heatmap_picture(grid, {0, 0, 0, 0.5}, 0.5, 10);
  EXPECT_LT(picture.row(0)[0], 20);
  EXPECT_GT(picture.row(9)[3 * 9], 240);
  EXPECT_EQ(picture.row(9)[0], picture.row(0)[0]);
}

TEST(SurveyPictures, KeepTheShapeOfTheImage) {
  const BankGrid grid{1, 2, 4, 4, 4, 8};
  const Picture picture = heatmap_picture(grid, {0, 1}, 1, 100);
  EXPECT_EQ(picture.width, 100);
  EXPECT_EQ(picture.height, 50);
  EXPECT_LT(picture.row(0)[3 * 49], 20);
  EXPECT_GT(picture.row(49)[3 * 50], 240);
}

TEST(SurveyPictures, StandBesideTheirScaleAndBelowTheirName) {
  const BankGrid grid{1, 1, 4, 4, 4, 4};
  Picture tile = with_title(heatmap_picture(grid, {1}, 1, 100), "Bag");
  ASSERT_EQ(tile.width, 100);
  int64_t dark = 0, first = tile.height;
  for (int64_t y = 0; y < tile.height - 100; ++y) {
    for (int64_t x = 0; x < 100; ++x) {
      if (tile.row(y)[3 * x] > 60) continue;
      ++dark;
      first = std::min(first, y);
      EXPECT_LT(x, 3 * 12);
    }
  }
  EXPECT_GT(dark, 100);
  EXPECT_EQ(first, 0);
  const Picture whole = with_colour_bar(tile, 0.5, "share");
  EXPECT_GT(whole.width, tile.width + 60);
  const int64_t bar = 9 + 100 + 2 * 8 + 9;  // bright above, dark below
  EXPECT_GT(whole.row(10)[3 * bar], 240);
  EXPECT_LT(whole.row(9 + tile.height - 2)[3 * bar], 20);
}

}  // namespace
}  // namespace adatape
