// Adaptive tape reading (ATR): selects, for each example, a variable number of tape tokens from a bank.
// Source: arXiv 2301.13195, section 3; the steps are those of docs/adatape.md.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace adatape::ops {

// Registered as torch.ops.adatape.tape_read with this schema:
//
//   tape_read(Tensor query, Tensor bank, Tensor? bank_offsets, Tensor norm_weight, Tensor norm_bias, *,
//             int key_width, int max_steps, int rows_per_step, float threshold,
//             Tensor? thresholds=None, Tensor? step_limits=None, Tensor? bank_mask=None, Tensor? order=None, Tensor? query_offset=None,
//             str query_update="average", str ponder="entropy", float norm_epsilon=1e-6)
//     -> (Tensor tokens, Tensor weights, Tensor indices, Tensor lengths, Tensor ponder, Tensor halting)
//
// query         [B, D] float: raw query; normalised here by the same LayerNorm as the bank.
// bank          packed [R, D] with bank_offsets [B + 1] int64 (input-driven, ragged), or shared [M, D] without offsets (learnable).
// norm_weight, norm_bias [D].
// key_width     d: the first d features of the normalised rows are keys (1 <= d <= D).
// max_steps     T; rows_per_step K.
// threshold     tau; an example halts after the step at which h >= tau - 1e-5. +infinity: halting by steps and bank only.
// thresholds    [B] float: a threshold for each example instead (not differentiated).
// step_limits   [B] int64: longest tape of each example, <= max_steps.
// bank_mask     bool, [R] packed or [B, M] shared: false rows do not exist for that example.
// order         int64 [R] packed or [B, M] shared: selection without a query (controls): for each example a permutation of its rows
//               (indices from 0 within the example); step t reads the next K existing rows in that order, merged with equal weights
//               1/count.
// query_offset  [B, d] float: added to the key features of the normalised query before the first step, such as noise on it (a constant:
//               not differentiated).
// query_update  "average": q <- (q + z[:d]) / 2; "replace": q <- z[:d].
// ponder        "entropy": 1 - sum w^2, "max": 1 - max w, summed over steps taken.
//
// Returns, with n = lengths[b]:
// tokens  [B, T, D] merged normalised rows, 0 from step n on          (differentiable)
// weights [B, T, K] softmax weights, sorted descending, 0 = not read  (differentiable)
// indices [B, T, K] int64, row within the example, -1 = not read
// lengths [B] int64, steps taken; 0 for an empty bank
// ponder  [B]                                                         (differentiable)
// halting [B, T] h after each step, 0 from step n on
//
// Selection: the min(K, rows left) best scores q . k among unread rows, ties towards the lower index; identical rows score identical
// bits; NaN scores rank below all others. No gradient passes top-k, halting or lengths. The gradient of the bank is nonzero at rows that
// were read only; saved for it beyond inputs and outputs: nothing (the outputs are O(B T K) and the tokens).
// Cost: about 5 M D (norm statistics) + n 2 M d (scores) + n 2 K D (merge) FLOPs an example.
// Throws Error on shapes or dtypes that do not fit, naming both.
using TapeReadResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

struct TapeReadOptions {
  int64_t key_width = 0;
  int64_t max_steps = 10;
  int64_t rows_per_step = 5;
  double threshold = 2.0;
  std::string query_update = "average";
  std::string ponder = "entropy";
  double norm_epsilon = 1e-6;
};

// Calls the registered op through the dispatcher (autograd included).
TapeReadResult tape_read(const at::Tensor& query, const at::Tensor& bank, const std::optional<at::Tensor>& bank_offsets,
                         const at::Tensor& norm_weight, const at::Tensor& norm_bias, const TapeReadOptions& options,
                         const std::optional<at::Tensor>& thresholds = std::nullopt,
                         const std::optional<at::Tensor>& step_limits = std::nullopt,
                         const std::optional<at::Tensor>& bank_mask = std::nullopt, const std::optional<at::Tensor>& order = std::nullopt,
                         const std::optional<at::Tensor>& query_offset = std::nullopt);

}  // namespace adatape::ops
