// adatape::tape_read in plain ATen, all examples at once: the oracle of the tests, and the kernel of devices and dtypes without one of
// their own. Ragged banks are padded to the longest; padding is a row that does not exist.
#include <ATen/ops/_softmax.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/sort.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <cmath>
#include <limits>

#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::ops {
namespace {

// Where each example's rows lie in the bank.
struct RowTable {
  at::Tensor rows;    // [B, L] int64 row of the bank; a valid row (or 0) also where none exists
  at::Tensor exists;  // [B, L] bool
};

RowTable row_table(const TapeReadInputs& inputs) {
  const int64_t batch = inputs.query.size(0), bank_rows = inputs.bank.size(0);
  const at::TensorOptions integer = inputs.query.options().dtype(at::kLong);
  RowTable table;
  if (inputs.bank_offsets) {
    check_bank_offsets(inputs.bank_offsets->cpu(), bank_rows);
    const at::Tensor starts = inputs.bank_offsets->narrow(0, 0, batch).unsqueeze(1);
    const at::Tensor sizes = inputs.bank_offsets->narrow(0, 1, batch).unsqueeze(1) - starts;
    const at::Tensor within = at::arange(batch > 0 ? sizes.max().item<int64_t>() : 0, integer).unsqueeze(0);
    table.exists = within < sizes;
    table.rows = (starts + within).masked_fill(~table.exists, 0);
    if (inputs.bank_mask && bank_rows > 0) table.exists = table.exists & inputs.bank_mask->take(table.rows);
  } else {
    table.rows = at::arange(bank_rows, integer).unsqueeze(0).expand({batch, bank_rows});
    table.exists = inputs.bank_mask ? *inputs.bank_mask : at::zeros({batch, bank_rows}, integer.dtype(at::kBool)).logical_not();
  }
  return table;
}

// Minus the place of each row in `order`, as scores [B, L]: the best unread row is the next one.
at::Tensor order_scores(const TapeReadInputs& inputs, const RowTable& table, at::ScalarType type) {
  const std::optional<at::Tensor> offsets = inputs.bank_offsets ? std::optional(inputs.bank_offsets->cpu()) : std::nullopt;
  check_order(inputs.order->cpu(), offsets);
  const at::Tensor places = at::arange(table.rows.size(1), table.rows.options()).expand_as(table.rows);
  at::Tensor order = *inputs.order;
  if (inputs.bank_offsets) {  // padding keeps its place, behind every row
    const at::Tensor sizes =
        (inputs.bank_offsets->narrow(0, 1, table.rows.size(0)) - inputs.bank_offsets->narrow(0, 0, table.rows.size(0)));
    const at::Tensor inside = places < sizes.unsqueeze(1);
    order = inputs.order->numel() > 0 ? at::where(inside, inputs.order->take(table.rows), places) : places;
  }
  return -at::zeros_like(table.rows).scatter(1, order, places).to(type);
}

// The `count` best rows of each example [B, count]: available before unavailable, numbers before NaN, high before low, low index before
// high.
at::Tensor best_rows(const at::Tensor& scores, const at::Tensor& available, int64_t count) {
  const at::Tensor by_score = std::get<1>(at::sort(-scores, /*stable=*/true, /*dim=*/1, /*descending=*/false));  // NaN is last
  const at::Tensor missing = available.logical_not().gather(1, by_score).to(at::kByte);
  const at::Tensor available_first = std::get<1>(at::sort(missing, /*stable=*/true, /*dim=*/1, /*descending=*/false));
  return by_score.gather(1, available_first.narrow(1, 0, count));
}

// x^ and 1 / sigma of LayerNorm over the last dimension.
std::pair<at::Tensor, at::Tensor> normalised(const at::Tensor& values, double epsilon) {
  const at::Tensor centred = values - values.mean(-1, /*keepdim=*/true);
  const at::Tensor inverse_deviation = ((centred * centred).mean(-1, /*keepdim=*/true) + epsilon).rsqrt();
  return {centred * inverse_deviation, inverse_deviation};
}

// Gradient of LayerNorm's input from that of its output.
at::Tensor norm_backward(const at::Tensor& grad, const at::Tensor& scaled, const at::Tensor& inverse_deviation, const at::Tensor& weight) {
  const at::Tensor grad_scaled = grad * weight;
  return inverse_deviation *
         (grad_scaled - grad_scaled.mean(-1, /*keepdim=*/true) - scaled * (grad_scaled * scaled).mean(-1, /*keepdim=*/true));
}

}  // namespace

TapeReadResult tape_read_forward_reference(const TapeReadInputs& inputs, const TapeReadOptions& options) {
  const int64_t batch = inputs.query.size(0), width = inputs.query.size(1), d = options.key_width;
  const int64_t steps = options.max_steps, rows_per_step = options.rows_per_step;
  const at::ScalarType type = tape_read_compute_type(inputs.query.scalar_type());
  const at::TensorOptions compute = inputs.query.options().dtype(type), integer = compute.dtype(at::kLong);
  if (inputs.step_limits) check_step_limits(inputs.step_limits->cpu(), steps);
  const RowTable table = row_table(inputs);

  const at::Tensor weight = inputs.norm_weight.to(type), bias = inputs.norm_bias.to(type);
  const at::Tensor rows = at::layer_norm(inputs.bank.to(type), {width}, weight, bias, options.norm_epsilon);
  at::Tensor query = at::layer_norm(inputs.query.to(type), {width}, weight, bias, options.norm_epsilon).narrow(1, 0, d);
  if (inputs.query_offset) query = query + inputs.query_offset->to(type);
  const at::Tensor thresholds =
      (inputs.thresholds ? inputs.thresholds->to(at::kDouble) : at::full({batch}, options.threshold, compute.dtype(at::kDouble))) - 1e-5;
  const at::Tensor limits = inputs.step_limits ? *inputs.step_limits : at::full({batch}, steps, integer);
  at::Tensor scores, keys;
  if (inputs.order) {
    scores = order_scores(inputs, table, type);
  } else {
    keys = rows.narrow(1, 0, d);
    keys = inputs.bank_offsets && rows.size(0) > 0 ? keys.index_select(0, table.rows.reshape(-1)).view({batch, -1, d}) : keys.unsqueeze(0);
  }

  at::Tensor tokens = at::zeros({batch, steps, width}, compute), weights = at::zeros({batch, steps, rows_per_step}, compute);
  at::Tensor indices = at::full({batch, steps, rows_per_step}, -1, integer), halting = at::zeros({batch, steps}, compute);
  at::Tensor lengths = at::zeros({batch}, integer), ponder = at::zeros({batch}, compute), h = at::zeros({batch}, compute);
  at::Tensor available = table.exists;
  const int64_t count = std::min(rows_per_step, table.rows.size(1));
  at::Tensor running = (limits > 0) & available.any(1);
  for (int64_t t = 0; t < steps && count > 0 && batch > 0; ++t) {
    if (!running.any().item<bool>()) break;
    // Never a matrix product here: its summation order differs from row to row, and identical rows must score identical bits.
    if (!inputs.order) scores = (keys * query.unsqueeze(1)).sum(-1);           // [B, L]
    const at::Tensor best = best_rows(scores, available, count);               // [B, count]
    const at::Tensor read = available.gather(1, best) & running.unsqueeze(1);  // [B, count]
    at::Tensor w;
    if (inputs.order) {
      w = read.to(type) / read.sum(1, /*keepdim=*/true).clamp_min(1);
    } else {
      const double unread = -std::numeric_limits<double>::infinity();
      w = at::_softmax(scores.gather(1, best).mul(1 / std::sqrt(static_cast<double>(d))).masked_fill(~read, unread), 1, false);
      w = w.masked_fill(~read, 0);
    }
    at::Tensor values = rows.index_select(0, table.rows.gather(1, best).view(-1)).view({batch, count, width});
    values = values.masked_fill(~read.unsqueeze(2), 0);  // a NaN in a row that is not read is nobody's business
    const at::Tensor merged = (values * w.unsqueeze(2)).sum(1);

    const at::Tensor first = w.select(1, 0);
    tokens.select(1, t).copy_(merged);
    weights.select(1, t).narrow(1, 0, count).copy_(w);
    indices.select(1, t).narrow(1, 0, count).copy_(best.masked_fill(~read, -1));
    ponder = at::where(running, ponder + (1 - (options.ponder == "entropy" ? (w * w).sum(1) : first)), ponder);
    lengths = lengths + running;
    h = at::where(running, h + first, h);
    halting.select(1, t).copy_(h.masked_fill(~running, 0));
    const at::Tensor key = merged.narrow(1, 0, d);
    query = options.query_update == "average" ? (query + key) / 2 : key;
    available = available.scatter(1, best, available.gather(1, best) & ~read);
    running = running & ~(h.to(at::kDouble) >= thresholds) & (limits > t + 1) & available.any(1);
  }
  return {tokens.to(inputs.query.scalar_type()), weights, indices, lengths, ponder, halting};
}

TapeReadGradients tape_read_backward_reference(const TapeReadBackwardInputs& inputs, const TapeReadBackwardOptions& options) {
  const int64_t batch = inputs.weights.size(0), steps = inputs.weights.size(1), rows_per_step = inputs.weights.size(2);
  const int64_t width = inputs.bank.size(1), d = options.key_width;
  const at::ScalarType type = tape_read_compute_type(inputs.query.scalar_type());
  const at::Tensor weight = inputs.norm_weight.to(type), bias = inputs.norm_bias.to(type);
  const bool average = options.query_update == "average";

  const at::Tensor read = inputs.indices >= 0;                                                         // [B, T, K]
  const at::Tensor taken = at::arange(steps, inputs.lengths.options()) < inputs.lengths.unsqueeze(1);  // [B, T]
  at::Tensor rows = inputs.indices;
  if (inputs.bank_offsets) rows = rows + inputs.bank_offsets->narrow(0, 0, batch).view({batch, 1, 1});
  const at::Tensor places = read.view(-1).nonzero().view(-1);             // [read rows] in [B T K]
  const at::Tensor read_rows = rows.reshape(-1).index_select(0, places);  // [read rows] in the bank
  const auto [read_scaled, read_inverse_deviation] = normalised(inputs.bank.index_select(0, read_rows).to(type), options.norm_epsilon);
  const auto [query_scaled, query_inverse_deviation] = normalised(inputs.query.to(type), options.norm_epsilon);
  const at::Tensor values = at::zeros({batch * steps * rows_per_step, width}, weight.options())
                                .index_copy(0, places, read_scaled * weight + bias)
                                .view({batch, steps, rows_per_step, width});
  const at::Tensor w = inputs.weights.to(type).masked_fill(~read, 0);

  // The queries again, first to last.
  const at::Tensor keys = values.narrow(3, 0, d);
  std::vector<at::Tensor> queries{(query_scaled * weight + bias).narrow(1, 0, d)};
  if (inputs.query_offset) queries.front() = queries.front() + inputs.query_offset->to(type);
  for (int64_t t = 0; t + 1 < steps; ++t) {
    const at::Tensor key = (keys.select(1, t) * w.select(1, t).unsqueeze(2)).sum(1);
    queries.push_back(average ? (queries[t] + key) / 2 : key);
  }

  const double scale = 1 / std::sqrt(static_cast<double>(d));
  at::Tensor grad_values = at::zeros_like(values);                      // [B, T, K, D]
  at::Tensor grad_key_query = at::zeros({batch, d}, weight.options());  // of the query after step t
  for (int64_t t = steps - 1; t >= 0; --t) {
    const at::Tensor step_taken = taken.select(1, t).unsqueeze(1), step_read = read.select(1, t), step_w = w.select(1, t);
    at::Tensor grad_token = inputs.grad_tokens ? inputs.grad_tokens->select(1, t).to(type).masked_fill(~step_taken, 0)
                                               : at::zeros({batch, width}, weight.options());
    if (options.fixed_order) {
      grad_values.select(1, t).copy_(step_w.unsqueeze(2) * grad_token.unsqueeze(1));
      continue;
    }
    grad_token = grad_token.clone();
    grad_token.narrow(1, 0, d).add_(grad_key_query, average ? 0.5 : 1.0);
    at::Tensor grad_w = (values.select(1, t) * grad_token.unsqueeze(1)).sum(2);
    if (inputs.grad_weights) grad_w = grad_w + inputs.grad_weights->select(1, t).to(type);
    if (inputs.grad_ponder) {
      const at::Tensor grad_ponder = inputs.grad_ponder->to(type).unsqueeze(1);
      if (options.ponder == "entropy") {
        grad_w = grad_w - 2 * step_w * grad_ponder;
      } else {
        grad_w.select(1, 0).sub_(grad_ponder.squeeze(1));
      }
    }
    grad_w = grad_w.masked_fill(~step_read, 0);
    const at::Tensor grad_scores = step_w * (grad_w - (step_w * grad_w).sum(1, /*keepdim=*/true)) * scale;
    grad_values.select(1, t).copy_(step_w.unsqueeze(2) * grad_token.unsqueeze(1));
    grad_values.select(1, t).narrow(2, 0, d).add_(grad_scores.unsqueeze(2) * queries[t].unsqueeze(1));
    const at::Tensor from_scores = (grad_scores.unsqueeze(2) * keys.select(1, t)).sum(1);
    grad_key_query = at::where(step_taken, from_scores + (average ? grad_key_query * 0.5 : at::zeros_like(grad_key_query)), grad_key_query);
  }

  const at::Tensor grad_read = grad_values.view({-1, width}).index_select(0, places);
  at::Tensor grad_query_values = at::zeros({batch, width}, weight.options());
  grad_query_values.narrow(1, 0, d).copy_(grad_key_query);
  const at::Tensor grad_query = norm_backward(grad_query_values, query_scaled, query_inverse_deviation, weight);
  const at::Tensor grad_norm_weight = (grad_read * read_scaled).sum(0) + (grad_query_values * query_scaled).sum(0);
  const at::Tensor grad_norm_bias = grad_read.sum(0) + grad_query_values.sum(0);

  at::Tensor grad_bank = at::zeros(inputs.bank.sizes(), weight.options());
  const at::Tensor grad_rows = norm_backward(grad_read, read_scaled, read_inverse_deviation, weight);
  // Each device's way to add rows in a fixed order: the other call of the two is atomic there.
  if (inputs.bank.is_cuda()) {
    grad_bank.index_put_({read_rows}, grad_rows, /*accumulate=*/true);
  } else {
    grad_bank.index_add_(0, read_rows, grad_rows);
  }
  return {grad_query.to(inputs.query.scalar_type()), grad_bank.to(inputs.bank.scalar_type()),
          grad_norm_weight.to(inputs.norm_weight.scalar_type()), grad_norm_bias.to(inputs.norm_bias.scalar_type())};
}

}  // namespace adatape::ops
