#include "adatape/nn/step_sums.h"

namespace adatape {

StepSums::StepSums(const PackedTokens& start, bool class_token) : place_(static_cast<size_t>(start.layout->total()), -1) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; row < start.layout->total(); ++row) {
    if ((start.layout->kinds()[row] == TokenKind::kClass) != class_token) continue;
    place_[row] = static_cast<int64_t>(rows.size());
    rows.push_back(row);
  }
  sums_ = {start.values.new_zeros({static_cast<int64_t>(rows.size()), start.values.size(1)}), kept_layout(*start.layout, rows)};
}

StepSums::Pooled StepSums::pooled(const torch::Tensor& states, const std::vector<int64_t>& rows, const torch::Tensor& weights) const {
  std::vector<int64_t> from, to;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (place_[static_cast<size_t>(rows[i])] < 0) continue;
    from.push_back(static_cast<int64_t>(i));
    to.push_back(place_[static_cast<size_t>(rows[i])]);
  }
  Pooled pooled;
  // Rows ascend and so do places: as many as there are is all of them in order.
  if (static_cast<int64_t>(to.size()) != sums_.values.size(0)) pooled.places = index_tensor(to, weights.device());
  const bool all = from.size() == rows.size();
  const torch::Tensor index = all ? torch::Tensor() : index_tensor(from, weights.device());
  pooled.states = all ? states : states.index_select(0, index);
  pooled.weights = (all ? weights : weights.index_select(0, index)).unsqueeze(1);
  return pooled;
}

void StepSums::add(const torch::Tensor& states, const std::vector<int64_t>& rows, const torch::Tensor& weights) {
  const Pooled live = pooled(states, rows, weights);
  if (live.places.defined()) {
    sums_.values.index_add_(0, live.places, live.states * live.weights);
  } else {
    sums_.values.addcmul_(live.states, live.weights);
  }
}

void StepSums::blend(const torch::Tensor& states, const std::vector<int64_t>& rows, const torch::Tensor& weights) {
  const Pooled live = pooled(states, rows, weights);
  const torch::Tensor old = live.places.defined() ? sums_.values.index_select(0, live.places) : sums_.values;
  const torch::Tensor mixed = live.weights * live.states + (1.0 - live.weights) * old;
  if (live.places.defined()) {
    sums_.values.index_copy_(0, live.places, mixed);
  } else {
    sums_.values = mixed;
  }
}

}  // namespace adatape
