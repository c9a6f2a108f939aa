#include "adatape/nn/recurrent_cell.h"

#include "nn_cases.h"
#include "tests/error_of.h"

namespace adatape {
namespace {

using Kind = RecurrentCell::Kind;
using testing::random_tensor;

class RecurrentCellTest : public ::testing::TestWithParam<Kind> {};

// torch's own cells on the same parameters, with a gradient and without (where some take passes of their own).
TEST_P(RecurrentCellTest, IsTorchs) {
  for (const auto& [rows, width, gradient] :
       std::vector<std::tuple<int64_t, int64_t, bool>>{{4, 5, true}, {4, 5, false}, {70, 40, false}}) {
    const at::AutoGradMode mode(gradient);
    RecurrentCell cell(GetParam(), 3, width);
    at::Generator generator = parameter_generator(1, 0);
    cell.initialize(generator);
    const torch::Tensor x = random_tensor({rows, 3}, 1), hidden = random_tensor({rows, width}, 2), memory = random_tensor({rows, width}, 3);
    const bool lstm = GetParam() == Kind::kLstm;
    const RecurrentState next = cell.forward(cell.project(x), {hidden, lstm ? memory : torch::Tensor()});
    torch::Tensor expected;
    if (GetParam() == Kind::kRnn) {
      expected = at::rnn_tanh_cell(x, hidden, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh);
    } else if (GetParam() == Kind::kGru) {
      expected = at::gru_cell(x, hidden, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh);
    } else {
      const auto [h, c] = at::lstm_cell(x, {hidden, memory}, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh);
      expected = h;
      EXPECT_LE(testing::largest_difference(next.cell, c), 1e-6);
    }
    EXPECT_LE(testing::largest_difference(next.hidden, expected), 1e-6);
    EXPECT_EQ(next.cell.defined(), lstm);
  }
}

TEST_P(RecurrentCellTest, Gradients) {
  RecurrentCell cell(GetParam(), 3, 5);
  at::Generator generator = parameter_generator(2, 0);
  cell.initialize(generator);
  cell.to(torch::kFloat64);
  const bool lstm = GetParam() == Kind::kLstm;
  testing::expect_gradients(
      [&](const std::vector<torch::Tensor>& x) {
        const RecurrentState next = cell.forward(x[0], {x[1], lstm ? x[2] : torch::Tensor()});
        return lstm ? torch::cat({next.hidden, next.cell}) : next.hidden + 0 * x[2];
      },
      {random_tensor({2, cell.weight_ih.size(0)}, 4), random_tensor({2, 5}, 5), random_tensor({2, 5}, 6)});
}

INSTANTIATE_TEST_SUITE_P(All, RecurrentCellTest, ::testing::Values(Kind::kRnn, Kind::kGru, Kind::kLstm));

TEST(RecurrentStateTest, RowsAreSelectedWeightedAndKept) {
  const RecurrentState state{torch::arange(6, torch::kFloat).view({3, 2}), torch::ones({3, 2})};
  const torch::Tensor rows = torch::tensor({2, 0});
  const RecurrentState some = state.select(rows).weighted(torch::tensor({{2.0f}, {10.0f}}));
  EXPECT_TRUE(some.hidden.equal(torch::tensor({{8.0f, 10.0f}, {0.0f, 10.0f}})));
  const RecurrentState sum = some.plus_weighted(torch::tensor({{2.0f}, {1.0f}}), state.select(rows));
  EXPECT_TRUE(sum.hidden.equal(torch::tensor({{16.0f, 20.0f}, {0.0f, 11.0f}})));
  EXPECT_TRUE(sum.cell.equal(torch::tensor({{4.0f, 4.0f}, {11.0f, 11.0f}})));
  EXPECT_TRUE(state.keep({0, 2}).hidden.equal(torch::tensor({{0.0f, 1.0f}, {4.0f, 5.0f}})));
}

TEST(RecurrentCellNamesTest, AreKnown) {
  EXPECT_EQ(parse_cell("lstm"), Kind::kLstm);
  EXPECT_EQ(error_of([] { parse_cell("tanh"); }), "recurrent cell: expected rnn, gru or lstm, got \"tanh\"");
  EXPECT_EQ(RecurrentCell(Kind::kRnn, 3, 5).zero_state(2).hidden.sizes(), (at::IntArrayRef{2, 5}));
}

}  // namespace
}  // namespace adatape
