#include <sys/stat.h>

#include "adatape/core/check.h"
#include "program.h"
#include "tests/data/picture_folders.h"

namespace adatape {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::Outcome;

class PredictCommandTest : public testing::ProgramTest {
 protected:
  // A reader of 8 x 8 patches on pictures of two plain colours, trained until it can tell them.
  void train_run() {
    write_two_classes(path("data"), "train", 12);
    write("pictures.toml", R"([task]
name = "image_classification"
format = "folder"
path = "data"
height = 32
width = 32
[model]
name = "adatape"
patch = 16
width = 16
heads = 2
ffn_width = 16
[[model.banks]]
patch = 8
[[model.readers]]
max_tape_tokens = 3
threshold = 1.5
[training]
steps = 30
batch_size = 8
learning_rate = 0.01
warmup_steps = 2
evaluate_every = 10
)");
    const Outcome trained = run("train pictures.toml -o run");
    ASSERT_EQ(trained.status, 0) << trained.errors;
    EXPECT_THAT(trained.errors, HasSubstr("adatape: 22 training and 2 validation pictures in 2 classes\n"));
    EXPECT_THAT(trained.errors, HasSubstr("adatape: data has no validation pictures (validation or val): 2 of its 24 training pictures"));
    write("red.jpg", jpeg_bytes(plain_picture(190, 40, 30, 0, 90, 60)));
    write("blue.png", png_bytes(plain_picture(30, 40, 190, 0, 33, 70)));
  }
};

TEST_F(PredictCommandTest, NamesClassesAndShowsWhatWasRead) {
  train_run();
  std::filesystem::remove_all(path("data"));  // the model folder says all
  const Outcome text = run("predict run red.jpg blue.png --top 1");
  EXPECT_EQ(text.status, 0) << text.errors;
  EXPECT_THAT(text.output, AllOf(HasSubstr("red.jpg (60 x 90)\n"), HasSubstr("%  red\n"), HasSubstr("%  blue\n"),
                                 HasSubstr("of them on tape"), HasSubstr("FLOPs, "), HasSubstr(" ms")));
  EXPECT_LT(text.output.find("%  red"), text.output.find("%  blue"));

  const Outcome outcome = run("predict run red.jpg blue.png --json --show shown");
  const json rows = json::parse(outcome.output);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["file"], "red.jpg");
  EXPECT_EQ(rows[0]["top"][0]["class"], "red");
  EXPECT_EQ(rows[0]["top"][0]["index"], 1);
  EXPECT_EQ(rows[1]["top"][0]["class"], "blue");
  EXPECT_NEAR(rows[1]["top"][0]["probability"].get<double>() + rows[1]["top"][1]["probability"].get<double>(), 1, 1e-6);
  EXPECT_EQ(rows[0]["tokens"], 4 + rows[0]["tape_length"].get<int>());
  EXPECT_GE(rows[0]["tape_length"], 2);
  EXPECT_LE(rows[0]["tape_length"], 3);
  EXPECT_GT(rows[0]["flops"], 0);
  EXPECT_GT(rows[0]["seconds"], 0);
  EXPECT_EQ(rows[0]["shown"], "shown/red.read.png");
  EXPECT_FALSE(rows[0].contains("tape_budget"));
  const std::string shown = testing::content_of(path("shown/red.read.png"));
  const Picture picture = decode_picture(encoded(shown));
  EXPECT_EQ(picture.height, 448);
  EXPECT_EQ(picture.width, 2 * 448 + 8);
  EXPECT_NEAR(picture.row(200)[3 * 200], 190, 3);  // as the model saw it
  EXPECT_TRUE(exists("shown/blue.read.png"));

  // evaluate sees pictures in the same way: the folder's own pictures are its task.
  write_two_classes(path("data"), "train", 12);
  EXPECT_THAT(run("evaluate run").output, AllOf(HasSubstr("accuracy by class\n    blue "), HasSubstr("\n    red ")));
  const Outcome evaluated = run("evaluate run --json");
  EXPECT_EQ(evaluated.status, 0) << evaluated.errors;
  EXPECT_EQ(json::parse(evaluated.output)["accuracy"], 1.0);
}

TEST_F(PredictCommandTest, ShowNeverReplacesAFileThatItHasNotMade) {
  train_run();
  const std::string photo = testing::content_of(path("blue.png"));
  write("blue.jpg", jpeg_bytes(plain_picture(30, 40, 190, 0)));
  for (int i = 0; i < 2; ++i) {  // its own drawings of the call before are replaced
    const Outcome outcome = run("predict run blue.png blue.jpg --show .");
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    EXPECT_THAT(outcome.output, AllOf(HasSubstr("shown in ./blue.read.png"), HasSubstr("shown in ./blue_2.read.png")));
  }
  EXPECT_EQ(testing::content_of(path("blue.png")), photo);
  const std::string drawn = testing::content_of(path("blue.read.png"));
  EXPECT_THAT(error_of("predict run blue.png blue.read.png --show ."), HasSubstr("./blue.read.png, one of the pictures to read"));
  EXPECT_EQ(testing::content_of(path("blue.read.png")), drawn);
  write("blue.read.png", photo);
  EXPECT_THAT(error_of("predict run red.jpg blue.png --show ."),
              HasSubstr("--show: expected to write only drawings of its own, got ./blue.read.png, a file that --show has not made"));
  EXPECT_EQ(testing::content_of(path("blue.read.png")), photo);
  EXPECT_FALSE(exists("red.read.png"));
}

TEST_F(PredictCommandTest, NamesCannotSteerTheTerminal) {
  train_run();
  write("a\x1b[31m\nb.png", testing::content_of(path("blue.png")));
  const Outcome outcome = run("predict run a*.png");
  EXPECT_EQ(outcome.status, 0) << outcome.errors;
  EXPECT_THAT(outcome.output, ::testing::StartsWith("a\\x1b[31m\\nb.png (70 x 33)\n"));
  EXPECT_EQ(json::parse(run("predict run a*.png --json").output)[0]["file"], "a\x1b[31m\nb.png");
}

TEST_F(PredictCommandTest, ShowsNamesThatAreNotUtf8AsText) {
  train_run();
  write("gro\xdf.jpg", testing::content_of(path("red.jpg")));
  const Outcome outcome = run("predict run gro\xdf.jpg nie\xdf.jpg --json --show gez\xdf");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_EQ(outcome.errors, "adatape: cannot read nie?.jpg: No such file or directory\n");
  const json rows = json::parse(outcome.output);  // throws where it is no UTF-8
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0]["file"], "gro?.jpg");
  EXPECT_EQ(rows[0]["top"][0]["class"], "red");
  EXPECT_EQ(rows[0]["shown"], "gez?/gro?.read.png");
  EXPECT_TRUE(exists("gez\xdf/gro?.read.png"));
  EXPECT_EQ(rows[1]["file"], "nie?.jpg");
  EXPECT_EQ(rows[1]["error"], "cannot read nie?.jpg: No such file or directory");
  EXPECT_THAT(run("predict run gro\xdf.jpg").output, ::testing::StartsWith("gro?.jpg (60 x 90)\n"));
  EXPECT_THAT(run("predict gro\xdf red.jpg").errors, HasSubstr("gro?"));
}

TEST_F(PredictCommandTest, ReadsForATapeBudget) {
  train_run();
  const auto rows_at = [&](const std::string& options) {
    const Outcome outcome = run("predict run red.jpg blue.png --json " + options);
    EXPECT_EQ(outcome.status, 0) << outcome.errors;
    return json::parse(outcome.output);
  };
  const json least = rows_at("--tape-budget 1"), full = rows_at("--tape-budget 100%");
  const json evaluated = json::parse(run("evaluate run --json --tape-budget 1,100%").output)["tape_budgets"];
  for (size_t i = 0; i < 2; ++i) {  // with one or with all three steps every picture costs the same
    EXPECT_EQ(least[i]["tape_length"], 1);
    EXPECT_EQ(least[i]["tokens"], 4 + 1);
    EXPECT_EQ(least[i]["flops"], evaluated[0]["flops"]);
    EXPECT_EQ(full[i]["tape_length"], 3);
    EXPECT_EQ(full[i]["tokens"], 4 + 3);
    EXPECT_EQ(full[i]["flops"], evaluated[1]["flops"]);
    EXPECT_GT(full[i]["flops"], least[i]["flops"]);
    EXPECT_EQ(least[i]["tape_budget"]["budget"], "1");
    EXPECT_EQ(least[i]["tape_budget"]["met"], true);
    EXPECT_EQ(least[i]["tape_budget"]["settings"], evaluated[0]["settings"]);
  }
  const Outcome text = run("predict run red.jpg --tape-budget 1 --verbose --threads 1 --calibration-examples 1");
  EXPECT_THAT(text.output, AllOf(::testing::StartsWith("  budget 1: 1.000 tape tokens on 1 training examples by --set model.readers.0."),
                                 HasSubstr("  5 tokens, 1 of them on tape, ")));
  EXPECT_THAT(text.errors, ::testing::ContainsRegex("kernels: matrix products packed (avx512|avx2|plain) float32[^\n]*; attention [^\n]*; "
                                                    "tape reading fused (avx2|plain) float32[^\n]*; cpu, 1 threads\n"));
  EXPECT_THAT(run("predict run red.jpg").errors, ::testing::Not(HasSubstr("kernels")));
  EXPECT_THAT(error_of("predict run red.jpg --tape-budget lots"), HasSubstr("mean tape tokens such as 4.5"));

  // Where the data is not: the settings that were printed are what travels.
  std::filesystem::remove_all(path("data"));
  EXPECT_THAT(error_of("predict run red.jpg --tape-budget 1"),
              AllOf(HasSubstr("--tape-budget: expected the data that the run was trained on"), HasSubstr("--set model.readers.0."),
                    HasSubstr("found none; or calibrate where the data is (adatape evaluate run --tape-budget 1)")));
  const json travelled = rows_at("--set " + least[0]["tape_budget"]["settings"][0].get<std::string>());
  EXPECT_EQ(travelled[0]["flops"], least[0]["flops"]);
  EXPECT_EQ(travelled[0]["top"], least[0]["top"]);
}

TEST_F(PredictCommandTest, GoesOnBehindABrokenPicture) {
  train_run();
  const std::string whole = testing::content_of(path("red.jpg"));
  write("half.jpg", whole.substr(0, whole.size() / 2));
  write("notes.jpg", "hello");
  ASSERT_EQ(::mkfifo(path("pipe.jpg").c_str(), 0600), 0);
  const Outcome outcome = run("predict run nowhere.jpg half.jpg red.jpg notes.jpg data pipe.jpg /dev/zero --json --top 1");
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.errors,
              AllOf(HasSubstr("cannot read nowhere.jpg: No such file"), HasSubstr("half.jpg: expected an intact JPEG picture"),
                    HasSubstr("notes.jpg: expected a JPEG or PNG picture, got other data"),
                    HasSubstr("data: expected a picture in a plain file, got a folder"),
                    HasSubstr("pipe.jpg: expected a picture in a plain file"), HasSubstr("/dev/zero: expected a picture in a plain file")));
  EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 6);
  const json rows = json::parse(outcome.output);
  ASSERT_EQ(rows.size(), 7u);
  EXPECT_THAT(rows[0]["error"].get<std::string>(), HasSubstr("nowhere.jpg"));
  EXPECT_EQ(rows[2]["top"][0]["class"], "red");
  EXPECT_EQ(rows[2]["top"].size(), 1u);
  EXPECT_EQ(run("predict run red.jpg half.jpg").status, 1);
}

TEST_F(PredictCommandTest, ReadsPicturesForModelsOfGreyIdxImages) {
  std::string pixels, labels;
  for (int i = 0; i < 12; ++i) {
    pixels += std::string(14 * 14, static_cast<char>(i % 2 == 0 ? 20 : 220));
    labels += static_cast<char>(i % 2);
  }
  write("train-images-idx3-ubyte", idx_bytes({12, 14, 14}, pixels));
  write("train-labels-idx1-ubyte", idx_bytes({12}, labels));
  write("t10k-images-idx3-ubyte", idx_bytes({12, 14, 14}, pixels));
  write("t10k-labels-idx1-ubyte", idx_bytes({12}, labels));
  write("grey.toml", R"([task]
name = "image_classification"
path = "."
height = 14
width = 14
classes = 2
class_names = "dark,light"
validation_examples = 4
[model]
name = "vit"
patch = 7
width = 8
heads = 2
ffn_width = 8
[training]
steps = 20
batch_size = 8
learning_rate = 0.01
warmup_steps = 2
)");
  const Outcome trained = run("train grey.toml -q -o run");
  ASSERT_EQ(trained.status, 0) << trained.errors;
  write("bright.jpg", jpeg_bytes(plain_picture(230, 240, 200, 0, 50, 80)));
  const json rows = json::parse(run("predict run bright.jpg --json").output);
  EXPECT_EQ(rows[0]["top"][0]["class"], "light");
  EXPECT_EQ(rows[0]["top"].size(), 2u);
  EXPECT_EQ(rows[0]["tape_length"], 0);
  EXPECT_THAT(error_of("predict run bright.jpg --show shown"), HasSubstr("--show expects a model that reads a tape"));
  EXPECT_THAT(error_of("predict run bright.jpg --tape-budget 2"), HasSubstr("expected a model with a reader that halts by a threshold"));
}

TEST_F(PredictCommandTest, SaysWhatIsWrong) {
  EXPECT_THAT(error_of("predict nowhere red.jpg"), HasSubstr("found nothing there"));
  ASSERT_EQ(run("train tiny.toml -q -o run --set training.steps=5").status, 0);
  EXPECT_THAT(error_of("predict run red.jpg"), HasSubstr("expected a model of pictures, got one of task parity"));
  EXPECT_THAT(error_of("predict run"), HasSubstr("PICTURE"));
  EXPECT_THAT(error_of("predict run red.jpg --top 0"), HasSubstr("--top: expected 1 or more, got 0 (see"));
  EXPECT_THAT(error_of("predict run red.jpg --precision float16"), HasSubstr("--precision"));
}

// A bank of images is two linear maps when it is trained and one when it serves: all commands count what serves.
TEST_F(PredictCommandTest, FlopsAreThoseOfEvaluateAndOfCompare) {
  train_run();
  const double trained = json::parse(testing::content_of(path("run/result.json")))["flops"];
  const json evaluated = json::parse(run("evaluate run --json").output);
  EXPECT_NEAR(trained / evaluated["flops"].get<double>(), 1, 1e-12);
  ASSERT_EQ(run("compare run --speed -o out").status, 0);
  const json compared = json::parse(testing::content_of(path("out/results.json")))["runs"][0];
  EXPECT_NEAR(compared["flops"].get<double>() / trained, 1, 1e-12);
}

}  // namespace
}  // namespace adatape
