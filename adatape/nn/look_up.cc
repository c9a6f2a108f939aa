#include "adatape/nn/look_up.h"

#include <torch/csrc/autograd/custom_function.h>

#include <cstring>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_clones.h"
#include "adatape/ops/plain_calls.h"

namespace adatape {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

ADATAPE_CPU_CLONES void add_rows(const float* from, const int64_t* index, int64_t count, int64_t width, float* table) {
  for (int64_t i = 0; i < count; ++i, from += width) {
    float* const to = table + index[i] * width;
#pragma omp simd
    for (int64_t f = 0; f < width; ++f) to[f] += from[f];
  }
}

struct LookUpFunction : torch::autograd::Function<LookUpFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given, const at::Tensor& places) {
    const at::Tensor table = given.contiguous(), index = places.contiguous();
    const int64_t rows = table.size(0), width = table.size(1), count = index.numel();
    const int64_t* const row = index.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < count; ++i)
      ADATAPE_CHECK(row[i] >= 0 && row[i] < rows, "look-up", "expected numbers 0 .. ", rows - 1, ", got ", row[i]);
    at::Tensor out = at::empty({count, width}, table.options());
    const float* const from = table.const_data_ptr<float>();
    float* const to = out.mutable_data_ptr<float>();
    for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * width, from + row[i] * width, static_cast<size_t>(width) * sizeof(float));
    context->save_for_backward({index});
    context->saved_data["rows"] = rows;
    return out;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const at::Tensor index = context->get_saved_variables()[0];
    const int64_t rows = context->saved_data["rows"].toInt(), width = grads[0].size(1);
    if (at::GradMode::is_enabled()) return {at::zeros({rows, width}, grads[0].options()).index_add(0, index, grads[0]), at::Tensor()};
    const at::Tensor grad = grads[0].contiguous();
    at::Tensor table = at::zeros({rows, width}, grad.options());
    add_rows(grad.const_data_ptr<float>(), index.const_data_ptr<int64_t>(), index.numel(), width, table.mutable_data_ptr<float>());
    return {table, at::Tensor()};
  }
};

}  // namespace

torch::Tensor look_up(const torch::Tensor& table, const torch::Tensor& index) {
  ADATAPE_CHECK(table.dim() == 2 && index.dim() == 1, "look-up", "expected a table [V, D] and an index [n], got ", table.sizes(), " and ",
                index.sizes());
  if (ops::plain_calls() || !table.is_cpu() || table.scalar_type() != torch::kFloat || index.scalar_type() != torch::kInt64)
    return table.index_select(0, index);
  return LookUpFunction::apply(table, index);
}

}  // namespace adatape
