#include "adatape/train/load_tensors.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/isfinite.h>

#include <vector>

#include "adatape/core/check.h"
#include "adatape/core/config.h"

namespace adatape {
namespace {

std::vector<std::string> names_of(const std::map<std::string, at::Tensor>& tensors) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  return names;
}

// "; did you mean a?" or "".
std::string hint(const std::string& name, const std::vector<std::string>& known) {
  const std::string nearest = nearest_word(name, known);
  return nearest.empty() ? "" : concat("; the nearest name there is ", nearest);
}

}  // namespace

void load_tensors(const std::map<std::string, at::Tensor>& into, const std::map<std::string, at::Tensor>& from, const std::string& source) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, target] : into) {
    const auto found = from.find(name);
    ADATAPE_CHECK(found != from.end(), source, "expected a tensor ", name, " ", target.sizes(), ", found none", hint(name, names_of(from)));
    const at::Tensor& tensor = found->second;
    ADATAPE_CHECK(tensor.sizes() == target.sizes(), source, "tensor ", name, ": expected shape ", target.sizes(), ", got ", tensor.sizes(),
                  "; the file was written with another configuration");
    ADATAPE_CHECK(tensor.is_floating_point() == target.is_floating_point(), source, "tensor ", name, ": expected dtype ", target.dtype(),
                  ", got ", tensor.dtype());
    ADATAPE_CHECK(!tensor.is_floating_point() || at::isfinite(tensor).all().item<bool>(), source, "tensor ", name,
                  ": expected finite values, found NaN or infinity; the file is damaged or training diverged");
  }
  for (const auto& [name, tensor] : from) {
    ADATAPE_CHECK(into.contains(name), source, "tensor ", name, " ", tensor.sizes(), " has no place in this model",
                  hint(name, names_of(into)), "; the file was written with another configuration");
  }
  for (const auto& [name, target] : into) at::Tensor(target).copy_(from.at(name));
}

}  // namespace adatape
