#include "adatape/nn/recurrent_cell.h"

#include <c10/core/impl/LocalDispatchKeySet.h>

#include <cmath>

#include "adatape/core/check.h"
#include "adatape/nn/gru_gates.h"
#include "adatape/nn/row_compaction.h"

namespace adatape {
namespace {

// Torch's own kernels, one call each way where the plain ones make ten: small states wait for calls. In the state's precision, whatever
// precision products have.
RecurrentState fused_gates(RecurrentCell::Kind kind, const torch::Tensor& projected, const torch::Tensor& from_state,
                           const RecurrentState& state) {
  const c10::impl::ExcludeDispatchKeyGuard as_given(c10::autocast_dispatch_keyset);
  const torch::Tensor input = projected.to(state.hidden.scalar_type()), product = from_state.to(state.hidden.scalar_type());
  if (kind == RecurrentCell::Kind::kGru) return {std::get<0>(at::_thnn_fused_gru_cell(input, product, state.hidden)), {}};
  const auto [hidden, cell, kept] = at::_thnn_fused_lstm_cell(input, product, state.cell);
  return {hidden, cell};
}

int64_t gates_of(RecurrentCell::Kind kind) { return kind == RecurrentCell::Kind::kRnn ? 1 : kind == RecurrentCell::Kind::kGru ? 3 : 4; }

}  // namespace

RecurrentState RecurrentState::select(const torch::Tensor& rows) const {
  return {hidden.index_select(0, rows), cell.defined() ? cell.index_select(0, rows) : torch::Tensor()};
}

RecurrentState RecurrentState::weighted(const torch::Tensor& weight) const {
  return {weight * hidden, cell.defined() ? weight * cell : torch::Tensor()};
}

RecurrentState RecurrentState::plus_weighted(const torch::Tensor& weight, const RecurrentState& other) const {
  return {at::addcmul(hidden, weight, other.hidden), cell.defined() ? at::addcmul(cell, weight, other.cell) : torch::Tensor()};
}

RecurrentState RecurrentState::keep(const std::vector<int64_t>& stay) const {
  return {keep_rows(hidden, stay), cell.defined() ? keep_rows(cell, stay) : torch::Tensor()};
}

RecurrentCell::RecurrentCell(Kind kind_, int64_t input, int64_t width_) : kind(kind_), width(width_) {
  const int64_t rows = gates_of(kind) * width;
  weight_ih = register_parameter("weight_ih", torch::zeros({rows, input}));
  weight_hh = register_parameter("weight_hh", torch::zeros({rows, width}));
  bias_ih = register_parameter("bias_ih", torch::zeros({rows}));
  bias_hh = register_parameter("bias_hh", torch::zeros({rows}));
}

void RecurrentCell::initialize(at::Generator& generator) {
  torch::NoGradGuard no_grad;
  const double bound = 1.0 / std::sqrt(static_cast<double>(width));
  for (const torch::Tensor& parameter : {weight_ih, weight_hh, bias_ih, bias_hh}) {
    parameter.data().copy_(torch::empty(parameter.sizes()).uniform_(-bound, bound, generator));
  }
}

RecurrentState RecurrentCell::zero_state(int64_t rows) const {
  const torch::Tensor zeros = torch::zeros({rows, width}, weight_hh.options().requires_grad(false));
  return {zeros, kind == Kind::kLstm ? zeros : torch::Tensor()};
}

// W_hh h + b_hh. Rows become few as they halt, and packed weights need no preparation however few they are.
RowCost RecurrentCell::state_cost_per_row() const {
  const int64_t states = kind == Kind::kLstm ? 2 : 1;
  return {2 * weight_hh.numel(),
          weight_hh.size(0) + 2 * states * width,
          weight_hh.numel() + bias_hh.numel(),
          {{{width, weight_hh.size(0)}, {}}}};
}

torch::Tensor RecurrentCell::product_with_state(const torch::Tensor& hidden) const {
  if (!packed_path(hidden, packed_hh)) return linear(hidden, weight_hh, bias_hh);
  count_products(hidden.size(0), state_cost_per_row());
  return ops::packed_linear(hidden, packed_hh);
}

void RecurrentCell::pack(torch::Dtype products) {
  packed_hh = weight_hh.is_cpu() ? ops::pack_weight(weight_hh, bias_hh, products) : ops::PackedWeight();
}

RecurrentState RecurrentCell::forward(const torch::Tensor& projected, const RecurrentState& state) const {
  const torch::Tensor from_state = product_with_state(state.hidden);
  if (from_state.is_cuda() && kind != Kind::kRnn) return fused_gates(kind, projected, from_state, state);
  if (kind == Kind::kRnn) return {torch::tanh(projected + from_state), {}};
  if (kind == Kind::kGru) {
    if (!at::GradMode::is_enabled() && from_state.is_cpu() && from_state.scalar_type() == torch::kFloat)
      return {gru_gates(projected, from_state, state.hidden), {}};
    const torch::Tensor gates = torch::sigmoid(projected.narrow(1, 0, 2 * width) + from_state.narrow(1, 0, 2 * width));
    const torch::Tensor reset = gates.narrow(1, 0, width), keep = gates.narrow(1, width, width);
    const torch::Tensor fresh =
        torch::tanh(at::addcmul(projected.narrow(1, 2 * width, width), reset, from_state.narrow(1, 2 * width, width)));
    return {at::lerp(fresh, state.hidden, keep), {}};
  }
  const torch::Tensor gates = projected + from_state;
  const torch::Tensor open = torch::sigmoid(gates.narrow(1, 0, 2 * width));  // input, forget
  const torch::Tensor cell =
      at::addcmul(open.narrow(1, width, width) * state.cell, open.narrow(1, 0, width), torch::tanh(gates.narrow(1, 2 * width, width)));
  return {torch::sigmoid(gates.narrow(1, 3 * width, width)) * torch::tanh(cell), cell};
}

RecurrentCell::Kind parse_cell(const std::string& name) {
  ADATAPE_CHECK(name == "rnn" || name == "gru" || name == "lstm", "recurrent cell", "expected rnn, gru or lstm, got \"", name, '"');
  return name == "rnn" ? RecurrentCell::Kind::kRnn : name == "gru" ? RecurrentCell::Kind::kGru : RecurrentCell::Kind::kLstm;
}

}  // namespace adatape
