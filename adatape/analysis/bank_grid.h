// Where the rows of an image's bank lie in the image.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "adatape/models/tape_front.h"

namespace adatape {

// Patches in rows and columns, in pixels of the image as the task gives it (a bank of another resolution sees it larger or smaller).
struct BankGrid {
  int64_t rows = 0, columns = 0;
  double patch_height = 0, patch_width = 0;
  double image_height = 0, image_width = 0;

  int64_t size() const { return rows * columns; }
  // Distance of the patch's centre from the image's, 1 = in a corner of the image.
  double centre_distance(int64_t row) const;
  // Share of the patch that lies in a box.
  double share_inside(int64_t row, int64_t top, int64_t left, int64_t height, int64_t width) const;
};

// nullopt where rows have no place in an image: learnable banks, sequences.
std::optional<BankGrid> bank_grid(const TapeFrontConfig& config, size_t reader, const InputSpec& input);

// How much of what was read lies on the thing to be recognised.
class ObjectShare {
 public:
  // One example's reading: indices int64 [T, K] (-1 = not read), weights [T, K]; its box (Task::held_out_boxes).
  void add(const BankGrid& grid, const int64_t* indices, const float* weights, int64_t steps, int64_t rows_per_step, const int64_t* box);

  int64_t examples() const { return examples_; }
  // Means over examples: share of the rows read that lies in the box; the same with rows counted by weight; what rows drawn at random would
  // give, the share of all rows that lies there.
  double rows() const { return mean(rows_); }
  double weighted() const { return mean(weighted_); }
  double chance() const { return mean(chance_); }

 private:
  double mean(double sum) const { return examples_ > 0 ? sum / static_cast<double>(examples_) : 0; }
  int64_t examples_ = 0;
  double rows_ = 0, weighted_ = 0, chance_ = 0;
};

}  // namespace adatape
