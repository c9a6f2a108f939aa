// Numbers as a tensor.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/ScalarType.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace adatape {

// values as a tensor of this shape, which has as many places. No ATen kernels here, only at::empty: batches are made on threads that must
// not start an OpenMP team each.
template <class Value>
at::Tensor to_tensor(const std::vector<Value>& values, const std::vector<int64_t>& shape) {
  at::Tensor tensor = at::empty(shape, c10::CppTypeToScalarType<Value>::value);
  if (!values.empty()) std::memcpy(tensor.data_ptr<Value>(), values.data(), values.size() * sizeof(Value));
  return tensor;
}

template <class Value>
at::Tensor to_tensor(const std::vector<Value>& values) {
  return to_tensor(values, {static_cast<int64_t>(values.size())});
}

}  // namespace adatape
