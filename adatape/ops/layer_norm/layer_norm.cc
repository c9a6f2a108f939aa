#include "adatape/ops/layer_norm/layer_norm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_simd.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/plain_calls.h"

namespace adatape::ops {
namespace cpu {
namespace {

// Rows of `dim` floats. statistics holds each row's mean and 1 / sigma.
struct Forward {
  int64_t dim;
  const float *x, *weight, *bias;  // bias null: none
  float epsilon;
  float *out, *statistics;  // statistics null: nobody needs them
};

struct Backward {
  int64_t dim;
  const float *grad, *x, *weight, *statistics;
  float *of_x, *of_weight, *of_bias;  // of_x null: not wanted; the others get the sums over the rows
};

template <class S>
ADATAPE_ALWAYS_INLINE void forward_rows(const Forward& task, int64_t begin, int64_t end) {
  using F = typename S::Floats;
  const int64_t dim = task.dim, whole = dim / S::kLanes * S::kLanes;
  for (int64_t r = begin; r < end; ++r) {
    const float* const x = task.x + r * dim;
    float* const out = task.out + r * dim;
    F sums{}, squares{}, v, w, b{};
    for (int64_t c = 0; c < dim; c += S::kLanes) {
      load_part<S>(v, x + c, dim - c);
      sums += v;
    }
    const float mean = sum_of_lanes(sums) / static_cast<float>(dim);
    for (int64_t c = 0; c < whole; c += S::kLanes) {
      S::load(v, x + c);
      v -= mean;
      squares += v * v;
    }
    if (whole < dim) {
      load_part<S>(v, x + whole, dim - whole, mean);
      v -= mean;
      squares += v * v;
    }
    const float scale = 1 / std::sqrt(sum_of_lanes(squares) / static_cast<float>(dim) + task.epsilon);
    for (int64_t c = 0; c < dim; c += S::kLanes) {
      load_part<S>(v, x + c, dim - c);
      load_part<S>(w, task.weight + c, dim - c);
      if (task.bias != nullptr) load_part<S>(b, task.bias + c, dim - c);
      store_part<S>(out + c, (v - mean) * scale * w + b, dim - c);
    }
    if (task.statistics != nullptr) {
      task.statistics[2 * r] = mean;
      task.statistics[2 * r + 1] = scale;
    }
  }
}

template <class S>
ADATAPE_ALWAYS_INLINE void backward_rows(const Backward& task, int64_t begin, int64_t end, float* of_weight, float* of_bias) {
  using F = typename S::Floats;
  const int64_t dim = task.dim;
  for (int64_t r = begin; r < end; ++r) {
    const float *const x = task.x + r * dim, *const grad = task.grad + r * dim;
    const float mean = task.statistics[2 * r], scale = task.statistics[2 * r + 1];
    F through{}, along{}, g, v, w, sum;
    for (int64_t c = 0; c < dim; c += S::kLanes) {
      load_part<S>(g, grad + c, dim - c);
      load_part<S>(v, x + c, dim - c);
      load_part<S>(w, task.weight + c, dim - c);
      v = (v - mean) * scale;
      const F gv = g * v;
      load_part<S>(sum, of_weight + c, dim - c);
      sum += gv;
      store_part<S>(of_weight + c, sum, dim - c);
      load_part<S>(sum, of_bias + c, dim - c);
      sum += g;
      store_part<S>(of_bias + c, sum, dim - c);
      through += g * w;
      along += gv * w;
    }
    if (task.of_x == nullptr) continue;
    float* const of_x = task.of_x + r * dim;
    const float m = sum_of_lanes(through) / static_cast<float>(dim), n = sum_of_lanes(along) / static_cast<float>(dim);
    for (int64_t c = 0; c < dim; c += S::kLanes) {
      load_part<S>(g, grad + c, dim - c);
      load_part<S>(v, x + c, dim - c);
      load_part<S>(w, task.weight + c, dim - c);
      v = (v - mean) * scale;
      store_part<S>(of_x + c, (g * w - m - v * n) * scale, dim - c);
    }
  }
}

ADATAPE_CPU_CLONES void forward_narrow(const Forward& task, int64_t begin, int64_t end) { forward_rows<Simd<8>>(task, begin, end); }
ADATAPE_CPU_AVX512 void forward_wide(const Forward& task, int64_t begin, int64_t end) { forward_rows<Simd<16>>(task, begin, end); }
ADATAPE_CPU_CLONES void backward_narrow(const Backward& task, int64_t begin, int64_t end, float* of_weight, float* of_bias) {
  backward_rows<Simd<8>>(task, begin, end, of_weight, of_bias);
}
ADATAPE_CPU_AVX512 void backward_wide(const Backward& task, int64_t begin, int64_t end, float* of_weight, float* of_bias) {
  backward_rows<Simd<16>>(task, begin, end, of_weight, of_bias);
}

bool wide(int64_t dim, int vector_bytes) { return has_avx512() && vector_bytes != 32 && dim > 8; }

void forward(const Forward& task, int64_t rows, int vector_bytes) {
  if (wide(task.dim, vector_bytes)) {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kNorms, "by rows", 16));
  } else {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kNorms, "by rows", 8));
  }
  const auto run = wide(task.dim, vector_bytes) ? forward_wide : forward_narrow;
  at::parallel_for(0, rows, grain(task.dim), [&](int64_t begin, int64_t end) { run(task, begin, end); });
}

void backward(const Backward& task, int64_t rows, int vector_bytes) {
  // Parts of the rows add up for themselves, and then in their order, whoever did them.
  constexpr int64_t kPartElements = 1 << 16;
  const int64_t dim = task.dim, part = std::max<int64_t>(1, kPartElements / std::max<int64_t>(1, dim)), parts = (rows + part - 1) / part;
  const at::Tensor sums = at::zeros({std::max<int64_t>(parts, 1), 2, dim}, at::kFloat);
  float* const first = sums.mutable_data_ptr<float>();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* const own = first + i * 2 * dim;
      (wide(dim, vector_bytes) ? backward_wide : backward_narrow)(task, i * part, std::min(rows, (i + 1) * part), own, own + dim);
    }
  });
  for (int64_t i = 1; i < parts; ++i) {
    for (int64_t c = 0; c < 2 * dim; ++c) first[c] += first[i * 2 * dim + c];
  }
  std::copy_n(first, dim, task.of_weight);
  std::copy_n(first + dim, dim, task.of_bias);
}

}  // namespace
}  // namespace cpu

namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kComponent[] = "layer_norm";

// x, weight contiguous. statistics [rows, 2] or undefined.
at::Tensor normed(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double epsilon, const at::Tensor& statistics,
                  int vector_bytes) {
  at::Tensor out = at::empty_like(x, at::MemoryFormat::Contiguous);
  const int64_t dim = weight.numel();
  cpu::forward(
      {dim, x.const_data_ptr<float>(), weight.const_data_ptr<float>(), bias.defined() ? bias.const_data_ptr<float>() : nullptr,
       static_cast<float>(epsilon), out.mutable_data_ptr<float>(), statistics.defined() ? statistics.mutable_data_ptr<float>() : nullptr},
      x.numel() / dim, vector_bytes);
  return out;
}

// The gradients by plain calls, which can be differentiated again.
variable_list plain_gradients(const at::Tensor& grad, const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::Tensor centred = x - x.mean(-1, true), scale = (centred.square().mean(-1, true) + epsilon).rsqrt(), unit = centred * scale,
                   through = grad * weight;
  const int64_t dim = weight.numel();
  return {(through - through.mean(-1, true) - unit * (through * unit).mean(-1, true)) * scale, (grad * unit).reshape({-1, dim}).sum(0),
          grad.reshape({-1, dim}).sum(0)};
}

class LayerNormFunction : public torch::autograd::Function<LayerNormFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            double epsilon, int64_t vector_bytes) {
    at::AutoDispatchBelowAutograd guard;
    const at::Tensor statistics = at::empty({x.numel() / weight.numel(), 2}, x.options());
    context->save_for_backward({x, weight});
    context->saved_data["statistics"] = statistics;
    context->saved_data["bias"] = bias.has_value();
    context->saved_data["epsilon"] = epsilon;
    context->saved_data["vector_bytes"] = vector_bytes;
    return normed(x, weight, bias.value_or(at::Tensor()), epsilon, statistics, static_cast<int>(vector_bytes));
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const bool bias = context->saved_data["bias"].toBool();
    if (at::GradMode::is_enabled()) {
      const variable_list all = plain_gradients(grads[0], x, weight, context->saved_data["epsilon"].toDouble());
      return {all[0], all[1], bias ? all[2] : at::Tensor(), at::Tensor(), at::Tensor()};
    }
    at::AutoDispatchBelowAutograd guard;
    const at::Tensor grad = grads[0].contiguous(), statistics = context->saved_data["statistics"].toTensor();
    at::Tensor of_x, of_weight = at::empty_like(weight), of_bias = at::empty_like(weight);
    if (context->needs_input_grad(0)) of_x = at::empty_like(x);
    cpu::backward({weight.numel(), grad.const_data_ptr<float>(), x.const_data_ptr<float>(), weight.const_data_ptr<float>(),
                   statistics.const_data_ptr<float>(), of_x.defined() ? of_x.mutable_data_ptr<float>() : nullptr,
                   of_weight.mutable_data_ptr<float>(), of_bias.mutable_data_ptr<float>()},
                  statistics.size(0), static_cast<int>(context->saved_data["vector_bytes"].toInt()));
    return {of_x, of_weight, bias ? of_bias : at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

bool has_layer_norm(const at::Tensor& x, const at::Tensor& weight) {
  return !plain_calls() && x.is_cpu() && x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat;
}

at::Tensor layer_norm(const at::Tensor& given, const at::Tensor& weight, const at::Tensor& bias, double epsilon, int vector_bytes) {
  for (const auto& [name, tensor] : {std::pair<const char*, const at::Tensor&>{"x", given}, {"weight", weight}, {"bias", bias}}) {
    ADATAPE_CHECK(!tensor.defined() || (tensor.is_cpu() && tensor.scalar_type() == at::kFloat), kComponent, "expected ", name,
                  " of float32 on the CPU, got ", tensor.toString());
  }
  ADATAPE_CHECK(weight.dim() == 1 && weight.numel() > 0 && weight.is_contiguous(), kComponent,
                "expected a contiguous weight [dim] with dim > 0, got ", weight.sizes());
  ADATAPE_CHECK(given.dim() >= 1 && given.size(-1) == weight.numel(), kComponent, "expected x [..., ", weight.numel(), "], got ",
                given.sizes());
  ADATAPE_CHECK(!bias.defined() || (bias.sizes() == weight.sizes() && bias.is_contiguous()), kComponent, "expected a contiguous bias [",
                weight.numel(), "], got ", bias.sizes());
  const at::Tensor x = given.contiguous();
  const bool graph =
      at::GradMode::is_enabled() && (x.requires_grad() || weight.requires_grad() || (bias.defined() && bias.requires_grad()));
  if (!graph) return normed(x, weight, bias, epsilon, {}, vector_bytes);
  return LayerNormFunction::apply(x, weight, bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt, epsilon,
                                  static_cast<int64_t>(vector_bytes));
}

}  // namespace adatape::ops
