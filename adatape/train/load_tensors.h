// Putting saved tensors into those of a model or an optimiser.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace adatape {

// Copies each tensor of `from` into the one of `into` that has its name (device and floating dtype may differ). Nothing is copied unless
// every name of one is in the other, shapes agree and all values are finite; else Error: source (a file), the tensor, what was expected.
void load_tensors(const std::map<std::string, at::Tensor>& into, const std::map<std::string, at::Tensor>& from, const std::string& source);

}  // namespace adatape
