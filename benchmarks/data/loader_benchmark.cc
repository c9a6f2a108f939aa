// Training pictures as the loader makes them, from JPEG files of 500 x 375 pixels to batches of 224 x 224, without a model: task
// image_classification on a folder, with the trainer's prefetching threads, two of them. The rival does the same on as many threads with
// each picture decoded whole by libjpeg-turbo, its part resized by ATen's antialiased resize on bytes, and ATen's conversion to floats.
//   OMP_NUM_THREADS=1 build/release/adatape_benchmarks --benchmark_filter=loader
#include <ATen/ops/_upsample_bilinear2d_aa.h>
#include <ATen/ops/from_blob.h>

#include <stdlib.h>

#include <filesystem>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/core/memory.h"
#include "adatape/data/decode.h"
#include "adatape/data/hold_out.h"
#include "adatape/data/image_folder.h"
#include "adatape/data/inception_crop.h"
#include "adatape/data/prefetch.h"
#include "adatape/tasks/image_classification/epoch_order.h"
#include "adatape/tasks/image_classification/image_classification_task.h"
#include "benchmarks/data/synthetic_photo.h"
#include "benchmarks/side_by_side.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHeight = 375, kWidth = 500, kSide = 224, kFiles = 64, kBatch = 32;
constexpr uint64_t kSeed = 1, kBatches = 8;
constexpr int64_t kThreads = 2;

// A folder of pictures for as long as it lives.
class PhotoFolder {
 public:
  PhotoFolder() {
    std::string name = (fs::temp_directory_path() / "adatape_loader_XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw Error("loader benchmark: expected a temporary folder, could not make one");
    path_ = name;
    int64_t number = 0;
    const auto write = [&](const std::string& split, int64_t count) {
      for (int64_t i = 0; i < count; ++i, ++number) {
        const fs::path folder = path_ / split / (i % 2 == 0 ? "even" : "odd");
        fs::create_directories(folder);
        const std::string file = jpeg_file(synthetic_photo(static_cast<uint64_t>(number), kHeight, kWidth), 85);
        bytes_ += static_cast<int64_t>(file.size());
        write_file_atomically((folder / (std::to_string(number) + ".jpg")).string(), file);
      }
    };
    write("train", kFiles);
    write("validation", 2);
    write("test", 2);
    mean_bytes_ = bytes_ / number;
  }
  ~PhotoFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  PhotoFolder(const PhotoFolder&) = delete;
  PhotoFolder& operator=(const PhotoFolder&) = delete;

  std::string path() const { return path_.string(); }
  int64_t mean_bytes() const { return mean_bytes_; }

 private:
  fs::path path_;
  int64_t bytes_ = 0, mean_bytes_ = 0;
};

// In the task's order.
std::vector<PictureFile> mixed(const std::vector<PictureFile>& found, const std::string& root) {
  std::vector<std::string> names;
  for (const PictureFile& file : found) names.push_back(fs::path(file.path).lexically_relative(root).string());
  std::vector<PictureFile> files;
  for (const size_t index : mixed_order(names)) files.push_back(found[index]);
  return files;
}

// The same batch, picture by picture, with ATen.
at::Tensor plain_batch(const std::vector<PictureFile>& files, EpochOrder& order, uint64_t step) {
  at::Tensor images = at::empty({kBatch, 3, kSide, kSide}, at::kFloat);
  for (int64_t i = 0; i < kBatch; ++i) {
    const uint64_t place = step * kBatch + static_cast<uint64_t>(i), epoch = place / files.size();
    const uint64_t index = (*order.permutation(kSeed, epoch))[place % files.size()], example = epoch * files.size() + index;
    const std::string bytes = read_file(files[index].path);
    const Picture picture = decode_picture({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), files[index].path});
    CounterRng random(kSeed, 0, site(Site::kAugment), example);
    const Box part = inception_crop(kHeight, kWidth, 0.05, random);
    const at::Tensor whole = at::from_blob(const_cast<uint8_t*>(picture.pixels.data()), {1, 3, kHeight, kWidth},
                                           {kHeight * kWidth * 3, 1, kWidth * 3, 3}, at::kByte);
    const at::Tensor cut = whole.narrow(2, part.top, part.height).narrow(3, part.left, part.width);
    at::Tensor resized = at::_upsample_bilinear2d_aa(cut, {kSide, kSide}, /*align_corners=*/false);
    if (random.below(2) == 1) resized = resized.flip(3);
    images[i].copy_(resized[0]).div_(127.5).sub_(1);
  }
  return images;
}

// kBatches of them, made by the prefetching threads; what is behind the last is not made.
void load(const std::function<Batch(uint64_t step)>& make) {
  Prefetcher prefetcher([&](uint64_t step) { return step < kBatches ? make(step) : Batch{}; }, 0, kThreads, kThreads + 1);
  for (uint64_t step = 0; step < kBatches; ++step) benchmark::DoNotOptimize(prefetcher.next().images.data_ptr());
}

void loader(benchmark::State& state) {
  keep_freed_memory();  // as the program does; the rival has it too
  const PhotoFolder folder;
  ImageClassificationConfig config;
  config.format = "folder";
  config.path = folder.path();
  config.augment = "inception";
  const ImageClassificationTask task(config);
  const std::vector<PictureFile> files = mixed(find_pictures(folder.path() + "/train", {"even", "odd"}), folder.path());
  EpochOrder order(static_cast<int64_t>(files.size()));
  const auto ours = [&] { load([&](uint64_t step) { return task.training_batch(kSeed, step, kBatch); }); };
  const auto plain = [&] {
    load([&](uint64_t step) {
      Batch batch;
      batch.images = plain_batch(files, order, step);
      return batch;
    });
  };
  // Bytes may be rounded to the neighbour, by fixed-point weights on the rival's side.
  const at::Tensor difference = (task.training_batch(kSeed, 3, kBatch).images - plain_batch(files, order, 3)).abs();
  if (!(difference.max().item<double>() <= 2.5 / 127.5 && difference.mean().item<double>() <= 0.3 / 127.5)) {
    state.SkipWithError("the pictures differ");
    return;
  }
  time_side_by_side(state, ours, {{"plain", plain, "loader_jpeg_500x375", 1}});
  const double threads = at::get_num_threads() > 1 ? 1 : kThreads;  // time of the processor counts both threads
  const auto images_per_second = [&](double milliseconds) { return static_cast<double>(kBatch * kBatches) * 1e3 * threads / milliseconds; };
  const double ours_ms = state.counters["median_ms"];
  state.counters["images_per_second"] = images_per_second(ours_ms);
  state.counters["plain_images_per_second"] = images_per_second(state.counters["plain_ms"]);
  // What a GPU in training asks for, as a row: the time that 1,000 images a second would take.
  benchmark_rows().push_back({"loader_jpeg_500x375_target", "1,000/s", ours_ms, static_cast<double>(kBatch * kBatches) * threads, 1});
  state.counters["file_bytes"] = static_cast<double>(folder.mean_bytes());
}

BENCHMARK(loader)->Name("loader/jpeg_500x375")->UseManualTime()->Iterations(15)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace adatape
