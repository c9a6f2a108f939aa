#include "adatape/ops/dense_mlp/dense_mlp.h"

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/glu.h>
#include <ATen/ops/linear.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "adatape/core/check.h"
#include "adatape/ops/activation.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/dense_linear/dense_linear.h"
#include "adatape/ops/dense_linear/matrix_product.h"
#include "adatape/ops/kernel_record.h"

namespace adatape::ops {
namespace {

using cpu::Matrix;
using cpu::RightFactor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr char kComponent[] = "dense_mlp";

std::optional<at::Tensor> optional(const at::Tensor& bias) { return bias.defined() ? std::optional<at::Tensor>(bias) : std::nullopt; }

Matrix rows_of(const at::Tensor& x, int64_t first = 0) {
  return {x.const_data_ptr<float>() + first * x.stride(0), x.stride(0), x.stride(1)};
}
Matrix transposed(const Matrix& x) { return {x.data, x.column, x.row}; }

// The networks as numbers.
struct Networks {
  Networks(const MlpWeights& weights, std::vector<int64_t> offsets_, int64_t rows, MlpActivation activation_)
      : offsets(offsets_.empty() ? std::vector<int64_t>{0, rows} : std::move(offsets_)),
        activation(activation_),
        dim(weights.expand.size(-1)),
        inner(weights.contract.size(-1)),
        wide(weights.expand.size(-2)),
        weights_(weights) {}

  size_t groups() const { return offsets.size() - 1; }
  int64_t rows_of_group(size_t g) const { return offsets[g + 1] - offsets[g]; }
  Matrix expand(size_t g) const { return matrix(weights_.expand, g); }
  Matrix contract(size_t g) const { return matrix(weights_.contract, g); }

  std::vector<int64_t> offsets;
  MlpActivation activation;
  int64_t dim, inner, wide;

 private:
  static Matrix matrix(const at::Tensor& weight, size_t g) {
    const int64_t first = weight.dim() == 3 ? static_cast<int64_t>(g) * weight.stride(0) : 0;
    return {weight.const_data_ptr<float>() + first, weight.stride(-2), weight.stride(-1)};
  }
  const MlpWeights& weights_;
};

// Memory that a thread keeps. Slot 0 holds what all threads read, slot 1 what one makes of a part of the rows.
float* own_memory(int slot, int64_t elements) {
  static thread_local std::vector<float> memory[2];
  return cpu::aligned(memory[slot], elements);
}

// Right factors of a layer for the groups of a batch, for all threads to read; of a group without rows, none.
template <class Factor>
std::vector<RightFactor> lay_out(const Networks& networks, size_t first, size_t last, int64_t depth, int64_t columns, Factor factor,
                                 float*& memory) {
  std::vector<RightFactor> factors;
  for (size_t g = first; g < last; ++g) {
    factors.push_back(networks.rows_of_group(g) > 0 ? cpu::lay_out(depth, columns, factor(g), memory) : RightFactor{});
    if (networks.rows_of_group(g) > 0) memory += cpu::right_factor_elements(depth, columns);
  }
  return factors;
}

// run(first, last, memory) for batches of groups: as many as have rows and weights of `elements` floats each that fit 64 MB, or one.
template <class Run>
void for_batches(const Networks& networks, int64_t elements, Run run) {
  const int64_t most = std::max<int64_t>(1, (int64_t{1} << 24) / std::max<int64_t>(elements, 1));
  for (size_t first = 0, last; first < networks.groups(); first = last) {
    int64_t count = 0;
    for (last = first; last < networks.groups() && (count < most || networks.rows_of_group(last) == 0); ++last)
      count += networks.rows_of_group(last) > 0;
    run(first, last, own_memory(0, count * elements));
  }
}

// run(g, first row, rows) for parts of the groups first .. last - 1. A part's wide rows and activations take half of a megabyte at most
// (more where 24 rows do), so that they stay in the second-level cache.
template <class Run>
void for_parts(const Networks& networks, size_t first_group, size_t last_group, Run run) {
  constexpr int64_t kWorthAThread = 1 << 17, kElements = 1 << 16;
  const int64_t work = networks.dim * (networks.wide + networks.inner) + 1;
  const int64_t part = std::clamp<int64_t>(kElements / (networks.wide + 1) / 12 * 12, 24, 384);
  at::parallel_for(networks.offsets[first_group], networks.offsets[last_group], kWorthAThread / work + 1, [&](int64_t begin, int64_t end) {
    for (size_t g = first_group; g < last_group; ++g) {
      const int64_t last = std::min(end, networks.offsets[g + 1]);
      for (int64_t first = std::max(begin, networks.offsets[g]); first < last; first += part) run(g, first, std::min(part, last - first));
    }
  });
}

// source: the row of x of each; empty: as they lie. wide [rows, m or 2 m] and activated [rows, m] are kept for the gradient (of a gate,
// sigmoid(g) in g's place); undefined: nobody needs them.
at::Tensor forward_pass(const at::Tensor& x, const std::vector<int64_t>& source, const Networks& networks, const MlpWeights& weights,
                        const at::Tensor& wide, const at::Tensor& activated) {
  const at::Tensor expand_bias = weights.expand_bias.defined() ? weights.expand_bias.contiguous() : at::Tensor(),
                   contract_bias = weights.contract_bias.defined() ? weights.contract_bias.contiguous() : at::Tensor();
  const int64_t dim = networks.dim, inner = networks.inner, width = networks.wide;
  at::Tensor out = at::empty({networks.offsets.back(), dim}, x.options());
  float *const to = out.mutable_data_ptr<float>(), *const kept_wide = wide.defined() ? wide.mutable_data_ptr<float>() : nullptr,
               *const kept_activated = wide.defined() ? activated.mutable_data_ptr<float>() : nullptr;
  const auto bias_of = [](const at::Tensor& bias, size_t g, int64_t size) {
    return bias.defined() ? bias.const_data_ptr<float>() + static_cast<int64_t>(g) * size : nullptr;
  };
  const int64_t elements = cpu::right_factor_elements(dim, width) + cpu::right_factor_elements(inner, dim);
  for_batches(networks, elements, [&](size_t begin, size_t end, float* memory) {
    const auto expand = [&](size_t g) { return transposed(networks.expand(g)); };
    const auto contract = [&](size_t g) { return transposed(networks.contract(g)); };
    const std::vector<RightFactor> first_layer = lay_out(networks, begin, end, dim, width, expand, memory),
                                   second_layer = lay_out(networks, begin, end, inner, dim, contract, memory);
    for_parts(networks, begin, end, [&](size_t g, int64_t first, int64_t rows) {
      float* const own = own_memory(1, rows * ((kept_wide == nullptr ? width + inner : 0) + (source.empty() ? 0 : dim)));
      float* const h = kept_wide == nullptr ? own : kept_wide + first * width;
      float* const a = kept_wide == nullptr ? h + rows * width : kept_activated + first * inner;
      Matrix given = rows_of(x, source.empty() ? first : 0);
      if (!source.empty()) {
        float* const gathered = kept_wide == nullptr ? a + rows * inner : own;
        for (int64_t r = 0; r < rows; ++r) {
          std::memcpy(gathered + r * dim, given.data + source[static_cast<size_t>(first + r)] * given.row,
                      static_cast<size_t>(dim) * sizeof(float));
        }
        given = {gathered, dim, 1};
      }
      cpu::multiply_rows(rows, given, first_layer[g - begin], bias_of(expand_bias, g, width), h);
      if (networks.activation == MlpActivation::kGated) {
        cpu::gate(h, rows, inner, a, kept_wide == nullptr ? nullptr : h + inner, width);
      } else {
        cpu::tanh_gelu(h, rows * inner, a);
      }
      cpu::multiply_rows(rows, {a, inner, 1}, second_layer[g - begin], bias_of(contract_bias, g, dim), to + first * dim);
    });
  });
  return out;
}

at::Tensor plain(const at::Tensor& x, const std::vector<int64_t>& offsets, const MlpWeights& weights, MlpActivation activation) {
  const auto network = [&](const at::Tensor& rows, const MlpWeights& w) {
    const at::Tensor h = at::linear(rows, w.expand, optional(w.expand_bias));
    return at::linear(activation == MlpActivation::kGated ? at::glu(h, 1) : at::gelu(h, "tanh"), w.contract, optional(w.contract_bias));
  };
  if (weights.expand.dim() == 2) return network(x, weights);
  const auto group = [](const at::Tensor& tensor, int64_t g) { return tensor.defined() ? tensor[g] : tensor; };
  variable_list answers;
  for (int64_t g = 0; g < weights.expand.size(0); ++g) {
    const MlpWeights own{group(weights.expand, g), group(weights.expand_bias, g), group(weights.contract, g),
                         group(weights.contract_bias, g)};
    answers.push_back(network(x.slice(0, offsets[static_cast<size_t>(g)], offsets[static_cast<size_t>(g) + 1]), own));
  }
  return at::cat(answers);
}

class DenseMlpFunction : public torch::autograd::Function<DenseMlpFunction> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& expand, const at::Tensor& contract,
                            const std::optional<at::Tensor>& expand_bias, const std::optional<at::Tensor>& contract_bias,
                            const std::vector<int64_t>& offsets, MlpActivation activation) {
    at::AutoDispatchBelowAutograd guard;
    const MlpWeights weights{expand, expand_bias.value_or(at::Tensor()), contract, contract_bias.value_or(at::Tensor())};
    const Networks networks(weights, offsets, x.size(0), activation);
    const at::Tensor wide = at::empty({x.size(0), networks.wide}, x.options()),
                     activated = at::empty({x.size(0), networks.inner}, x.options());
    context->save_for_backward({x, expand, contract, weights.expand_bias, weights.contract_bias, wide, activated});
    context->saved_data["offsets"] = offsets;
    context->saved_data["activation"] = static_cast<int64_t>(activation);
    return forward_pass(x, {}, networks, weights, wide, activated);
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const variable_list saved = context->get_saved_variables();
    const std::vector<int64_t> offsets = context->saved_data["offsets"].toIntVector();
    const auto activation = static_cast<MlpActivation>(context->saved_data["activation"].toInt());
    const MlpWeights weights{saved[1], saved[3], saved[2], saved[4]};
    std::vector<bool> needed(5);
    for (size_t i = 0, input = 0; i < 5; ++i) needed[i] = saved[i].defined() && context->needs_input_grad(input++);
    variable_list result(7);  // one for each argument of forward
    if (at::GradMode::is_enabled()) {
      // By views of their own: what was saved may depend on each other (a network applied twice), and that way is not this call's.
      variable_list views(5), inputs;
      for (size_t i = 0; i < 5; ++i) {
        views[i] = needed[i] ? saved[i].view_as(saved[i]) : saved[i];
        if (needed[i]) inputs.push_back(views[i]);
      }
      const MlpWeights of_views{views[1], views[3], views[2], views[4]};
      const variable_list found = torch::autograd::grad({plain(views[0], offsets, of_views, activation)}, inputs, {grads[0]}, std::nullopt,
                                                        /*create_graph=*/true, /*allow_unused=*/true);
      for (size_t i = 0, next = 0; i < 5; ++i) {
        if (needed[i]) result[i] = found[next++];
      }
      return result;
    }
    at::AutoDispatchBelowAutograd guard;
    const at::Tensor &x = saved[0], &wide = saved[5], &activated = saved[6], grad = grads[0].contiguous();
    const Networks networks(weights, offsets, x.size(0), activation);
    for (size_t i = 0; i < 5; ++i) {
      if (needed[i]) result[i] = at::empty(saved[i].sizes(), x.options());
    }
    const at::Tensor of_wide = at::empty(wide.sizes(), wide.options());
    to_rows(networks, wide, grad, of_wide, result[0]);
    to_weights(x, networks, activated, grad, of_wide, result);
    return result;
  }

 private:
  // The gradients of the wide rows and, where defined, of x.
  static void to_rows(const Networks& networks, const at::Tensor& wide, const at::Tensor& grad, const at::Tensor& of_wide,
                      const at::Tensor& of_x) {
    const int64_t dim = networks.dim, inner = networks.inner, width = networks.wide;
    const float* const kept = wide.const_data_ptr<float>();
    float *const to_wide = of_wide.mutable_data_ptr<float>(), *const to_x = of_x.defined() ? of_x.mutable_data_ptr<float>() : nullptr;
    const int64_t elements = cpu::right_factor_elements(dim, inner) + (to_x == nullptr ? 0 : cpu::right_factor_elements(width, dim));
    for_batches(networks, elements, [&](size_t begin, size_t end, float* memory) {
      const auto expand = [&](size_t g) { return networks.expand(g); };
      const auto contract = [&](size_t g) { return networks.contract(g); };
      const std::vector<RightFactor> second_layer = lay_out(networks, begin, end, dim, inner, contract, memory),
                                     first_layer = to_x == nullptr ? std::vector<RightFactor>()
                                                                   : lay_out(networks, begin, end, width, dim, expand, memory);
      for_parts(networks, begin, end, [&](size_t g, int64_t first, int64_t rows) {
        float *const of_activated = own_memory(1, rows * inner), *const of_h = to_wide + first * width;
        const float* const h = kept + first * width;
        cpu::multiply_rows(rows, rows_of(grad, first), second_layer[g - begin], nullptr, of_activated);
        if (networks.activation == MlpActivation::kGated) {
          cpu::gate_gradient(h, h + inner, width, of_activated, rows, inner, of_h);
        } else {
          cpu::tanh_gelu_gradient(h, of_activated, rows * inner, of_h);
        }
        if (to_x != nullptr) cpu::multiply_rows(rows, {of_h, width, 1}, first_layer[g - begin], nullptr, to_x + first * dim);
      });
    });
  }

  // result: x, expand, contract and their biases; what is undefined is not asked for.
  static void to_weights(const at::Tensor& x, const Networks& networks, const at::Tensor& activated, const at::Tensor& grad,
                         const at::Tensor& of_wide, variable_list& result) {
    std::vector<cpu::Product> products;
    // to [groups, outputs, inputs] = the outputs' gradients^T inputs
    const auto add = [&](const at::Tensor& to, const at::Tensor& outputs, const at::Tensor& inputs) {
      if (!to.defined()) return;
      const int64_t columns = inputs.size(1), size = outputs.size(1) * columns;
      for (size_t g = 0; g < networks.groups(); ++g) {
        const int64_t first = networks.offsets[g];
        products.push_back({outputs.size(1), networks.rows_of_group(g), columns, transposed(rows_of(outputs, first)),
                            rows_of(inputs, first), nullptr, to.mutable_data_ptr<float>() + static_cast<int64_t>(g) * size});
      }
    };
    add(result[1], of_wide, x);
    add(result[2], grad, activated);
    cpu::matrix_products(products);
    for (const auto& [to, outputs] : {std::pair<const at::Tensor&, const at::Tensor&>{result[3], of_wide}, {result[4], grad}}) {
      if (!to.defined()) continue;
      const int64_t columns = outputs.size(1);
      for (size_t g = 0; g < networks.groups(); ++g) {
        cpu::column_sums(networks.rows_of_group(g), columns, outputs.const_data_ptr<float>() + networks.offsets[g] * columns,
                         to.mutable_data_ptr<float>() + static_cast<int64_t>(g) * columns);
      }
    }
  }
};

void check(const at::Tensor& x, int64_t rows, const std::vector<int64_t>& offsets, const MlpWeights& weights, MlpActivation activation) {
  for (const auto& [name, tensor] : {std::pair<const char*, const at::Tensor&>{"x", x},
                                     {"expand", weights.expand},
                                     {"expand_bias", weights.expand_bias},
                                     {"contract", weights.contract},
                                     {"contract_bias", weights.contract_bias}}) {
    ADATAPE_CHECK(!tensor.defined() || (tensor.is_cpu() && tensor.scalar_type() == at::kFloat), kComponent, "expected ", name,
                  " of float32 on the CPU, got ", tensor.toString());
  }
  const bool several = !offsets.empty();
  const int64_t dimensions = several ? 3 : 2;
  ADATAPE_CHECK(x.dim() == 2 && weights.expand.dim() == dimensions && weights.contract.dim() == dimensions, kComponent,
                "expected x [rows, D] and weights of ", dimensions, " dimensions, got ", x.sizes(), ", ", weights.expand.sizes(), " and ",
                weights.contract.sizes());
  const int64_t dim = x.size(1), inner = weights.contract.size(-1), wide = activation == MlpActivation::kGated ? 2 * inner : inner;
  std::vector<int64_t> expand{wide, dim}, contract{dim, inner};
  if (several) {
    const auto groups = static_cast<int64_t>(offsets.size()) - 1;
    ADATAPE_CHECK(offsets.front() == 0 && offsets.back() == rows && std::is_sorted(offsets.begin(), offsets.end()), kComponent,
                  "expected offsets from 0 to ", rows, " in order, got ", offsets);
    for (std::vector<int64_t>* sizes : {&expand, &contract}) sizes->insert(sizes->begin(), groups);
  }
  const auto fits = [](const at::Tensor& weight, const at::Tensor& bias, const std::vector<int64_t>& sizes) {
    return weight.sizes() == sizes && (!bias.defined() || bias.sizes() == at::IntArrayRef(sizes).slice(0, sizes.size() - 1));
  };
  ADATAPE_CHECK(fits(weights.expand, weights.expand_bias, expand) && fits(weights.contract, weights.contract_bias, contract), kComponent,
                "expected expand ", at::IntArrayRef(expand), " and contract ", at::IntArrayRef(contract), " with biases to match, got ",
                weights.expand.sizes(), " and ", weights.contract.sizes());
}

bool any_gradient(const at::Tensor& x, const MlpWeights& weights) {
  bool any = x.requires_grad();
  for (const at::Tensor& weight : {weights.expand, weights.expand_bias, weights.contract, weights.contract_bias})
    any = any || (weight.defined() && weight.requires_grad());
  return any && at::GradMode::is_enabled();
}

void record_products() { ADATAPE_RECORD_ONCE(record_cpu_kernel(kMatrixProducts, "dense", cpu::has_avx512() ? 16 : 8)); }

}  // namespace

bool has_dense_mlp(const at::Tensor& x, const MlpWeights& weights) {
  const bool groups = weights.expand.dim() == 3;
  return has_dense_linear(x, groups ? weights.expand[0] : weights.expand) &&
         has_dense_linear(x, groups ? weights.contract[0] : weights.contract);
}

at::Tensor dense_mlp(const at::Tensor& x, const std::vector<int64_t>& offsets, const MlpWeights& weights, MlpActivation activation) {
  check(x, x.size(0), offsets, weights, activation);
  record_products();
  if (!any_gradient(x, weights)) return forward_pass(x, {}, Networks(weights, offsets, x.size(0), activation), weights, {}, {});
  return DenseMlpFunction::apply(x, weights.expand, weights.contract, optional(weights.expand_bias), optional(weights.contract_bias),
                                 offsets, activation);
}

at::Tensor dense_mlp_of_rows(const at::Tensor& x, const std::vector<int64_t>& rows, const std::vector<int64_t>& offsets,
                             const MlpWeights& weights, MlpActivation activation) {
  const auto count = static_cast<int64_t>(rows.size());
  check(x, count, offsets, weights, activation);
  ADATAPE_CHECK(!any_gradient(x, weights), kComponent,
                "expected rows and weights of which no gradient is asked, got one that requires it; use dense_mlp on a copy of the rows");
  ADATAPE_CHECK(std::all_of(rows.begin(), rows.end(), [&](int64_t row) { return row >= 0 && row < x.size(0); }), kComponent,
                "expected rows within 0 .. ", x.size(0) - 1, ", got ", rows);
  record_products();
  const at::NoGradGuard guard;
  return forward_pass(x.stride(1) == 1 ? x : x.contiguous(), rows, Networks(weights, offsets, count, activation), weights, {}, {});
}

}  // namespace adatape::ops
