// One step of a recurrent network: a tanh cell, a GRU or an LSTM, with torch's parameters and gate order.
#pragma once

#include "adatape/nn/initialize.h"
#include "adatape/nn/linear.h"

namespace adatape {

struct RecurrentState {
  torch::Tensor hidden;  // [rows, S]
  torch::Tensor cell;    // [rows, S]; LSTM only

  // These rows, in this order. Differentiable.
  RecurrentState select(const torch::Tensor& rows) const;
  // weight [rows, 1] x the state.
  RecurrentState weighted(const torch::Tensor& weight) const;
  // The state + weight [rows, 1] x another.
  RecurrentState plus_weighted(const torch::Tensor& weight, const RecurrentState& other) const;
  // keep_rows (nn/row_compaction.h) of both.
  RecurrentState keep(const std::vector<int64_t>& stay) const;
};

// The input is projected apart from the step, because adaptive computation steps several times on one input.
struct RecurrentCell : Module {
  enum class Kind { kRnn, kGru, kLstm };

  RecurrentCell(Kind kind, int64_t input, int64_t width);
  // All from U(-1 / sqrt(S), 1 / sqrt(S)), as torch draws them.
  void initialize(at::Generator& generator);
  RecurrentState zero_state(int64_t rows) const;
  // W_ih x + b_ih: [rows, input] -> [rows, gates x S].
  torch::Tensor project(const torch::Tensor& x) const { return linear(x, weight_ih, bias_ih); }
  // The next state from a projected input [rows, gates x S].
  //   rnn: tanh(i + W_hh h + b_hh).   gru: gates r, z, n; h' = (1 - z) n + z h, n = tanh(i_n + r (W_hh h + b_hh)_n).
  //   lstm: gates i, f, g, o; c' = f c + i g, h' = o tanh(c').
  RecurrentState forward(const torch::Tensor& projected, const RecurrentState& state) const;
  RowCost input_cost_per_row() const { return product_cost(weight_ih.size(1), weight_ih.size(0), true); }
  RowCost state_cost_per_row() const;  // the projected input and the old state in, the new one out

  Kind kind;
  int64_t width;
  torch::Tensor weight_ih, weight_hh;  // [gates x S, input], [gates x S, S]
  torch::Tensor bias_ih, bias_hh;      // [gates x S]
  ops::PackedWeight packed_hh;         // undefined before pack_for_inference

 protected:
  void pack(torch::Dtype products) override;
  void unpack() override { packed_hh = {}; }

 private:
  torch::Tensor product_with_state(const torch::Tensor& hidden) const;
};
RecurrentCell::Kind parse_cell(const std::string& name);  // "rnn" | "gru" | "lstm"

}  // namespace adatape
