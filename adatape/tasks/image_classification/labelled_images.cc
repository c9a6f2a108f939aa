#include "adatape/tasks/image_classification/labelled_images.h"

#include <algorithm>
#include <filesystem>

#include "adatape/core/check.h"
#include "adatape/data/idx.h"
#include "adatape/tasks/image_classification/image_classification_config.h"

namespace adatape {
namespace {

std::string find_file(const std::string& folder, const std::string& name) {
  for (const char* suffix : {".gz", ""}) {
    const std::string path = (std::filesystem::path(folder) / (name + suffix)).string();
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored)) return path;
  }
  throw Error(concat(kImageClassification, ": expected ", name, ".gz or ", name, " in ", folder,
                     ", found neither. Set task.path to the folder, or install the Debian package dataset-fashion-mnist."));
}

IdxArray read_dimensions(const std::string& folder, const std::string& name, size_t dimensions) {
  IdxArray array = read_idx(find_file(folder, name));
  ADATAPE_CHECK(array.sizes.size() == dimensions, kImageClassification, name, ": expected ", dimensions, " dimension(s), got ",
                array.sizes.size());
  return array;
}

}  // namespace

LabelledImages read_idx_images(const std::string& folder, const std::string& prefix, int64_t height, int64_t width, int64_t classes) {
  const std::string image_name = prefix + "-images-idx3-ubyte", label_name = prefix + "-labels-idx1-ubyte";
  IdxArray images = read_dimensions(folder, image_name, 3);
  IdxArray labels = read_dimensions(folder, label_name, 1);
  ADATAPE_CHECK(images.sizes[1] == height && images.sizes[2] == width, kImageClassification, image_name, ": expected images of ", height,
                " x ", width, " (task.height x task.width), got ", images.sizes[1], " x ", images.sizes[2]);
  ADATAPE_CHECK(images.sizes[0] == labels.sizes[0], kImageClassification, label_name, ": expected a label for each of the ",
                images.sizes[0], " images, got ", labels.sizes[0], " labels");
  const auto wrong = std::find_if(labels.values.begin(), labels.values.end(), [&](uint8_t label) { return label >= classes; });
  ADATAPE_CHECK(wrong == labels.values.end(), kImageClassification, label_name, ": expected labels below ", classes,
                " (task.classes), got ", int{*wrong}, " at ", wrong - labels.values.begin());
  return {height, width, std::move(images.values), std::move(labels.values)};
}

}  // namespace adatape
