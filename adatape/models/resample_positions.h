// Learned position embeddings of one grid of patches, brought to another.
#pragma once

#include <torch/types.h>

#include <string>

#include "adatape/models/model.h"

namespace adatape {

struct Grid {
  int64_t rows = 0, columns = 0;
  bool operator==(const Grid&) const = default;
};

// positions [prefix + old grid, D], rows of the grid one after another -> [prefix + new grid, D]; the prefix (class token) stays. Bicubic,
// anti-aliased, as timm resamples them (resample_abs_pos_embed). Error where the sizes do not fit. Not differentiable.
torch::Tensor resample_positions(const torch::Tensor& positions, int64_t prefix, Grid from, Grid to);

// positions [tokens, D] of other images, brought to what `parameter` ("stem.positions", "bank_input.positions") of a model made for `input`
// wants; as they are where the grids agree, or the model has no such parameter or is not for images. The other grid is that of `before`,
// the images they were trained on; where these are not known, equal numbers are equal grids and others a square. Error where it cannot be
// one.
torch::Tensor fit_positions(const torch::Tensor& positions, const std::string& parameter, const Model& model, const InputSpec& input,
                            const InputSpec* before = nullptr);

}  // namespace adatape
