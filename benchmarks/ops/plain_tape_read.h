// Adaptive tape reading as one would write it in a model with plain ATen calls: what the benchmarks compare with.
#pragma once

#include <torch/types.h>

#include <cmath>
#include <vector>

namespace adatape::ops {

struct PlainReading {
  int64_t batch, rows, width, key_width, steps, rows_per_step;
  double threshold;
};

struct Answer {
  at::Tensor tokens, lengths, ponder;  // [B, T, D], [B], [B]
};

// Every example runs every step until all have halted; rows read are pushed down by 1e9.
inline Answer read_plainly(const at::Tensor& raw_query, const at::Tensor& raw_bank, const at::Tensor& weight, const at::Tensor& bias,
                           const PlainReading& reading) {
  at::Tensor query = at::layer_norm(raw_query, {reading.width}, weight, bias, 1e-6).narrow(1, 0, reading.key_width);
  const at::Tensor bank = at::layer_norm(raw_bank, {reading.width}, weight, bias, 1e-6);
  const at::Tensor keys = bank.narrow(2, 0, reading.key_width);
  const auto real = at::TensorOptions(raw_query.device());
  at::Tensor mask = at::zeros({reading.batch, reading.rows}, real), h = at::zeros({reading.batch}, real);
  at::Tensor lengths = at::zeros({reading.batch}, real), ponder = at::zeros({reading.batch}, real);
  std::vector<at::Tensor> tokens;
  for (int64_t t = 0; t < reading.steps; ++t) {
    const at::Tensor running = (h < reading.threshold - 1e-5).to(at::kFloat);
    if (running.sum().item<float>() == 0) break;
    const at::Tensor scores = at::einsum("bd,bmd->bm", {query, keys});
    const at::Tensor best = std::get<1>((scores.detach() - mask * 1e9).topk(reading.rows_per_step, 1));
    const at::Tensor w = (scores.gather(1, best) / std::sqrt(static_cast<double>(reading.key_width))).softmax(-1);
    const at::Tensor rows = bank.gather(1, best.unsqueeze(2).expand({-1, -1, reading.width}));
    const at::Tensor token = (rows * w.unsqueeze(2)).sum(1) * running.unsqueeze(1).to(rows.scalar_type());
    ponder = ponder + running * (1 - (w * w).sum(-1));
    h = h + w.select(1, 0).detach() * running;
    lengths = lengths + running;
    mask = mask.scatter(1, best, 1.0);
    tokens.push_back(token);
    query = (query + token.narrow(1, 0, reading.key_width)) / 2;
  }
  while (static_cast<int64_t>(tokens.size()) < reading.steps) tokens.push_back(at::zeros_like(tokens[0]));
  return {at::stack(tokens, 1), lengths.to(at::kLong), ponder};
}

}  // namespace adatape::ops
