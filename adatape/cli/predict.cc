// adatape predict MODEL PICTURE...: which class do pictures show, and what did that cost?
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "adatape/analysis/draw_reading.h"
#include "adatape/analysis/tape_budget_table.h"
#include "adatape/cli/at_least.h"
#include "adatape/cli/command.h"
#include "adatape/cli/inference.h"
#include "adatape/cli/tape_budget_option.h"
#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/json_text.h"
#include "adatape/core/number_text.h"
#include "adatape/core/progress.h"
#include "adatape/core/signals.h"
#include "adatape/core/utf8.h"
#include "adatape/data/decode.h"
#include "adatape/data/read_picture.h"
#include "adatape/data/write_png.h"
#include "adatape/models/tape_front.h"
#include "adatape/tasks/cluttered_scenes/cluttered_scenes_task.h"
#include "adatape/tasks/image_classification/image_classification_config.h"
#include "adatape/train/run_folder.h"

namespace adatape::cli {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using nlohmann::ordered_json;

constexpr const char* kDrawn = "adatape predict --show";  // in each drawing, so that it can be told from a person's pictures

constexpr const char* kPredictMore =
    "Pictures are JPEG or PNG of any size and colour; they are resized, cropped and turned into the model's colours as its config.toml\n"
    "says. Tokens: those of the longest block, tape included. Time: the forward pass of this picture alone, after one that warms up.\n"
    "--tape-budget moves the halting thresholds until examples of the run's own data read as much on average, as in\n"
    "`adatape evaluate`, and prints them as --set assignments, with which predict needs no data; a single picture reads more or less.\n"
    "--show DIR writes DIR/NAME.read.png for each picture: as the model saw it, and beside it the patches that were read, shaded by\n"
    "weight and numbered by step. It replaces its own drawings of an earlier call and nothing else. A picture that is missing or broken\n"
    "is reported, the others go on, and the exit status is 1.\n"
    "\n"
    "Examples:\n"
    "  adatape predict runs/fashion/adatape shirt.jpg boot.png --show shown\n"
    "  adatape predict runs/fashion/adatape shirt.jpg --tape-budget 80%          80 % of the FLOPs of full tapes on average\n"
    "  adatape predict runs/fashion/adatape *.jpg --top 1 --json";

struct PredictArguments {
  std::string folder, show;
  InferenceOptions inference;
  TapeBudgetOption budget;
  std::vector<std::string> pictures, assignments;
  int64_t top = 5;
  bool json = false;
};

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

class Predictor {
 public:
  Predictor(const PredictArguments& arguments, at::Device device)
      : arguments_(arguments), device_(device), run_(load_run(arguments.folder, arguments.assignments, device, /*with_task=*/false)) {
    if (const auto* images = dynamic_cast<const ImageClassificationConfig*>(run_.config.task.get())) images_ = *images;
    if (const auto* scenes = dynamic_cast<const ClutteredScenesConfig*>(run_.config.task.get())) images_ = scenes->scenes();
    ADATAPE_CHECK(images_.has_value(), arguments.folder, "expected a model of pictures, got one of task ", run_.config.task->name);
    preprocess_ = images_->preprocess();
    classes_ = images_->class_names();
    if (!arguments.show.empty()) {
      const auto* tape = dynamic_cast<const TapeFrontConfig*>(run_.config.model.get());
      const auto in_picture = [&](const TapeReaderConfig& reader) {
        return std::any_of(tape->banks.begin(), tape->banks.end(),
                           [&](const TapeBankConfig& bank) { return bank.name == reader.bank && bank.kind == "input"; });
      };
      ADATAPE_CHECK(tape != nullptr && std::any_of(tape->readers.begin(), tape->readers.end(), in_picture), arguments.folder,
                    "--show expects a model that reads a tape from patches of the picture, got ", run_.config.model->name);
      drawings_ = choose_drawings(arguments);
      make_directories(arguments.show);
    }
    arguments.inference.prepare(*run_.model, device);
    budget_ = arguments.budget.apply(run_, device, /*quiet=*/arguments.json);
    if (run_.task != nullptr) {
      for (const std::string& note : run_.task->notes()) std::cerr << "adatape: " << for_terminal(note) << std::endl;
    }
    run_forward(Picture(preprocess_.height, preprocess_.width));
  }

  // The setting of --tape-budget, where there is one.
  const std::optional<TapeSetting>& budget() const { return budget_; }

  // What there is to say about one picture. Error when it cannot be read.
  ordered_json predict(size_t index) {
    const std::string& file = arguments_.pictures[index];
    const auto start = Clock::now();
    const std::string bytes = read_picture_file(file);
    const std::string name = printable(file);
    const Picture whole = decode_picture({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), name});
    const Picture view = centre_view(whole, preprocess_);
    const double preparing = seconds_since(start);
    const auto [output, seconds] = run_forward(view);
    ordered_json row = {{"file", name}, {"index", index}, {"width", whole.width}, {"height", whole.height}, {"top", top_of(output.logits)}};
    add_cost(output, row);
    if (budget_)
      row["tape_budget"] = {{"budget", budget_->budget.text}, {"met", budget_->met}, {"settings", tape_setting_assignments(*budget_)}};
    row["seconds"] = seconds;
    row["preparing_seconds"] = preparing;
    if (!arguments_.show.empty()) {
      show(drawings_[index], view, output);
      row["shown"] = printable(drawings_[index]);
    }
    return row;
  }

 private:
  struct Answer {
    ModelOutput output;
    double seconds;
  };

  Answer run_forward(const Picture& view) const {
    Batch batch;
    batch.images = at::empty({1, preprocess_.channels, preprocess_.height, preprocess_.width}, at::kFloat);
    PlaneWriter(preprocess_).write(view, {}, batch.images.data_ptr<float>());
    batch.examples = at::zeros({1}, at::kLong);
    batch = batch.to(device_);
    const auto start = Clock::now();
    Answer answer{run_.model->forward(batch, {.record = true}), 0};
    answer.output.logits = answer.output.logits.cpu();  // waits for the device
    answer.seconds = seconds_since(start);
    return answer;
  }

  ordered_json top_of(const at::Tensor& logits) const {
    const at::Tensor shares = images_->class_probabilities(logits)[0];
    const auto [values, indices] = shares.topk(std::min(arguments_.top, shares.numel()));
    ordered_json top = ordered_json::array();
    for (int64_t i = 0; i < values.numel(); ++i) {
      const auto index = indices[i].item<int64_t>();
      top.push_back({{"class", classes_.at(static_cast<size_t>(index))}, {"index", index}, {"probability", values[i].item<double>()}});
    }
    return top;
  }

  static void add_cost(const ModelOutput& output, ordered_json& row) {
    int64_t tokens = 0, token_steps = 0, tape = 0;
    for (const std::vector<int64_t>& block : output.block_tokens) {
      tokens = std::max(tokens, block.front());
      token_steps += block.front();
    }
    for (const TapeReading& reading : output.readings) tape += reading.lengths[0].item<int64_t>();
    double flops = 0;
    for (const WorkItem& item : output.work) flops += static_cast<double>(item.rows.front()) * static_cast<double>(item.flops_per_row);
    row["tokens"] = tokens;
    row["tape_length"] = tape;
    row["token_steps"] = token_steps;
    row["flops"] = flops;
  }

  // The file of each picture's drawing. Error where one would take the place of a file that no --show has made, or of a picture to read.
  static std::vector<std::string> choose_drawings(const PredictArguments& arguments) {
    std::error_code ignored;
    std::set<fs::path> inputs;
    for (const std::string& picture : arguments.pictures) inputs.insert(fs::weakly_canonical(picture, ignored));
    std::set<std::string> names;
    std::vector<std::string> drawings;
    for (const std::string& picture : arguments.pictures) {
      const std::string stem = printable(fs::path(picture).stem().string());
      std::string name = stem;
      for (int64_t i = 2; !names.insert(name).second; ++i) name = concat(stem, '_', i);  // pictures of one name in several folders
      const fs::path path = fs::path(arguments.show) / (name + ".read.png");
      const bool read = inputs.count(fs::weakly_canonical(path, ignored)) > 0;
      ADATAPE_CHECK(!read && (!fs::exists(path, ignored) || png_is_by(path.string(), kDrawn)), "--show",
                    "expected to write only drawings of its own, got ", path.string(),
                    read ? ", one of the pictures to read" : ", a file that --show has not made", "; choose another folder");
      drawings.push_back(path.string());
    }
    return drawings;
  }

  void show(const std::string& path, const Picture& view, const ModelOutput& output) const {
    const auto& tape = dynamic_cast<const TapeFrontConfig&>(*run_.config.model);
    std::vector<ExampleReading> readings;
    for (const TapeReading& reading : output.readings) {
      readings.push_back(example_reading(reading, 0, tape, run_.config.task->input_spec(), 0));
    }
    write_png(path, draw_readings(as_model_sees(view), readings), kDrawn);
  }

  Picture as_model_sees(Picture view) const {
    if (preprocess_.channels == 3) return view;
    for (size_t i = 0; i < view.pixels.size(); i += 3)
      std::fill_n(view.pixels.begin() + static_cast<std::ptrdiff_t>(i), 3, grey_of(&view.pixels[i]));
    return view;
  }

  const PredictArguments& arguments_;
  const at::Device device_;
  LoadedRun run_;
  std::optional<ImageClassificationConfig> images_;  // how the model's task shows pictures
  std::optional<TapeSetting> budget_;
  Preprocess preprocess_;
  std::vector<std::string> classes_;
  std::vector<std::string> drawings_;  // of --show, a path for each picture
};

std::string text_of(const ordered_json& row) {
  std::string text = concat(for_terminal(row["file"].get<std::string>()), " (", row["width"].dump(), " x ", row["height"].dump(), ")\n");
  for (const ordered_json& answer : row["top"]) {
    text += concat("  ", number_text("%6.2f %%", 100 * answer["probability"].get<double>()), "  ",
                   for_terminal(answer["class"].get<std::string>()), "\n");
  }
  text += concat("  ", row["tokens"].dump(), " tokens");
  if (row["tape_length"] != 0) text += concat(", ", row["tape_length"].dump(), " of them on tape");
  text +=
      concat(", ", format_count(row["flops"].get<double>(), "FLOPs"), ", ", number_text("%.2f ms", 1000 * row["seconds"].get<double>()));
  if (row.contains("shown")) text += concat(", shown in ", for_terminal(row["shown"].get<std::string>()));
  return text + "\n";
}

int predict(const PredictArguments& arguments) {
  const at::NoGradGuard no_grad;
  Predictor predictor(arguments, arguments.inference.start());
  install_stop_handlers();  // until here nothing is lost by ending at once
  if (predictor.budget() && !arguments.json) std::cout << tape_budget_remarks({BudgetResult{*predictor.budget(), {}}});
  ordered_json rows = ordered_json::array();
  bool failed = false;
  for (size_t index = 0; index < arguments.pictures.size(); ++index) {
    if (stop_requested()) {
      if (arguments.json) std::cout << json_text(rows, 2) << std::endl;  // of the pictures that are done
      throw Interrupted(concat("prediction stopped after ", index, " of ", arguments.pictures.size(), " pictures"));
    }
    try {
      ordered_json row = predictor.predict(index);
      if (arguments.json) {
        rows.push_back(std::move(row));
      } else {
        std::cout << text_of(row) << std::flush;
      }
    } catch (const Error& error) {
      failed = true;
      std::cerr << "adatape: " << for_terminal(error.what()) << std::endl;
      if (arguments.json)
        rows.push_back({{"file", printable(arguments.pictures[index])}, {"index", index}, {"error", printable(error.what())}});
    }
  }
  if (arguments.json) std::cout << json_text(rows, 2) << "\n";
  return failed ? 1 : 0;
}

}  // namespace

std::function<int()> declare_predict(CLI::App& app) {
  auto arguments = std::make_shared<PredictArguments>();
  app.footer(kPredictMore);
  app.add_option("MODEL", arguments->folder, "run or model folder of a model of pictures (image_classification, cluttered_scenes)")
      ->required();
  app.add_option("PICTURE", arguments->pictures, "JPEG or PNG files")->required();
  app.add_option("--top", arguments->top, "classes to name, the most probable first")
      ->type_name("N")
      ->check(at_least(1))
      ->capture_default_str();
  app.add_option("--show", arguments->show, "folder for pictures of what was read")->type_name("DIR");
  app.add_option("--set", arguments->assignments, "change a key of its config.toml (may be repeated); keys that change shapes are refused")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  arguments->budget.declare(app);
  arguments->inference.declare(app);
  app.add_flag("--json", arguments->json, "JSON on stdout: a list with an object for each picture, index: its place in the call");
  return [arguments] { return predict(*arguments); };
}

}  // namespace adatape::cli
