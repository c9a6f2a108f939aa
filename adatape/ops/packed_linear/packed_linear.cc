#include "adatape/ops/packed_linear/packed_linear.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <vector>

#include "adatape/core/check.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/packed_linear/packed_linear_loops.h"

namespace adatape::ops {
namespace cpu {
namespace {

ADATAPE_CPU_CLONES void left_narrow(const LinearTask& task, int64_t begin, int64_t rows, int64_t stride, void* to) {
  left_factor<FloatFactors<8>>(task, begin, rows, stride, static_cast<float*>(to));
}
ADATAPE_CPU_AVX512 void left_wide(const LinearTask& task, int64_t begin, int64_t rows, int64_t stride, void* to) {
  left_factor<FloatFactors<16>>(task, begin, rows, stride, static_cast<float*>(to));
}
ADATAPE_CPU_CLONES void finish_narrow(const LinearTask& task, const PackedWeight& weight, int64_t begin, int64_t rows, const void* a,
                                      int64_t stride, int64_t first, int64_t last) {
  finish_rows<FloatFactors<8>>(task, weight, begin, rows, a, stride, first, last);
}
ADATAPE_CPU_AVX512 void finish_wide(const LinearTask& task, const PackedWeight& weight, int64_t begin, int64_t rows, const void* a,
                                    int64_t stride, int64_t first, int64_t last) {
  finish_rows<FloatFactors<16>>(task, weight, begin, rows, a, stride, first, last);
}
ADATAPE_CPU_CLONES void widen_narrow(const LinearTask& task, int64_t rows, const void* a, int64_t stride, void* to, int64_t to_stride) {
  widen_rows<FloatFactors<8>>(task, rows, a, stride, to, to_stride);
}
ADATAPE_CPU_AVX512 void widen_wide(const LinearTask& task, int64_t rows, const void* a, int64_t stride, void* to, int64_t to_stride) {
  widen_rows<FloatFactors<16>>(task, rows, a, stride, to, to_stride);
}

constexpr LinearSteps kNarrowSteps = {left_narrow, finish_narrow, widen_narrow}, kWideSteps = {left_wide, finish_wide, widen_wide};

// Elements of a row of factors: whole cache lines, and an even number of bfloat16.
int64_t row_elements(int64_t features) { return (features + 31) / 32 * 32; }
int64_t panel_count(const PackedWeight& weight) { return weight.bias.numel() / (2 * weight.lanes); }

// Rows begin .. end of a task, panels first .. last of its product (all of them where a second product follows).
void run(const LinearTask& task, int64_t begin, int64_t end, int64_t first, int64_t last) {
  static thread_local std::vector<float> memory;  // reused from call to call
  const PackedWeight& weight = *task.weight;
  const LinearSteps& steps = weight.half() ? kBfloat16Steps : weight.lanes == 16 ? kWideSteps : kNarrowSteps;
  const int64_t element = weight.half() ? 2 : 4;
  const bool direct = !weight.half() && task.norm_weight == nullptr && task.rows == nullptr;
  // Equal blocks: a small last one would read all of the weights for a few rows.
  const int64_t blocks = (end - begin + kBlockRows - 1) / kBlockRows, block = ((end - begin + blocks - 1) / blocks + 3) / 4 * 4;
  const int64_t stride = direct ? task.x_stride : row_elements(weight.in),
                wide_stride = task.second == nullptr ? 0 : row_elements(weight.out);
  const int64_t narrow_bytes = direct ? 0 : block * stride * element, bytes = narrow_bytes + block * wide_stride * element;
  if (static_cast<int64_t>(memory.size()) * 4 < bytes + 64) memory.resize(static_cast<size_t>(bytes / 4 + 16));
  char* scratch = reinterpret_cast<char*>(memory.data());
  scratch += (64 - reinterpret_cast<size_t>(scratch) % 64) % 64;
  char* const wide = scratch + narrow_bytes;
  for (int64_t at = begin; at < end; at += block) {
    const int64_t rows = std::min(block, end - at);
    const void* a = direct ? static_cast<const void*>(task.x + at * task.x_stride) : scratch;
    if (!direct) steps.left(task, at, rows, stride, scratch);
    if (task.second == nullptr) {
      steps.finish(task, weight, at, rows, a, stride, first, last);
    } else {
      steps.widen(task, rows, a, stride, wide, wide_stride);
      steps.finish(task, *task.second, at, rows, wide, wide_stride, 0, panel_count(*task.second));
    }
  }
}

// Threads share the rows; where there are too few of them, the columns: the weights then pass through all cores' caches once.
void run_parallel(const LinearTask& task, int64_t rows) {
  const int64_t threads = at::get_num_threads();
  const int64_t work = rows * task.weight->in * task.weight->out;
  constexpr int64_t kWorthAThread = 1 << 17, kFewRows = 48;
  const int64_t panels = panel_count(*task.weight);
  if (rows == 0) return;
  if (threads == 1 || work < 2 * kWorthAThread) {
    run(task, 0, rows, 0, panels);
  } else if (task.second == nullptr && rows < kFewRows * threads) {
    at::parallel_for(0, panels, (panels + threads - 1) / threads, [&](int64_t first, int64_t last) { run(task, 0, rows, first, last); });
  } else {
    const int64_t part = ((rows + threads - 1) / threads + 3) / 4 * 4;
    at::parallel_for(0, rows, part, [&](int64_t begin, int64_t end) { run(task, begin, end, 0, panels); });
  }
}

}  // namespace
}  // namespace cpu

namespace {

constexpr char kComponent[] = "packed linear";

void check_float(const at::Tensor& x, const char* name, int64_t columns) {
  ADATAPE_CHECK(x.is_cpu() && x.scalar_type() == at::kFloat && x.dim() == 2 && x.size(1) == columns && (x.stride(1) == 1 || x.size(0) == 0),
                kComponent, "expected ", name, " [rows, ", columns, "] of float32 on the CPU with adjacent columns, got ", x.toString(),
                " ", x.sizes());
}

cpu::LinearTask task_of(const at::Tensor& x, const RowNorm& norm, const PackedWeight& weight, Activation activation) {
  check_float(x, "x", weight.in);
  ADATAPE_CHECK(weight.gated == (activation == Activation::kGated), kComponent, "expected the gated activation exactly for a gated weight");
  cpu::LinearTask task;
  task.x = x.const_data_ptr<float>();
  task.x_stride = x.stride(0);
  if (norm.weight.defined()) {
    ADATAPE_CHECK(norm.weight.numel() == weight.in && norm.bias.numel() == weight.in, kComponent, "expected a norm of ", weight.in,
                  " features");
    task.norm_weight = norm.weight.const_data_ptr<float>();
    task.norm_bias = norm.bias.const_data_ptr<float>();
    task.epsilon = static_cast<float>(norm.epsilon);
  }
  task.weight = &weight;
  task.activation = activation;
  return task;
}

// There is no backward: a result without a graph would be taken for a constant, in silence.
template <class... Inputs>
void refuse_gradients(const Inputs&... inputs) {
  const bool asked = at::GradMode::is_enabled() && ((inputs.defined() && inputs.requires_grad()) || ...);
  ADATAPE_CHECK(!asked, kComponent, "expected inputs of which no gradient is asked, got one that requires it; call it under a NoGradGuard");
}

void record_products(const PackedWeight& weight) {
  if (weight.half()) {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kMatrixProducts, "packed", 16, "bfloat16"));
  } else if (weight.lanes == 16) {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kMatrixProducts, "packed", 16));
  } else {
    ADATAPE_RECORD_ONCE(record_cpu_kernel(kMatrixProducts, "packed", 8));
  }
}

}  // namespace

std::string packed_linear_kernel_name(at::ScalarType products) {
  return concat("packed ", cpu_instructions(cpu::has_avx512() ? 16 : 8), products == at::kBFloat16 ? " bfloat16" : " float32");
}

PackedWeight pack_weight(const at::Tensor& given, const at::Tensor& bias, at::ScalarType products, bool gated, int vector_bytes) {
  ADATAPE_CHECK(given.dim() == 2 && given.is_cpu(), kComponent, "expected a weight [out, in] on the CPU, got ", given.sizes());
  const bool half = products == at::kBFloat16;
  ADATAPE_CHECK(products == at::kFloat || (half && has_bfloat16_products()), kComponent,
                "expected products of float32, or of bfloat16 on a processor that has them, got ", c10::toString(products));
  ADATAPE_CHECK(!gated || given.size(0) % 2 == 0, kComponent, "expected a gated weight of an even number of rows, got ", given.size(0));
  const at::Tensor weight = given.detach().to(at::kFloat).contiguous();
  PackedWeight packed;
  packed.in = weight.size(1);
  packed.out = gated ? weight.size(0) / 2 : weight.size(0);
  packed.lanes = half || (cpu::has_avx512() && vector_bytes != 32) ? 16 : 8;
  packed.gated = gated;
  const int64_t lanes = packed.lanes, panel = 2 * lanes, in = packed.in, depth = half ? (in + 1) / 2 * 2 : in;
  const int64_t panels = gated ? (packed.out + lanes - 1) / lanes : (packed.out + panel - 1) / panel;
  const at::Tensor factors = half ? weight.to(at::kBFloat16) : weight;
  packed.panels = at::zeros({panels * depth * panel}, factors.options());
  packed.bias = at::zeros({panels * panel}, weight.options());
  const at::Tensor biases = bias.defined() ? bias.detach().to(at::kFloat).contiguous() : at::Tensor();
  // Column c of panel p is this row of the weight, or none.
  const auto row_of = [&](int64_t p, int64_t c) {
    const int64_t row = gated ? p * lanes + c % lanes : p * panel + c;
    return row >= packed.out ? int64_t{-1} : gated && c >= lanes ? packed.out + row : row;
  };
  const auto fill = [&](auto* to, const auto* from) {
    at::parallel_for(0, panels, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        for (int64_t c = 0; c < panel; ++c) {
          const int64_t row = row_of(p, c);
          if (row < 0) continue;
          for (int64_t k = 0; k < in; ++k) {
            const int64_t place = half ? (k / 2 * panel + c) * 2 + k % 2 : k * panel + c;
            to[p * depth * panel + place] = from[row * in + k];
          }
        }
      }
    });
  };
  if (half) {
    fill(packed.panels.mutable_data_ptr<at::BFloat16>(), factors.const_data_ptr<at::BFloat16>());
  } else {
    fill(packed.panels.mutable_data_ptr<float>(), factors.const_data_ptr<float>());
  }
  for (int64_t i = 0; bias.defined() && i < panels * panel; ++i) {
    const int64_t row = row_of(i / panel, i % panel);
    if (row >= 0) packed.bias.mutable_data_ptr<float>()[i] = biases.const_data_ptr<float>()[row];
  }
  return packed;
}

PackedWeight columns_of(const PackedWeight& weight, int64_t first, int64_t count) {
  ADATAPE_CHECK(weight.defined() && first >= 0 && count >= 0 && first + count <= weight.out, kComponent, "expected columns within 0 .. ",
                weight.out, ", got ", first, " .. ", first + count);
  const int64_t panel = 2 * weight.lanes;
  if (weight.gated || first % panel != 0 || (count % panel != 0 && first + count != weight.out)) return {};
  const int64_t panels = (count + panel - 1) / panel, elements = weight.panels.numel() / (weight.bias.numel() / panel);
  PackedWeight part = weight;
  part.panels = weight.panels.narrow(0, first / panel * elements, panels * elements);
  part.bias = weight.bias.narrow(0, first, panels * panel);
  part.out = count;
  return part;
}

at::Tensor packed_linear(const at::Tensor& x, const PackedWeight& weight, const RowNorm& norm, Activation activation,
                         const at::Tensor& residual) {
  refuse_gradients(x, norm.weight, norm.bias, residual);
  cpu::LinearTask task = task_of(x, norm, weight, activation);
  at::Tensor out = at::empty({x.size(0), weight.out}, x.options());
  if (residual.defined()) {
    check_float(residual, "residual", weight.out);
    ADATAPE_CHECK(residual.is_contiguous() && residual.size(0) == x.size(0), kComponent, "expected a contiguous residual of ", x.size(0),
                  " rows, got ", residual.sizes());
    task.residual = residual.const_data_ptr<float>();
  }
  task.out = out.mutable_data_ptr<float>();
  task.out_stride = weight.out;
  record_products(weight);
  cpu::run_parallel(task, x.size(0));
  return out;
}

void packed_mlp(const at::Tensor& x, const at::Tensor& rows, const RowNorm& norm, const PackedWeight& expand, Activation activation,
                const PackedWeight& contract, at::Tensor& out) {
  refuse_gradients(x, norm.weight, norm.bias, out);
  cpu::LinearTask task = task_of(x, norm, expand, activation);
  check_float(out, "out", contract.out);
  ADATAPE_CHECK(contract.in == expand.out && contract.out == expand.in && contract.half() == expand.half() &&
                    contract.lanes == expand.lanes && !contract.gated,
                kComponent, "expected two weights that belong together");
  ADATAPE_CHECK(x.is_contiguous() && out.is_contiguous() && out.size(0) == x.size(0) && (x.numel() == 0 || out.data_ptr() != x.data_ptr()),
                kComponent, "expected contiguous x and out of equal size and different memory");
  const int64_t count = rows.defined() ? rows.numel() : x.size(0);
  if (rows.defined()) {
    ADATAPE_CHECK(rows.is_cpu() && rows.scalar_type() == at::kLong && rows.is_contiguous(), kComponent,
                  "expected rows of int64 on the CPU");
    task.rows = rows.const_data_ptr<int64_t>();
    for (int64_t i = 0; i < count; ++i)
      ADATAPE_CHECK(task.rows[i] >= 0 && task.rows[i] < x.size(0), kComponent, "expected rows 0 .. ", x.size(0) - 1, ", got ",
                    task.rows[i]);
  }
  task.residual = x.const_data_ptr<float>();
  task.out = out.mutable_data_ptr<float>();
  task.out_stride = contract.out;
  record_products(expand);
  if (count < 24 * at::get_num_threads()) {  // few rows: each product is shared among threads by its columns, so they are two
    cpu::LinearTask first = task, second;
    at::Tensor gathered = x;
    if (rows.defined()) {  // the first product reads the rows listed and writes them one after the other
      gathered = at::empty({count, x.size(1)}, x.options());
      float* to = gathered.mutable_data_ptr<float>();
      for (int64_t i = 0; i < count; ++i, to += x.size(1)) std::copy_n(task.x + task.rows[i] * x.size(1), x.size(1), to);
      first.x = gathered.const_data_ptr<float>();
      first.x_stride = x.size(1);
      first.rows = nullptr;
    }
    at::Tensor wide = at::empty({count, expand.out}, x.options());
    first.residual = nullptr;
    first.out = wide.mutable_data_ptr<float>();
    first.out_stride = expand.out;
    cpu::run_parallel(first, count);
    second.x = wide.const_data_ptr<float>();
    second.x_stride = expand.out;
    second.weight = &contract;
    at::Tensor branch = rows.defined() ? at::empty({count, contract.out}, x.options()) : out;
    second.out = branch.mutable_data_ptr<float>();
    second.out_stride = contract.out;
    second.residual = gathered.const_data_ptr<float>();
    cpu::run_parallel(second, count);
    const float* from = branch.const_data_ptr<float>();
    for (int64_t i = 0; rows.defined() && i < count; ++i)
      std::copy_n(from + i * contract.out, contract.out, task.out + task.rows[i] * contract.out);
    return;
  }
  task.second = &contract;
  cpu::run_parallel(task, count);
}

}  // namespace adatape::ops
