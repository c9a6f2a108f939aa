// Matrix products of bfloat16 by cublasLt, with what it can do on the way out: bias, GELU, a residual, sums of gradients.
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/sum.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cublasLt.h>

#include <map>
#include <mutex>
#include <tuple>

#include "adatape/ops/cuda_architecture.h"
#include "adatape/ops/half_block/half_block_cuda.h"

namespace adatape::ops {
namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // bytes; what cuBLAS recommends for Hopper

void check(cublasStatus_t status, const char* what) {
  TORCH_CHECK(status == CUBLAS_STATUS_SUCCESS, "half block: cublasLt: ", what, ": ", cublasLtGetStatusString(status));
}

cublasLtHandle_t handle() {
  static thread_local std::map<int, cublasLtHandle_t> of_device;  // never destroyed: the context may be gone by then
  int device = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  cublasLtHandle_t& own = of_device[device];
  if (own == nullptr) check(cublasLtCreate(&own), "create");
  return own;
}

// One product in cublasLt's terms, column by column: out [m, n] = op(a) op(b) (+ added), leading dimensions as they lie.
struct Product {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  const void *a = nullptr, *b = nullptr;
  int64_t lda = 0, ldb = 0;
  void* out = nullptr;
  const void* added = nullptr;  // [m, n] in out's dtype and order; null: nothing
  cudaDataType_t out_type = CUDA_R_16BF;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void* bias = nullptr;  // read, or written by the epilogues that sum
  cudaDataType_t bias_type = CUDA_R_16BF;
  void* auxiliary = nullptr;  // [m, n]
};

struct Descriptors {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, out = nullptr;
  cublasLtMatmulPreference_t preference = nullptr;
  ~Descriptors() {
    if (preference != nullptr) cublasLtMatmulPreferenceDestroy(preference);
    for (cublasLtMatrixLayout_t layout : {a, b, out}) {
      if (layout != nullptr) cublasLtMatrixLayoutDestroy(layout);
    }
    if (operation != nullptr) cublasLtMatmulDescDestroy(operation);
  }
};

template <class T>
void set(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)), "attribute");
}

// Multiplies; false where cublasLt has no kernel for it.
bool multiply(const Product& product, const at::TensorOptions& like) {
  Descriptors made;
  check(cublasLtMatmulDescCreate(&made.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F), "descriptor");
  set(made.operation, CUBLASLT_MATMUL_DESC_TRANSA, product.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(made.operation, CUBLASLT_MATMUL_DESC_TRANSB, product.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(made.operation, CUBLASLT_MATMUL_DESC_EPILOGUE, product.epilogue);
  if (product.bias != nullptr) {
    set(made.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, product.bias);
    set(made.operation, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, product.bias_type);
  }
  if (product.auxiliary != nullptr) {
    set(made.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, product.auxiliary);
    set(made.operation, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, product.m);
  }
  const auto layout = [](cublasLtMatrixLayout_t& of, cudaDataType_t type, bool transposed, int64_t rows, int64_t columns, int64_t leading) {
    check(cublasLtMatrixLayoutCreate(&of, type, static_cast<uint64_t>(transposed ? columns : rows),
                                     static_cast<uint64_t>(transposed ? rows : columns), leading),
          "layout");
  };
  layout(made.a, CUDA_R_16BF, product.transpose_a, product.m, product.k, product.lda);
  layout(made.b, CUDA_R_16BF, product.transpose_b, product.k, product.n, product.ldb);
  layout(made.out, product.out_type, false, product.m, product.n, product.m);

  // The heuristic's choice depends on these alone (every tensor of ATen's begins at a multiple of 256 bytes, parts of them at one of 16).
  using Key = std::tuple<int, int64_t, int64_t, int64_t, bool, bool, int, int, int, bool>;
  int device = 0;
  C10_CUDA_CHECK(cudaGetDevice(&device));
  const Key key{device,
                product.m,
                product.n,
                product.k,
                product.transpose_a,
                product.transpose_b,
                static_cast<int>(product.out_type),
                static_cast<int>(product.epilogue),
                static_cast<int>(product.bias_type),
                product.added != nullptr};
  static std::mutex mutex;
  static std::map<Key, std::pair<bool, cublasLtMatmulAlgo_t>> chosen;
  std::pair<bool, cublasLtMatmulAlgo_t> choice;
  {
    const std::lock_guard<std::mutex> lock(mutex);
    const auto found = chosen.find(key);
    if (found != chosen.end()) {
      choice = found->second;
    } else {
      check(cublasLtMatmulPreferenceCreate(&made.preference), "preference");
      check(cublasLtMatmulPreferenceSetAttribute(made.preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &kWorkspace, sizeof(kWorkspace)),
            "workspace");
      cublasLtMatmulHeuristicResult_t result{};
      int count = 0;
      const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle(), made.operation, made.a, made.b, made.out, made.out,
                                                                   made.preference, 1, &result, &count);
      choice = {status == CUBLAS_STATUS_SUCCESS && count > 0, result.algo};
      if (chosen.size() > 100000) chosen.clear();  // ragged packs: a shape a step
      chosen.emplace(key, choice);
    }
  }
  if (!choice.first) return false;
  const at::Tensor workspace = at::empty({static_cast<int64_t>(kWorkspace)}, like.dtype(at::kByte));
  const float one = 1, beta = product.added != nullptr ? 1 : 0;
  check(cublasLtMatmul(handle(), made.operation, &one, product.a, made.a, product.b, made.b, &beta,
                       product.added != nullptr ? product.added : product.out, made.out, product.out, made.out, &choice.second,
                       workspace.mutable_data_ptr(), kWorkspace, c10::cuda::getCurrentCUDAStream()),
        "product");
  return true;
}

void require(bool done, const char* what) { TORCH_CHECK(done, "half block: cublasLt has no kernel for ", what); }

// y [rows, out] = x weight^T: by columns y [out, rows] = weight^T x.
Product forward_product(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& y) {
  Product product;
  product.m = weight.size(0);
  product.n = x.size(0);
  product.k = weight.size(1);
  product.transpose_a = true;
  product.a = weight.const_data_ptr();
  product.lda = product.k;
  product.b = x.const_data_ptr();
  product.ldb = product.k;
  product.out = y.mutable_data_ptr();
  return product;
}

}  // namespace

at::Tensor half_forward_cuda(const HalfForward& arguments) {
  const at::Tensor x = arguments.x.contiguous();
  const c10::cuda::CUDAGuard guard(x.device());
  const at::Tensor y = at::empty({x.size(0), arguments.weight.size(0)}, x.options());
  if (x.size(0) == 0) return y;
  Product product = forward_product(x, arguments.weight, y);
  product.bias = arguments.bias.mutable_data_ptr();
  const at::Tensor residual = arguments.residual.defined() ? arguments.residual.contiguous() : at::Tensor();
  if (residual.defined()) product.added = residual.const_data_ptr();
  const bool keep = arguments.before_gelu.defined();
  if (arguments.tanh_gelu) {
    product.epilogue = keep ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_BIAS;
    if (keep) product.auxiliary = arguments.before_gelu.mutable_data_ptr();
    if (multiply(product, x.options())) return y;
    product.auxiliary = nullptr;
    if (keep) product.out = arguments.before_gelu.mutable_data_ptr();
  }
  product.epilogue = CUBLASLT_EPILOGUE_BIAS;
  require(multiply(product, x.options()), "a product with a bias");
  if (!arguments.tanh_gelu) return y;
  return keep ? at::gelu(arguments.before_gelu, "tanh") : at::gelu_(const_cast<at::Tensor&>(y), "tanh");
}

std::tuple<at::Tensor, at::Tensor> half_input_gradient_cuda(const at::Tensor& grad, const at::Tensor& weight,
                                                            const at::Tensor& before_gelu) {
  const c10::cuda::CUDAGuard guard(grad.device());
  const int64_t rows = grad.size(0), out = weight.size(0), in = weight.size(1);
  const at::Tensor of_x = at::empty({rows, in}, grad.options());
  if (rows == 0)
    return {of_x, before_gelu.defined() ? at::empty({in}, grad.options().dtype(at::kFloat)).zero_() : at::Tensor()};
  Product product;  // by columns: [in, rows] = weight [in, out] grad [out, rows]
  product.m = in;
  product.n = rows;
  product.k = out;
  product.a = weight.const_data_ptr();
  product.lda = in;
  product.b = grad.const_data_ptr();
  product.ldb = out;
  product.out = of_x.mutable_data_ptr();
  if (!before_gelu.defined()) {
    require(multiply(product, grad.options()), "a gradient of the input");
    return {of_x, at::Tensor()};
  }
  // cublasLt's own epilogue for this (DGELU_BGRAD) takes four times as long as the pass over both that follows.
  require(multiply(product, grad.options()), "a gradient of the input");
  at::Tensor of_before = of_x;
  return {of_before, gelu_gradient_cuda(of_before, before_gelu)};
}

std::tuple<at::Tensor, at::Tensor> half_weight_gradient_cuda(const at::Tensor& grad, const at::Tensor& x, bool with_bias) {
  const c10::cuda::CUDAGuard guard(grad.device());
  const int64_t rows = grad.size(0), out = grad.size(1), in = x.size(1);
  const at::TensorOptions whole = grad.options().dtype(at::kFloat);
  const at::Tensor of_weight = at::empty({out, in}, whole);
  if (rows == 0) return {of_weight.zero_(), with_bias ? at::empty({out}, whole).zero_() : at::Tensor()};
  Product product;  // by columns: [in, out] = x [in, rows] grad^T [rows, out]
  product.m = in;
  product.n = out;
  product.k = rows;
  product.transpose_b = true;
  product.a = x.const_data_ptr();
  product.lda = in;
  product.b = grad.const_data_ptr();
  product.ldb = out;
  product.out = of_weight.mutable_data_ptr();
  product.out_type = CUDA_R_32F;
  if (with_bias) {
    product.epilogue = CUBLASLT_EPILOGUE_BGRADB;
    const at::Tensor of_bias = at::empty({out}, whole);
    product.bias = of_bias.mutable_data_ptr();
    product.bias_type = CUDA_R_32F;
    if (multiply(product, grad.options())) return {of_weight, of_bias};
    product.epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    product.bias = nullptr;
  }
  require(multiply(product, grad.options()), "a gradient of the weight");
  return {of_weight, with_bias ? grad.sum(0, /*keepdim=*/false, at::kFloat) : at::Tensor()};
}

namespace {

int major_of(int device) {
  int value = 0;
  if (device < 0) C10_CUDA_CHECK(cudaGetDevice(&device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrComputeCapabilityMajor, device));
  return value;
}

const bool kRegistered = [] {
  CudaKernels kernels;
  kernels.residual_norm = residual_norm_cuda;
  kernels.residual_norm_backward = residual_norm_backward_cuda;
  kernels.residual_add = residual_add_cuda;
  kernels.split_rows = split_rows_cuda;
  kernels.half_forward = half_forward_cuda;
  kernels.half_input_gradient = half_input_gradient_cuda;
  kernels.half_weight_gradient = half_weight_gradient_cuda;
  kernels.add_table = add_table_cuda;
  kernels.segment_sums = segment_sums_cuda;
  set_cuda_kernels(kernels);
  set_cuda_major(major_of);
  return true;
}();

}  // namespace

}  // namespace adatape::ops
