// A tree of named parameters. (Module does the same and more, but its header costs every file six seconds of compilation.)
#pragma once

#include <torch/types.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace adatape {

struct NamedParameter {
  std::string name;  // dotted path, e.g. "block_0.qkv.weight"
  torch::Tensor tensor;
};

class Module {
 public:
  Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  virtual ~Module() = default;

  // All parameters, children included, in declaration order. The tensors share storage with the module's own.
  std::vector<NamedParameter> named_parameters() const;
  std::vector<torch::Tensor> parameters() const;  // the same without their names
  // Moves parameters (their data, not their identity).
  void to(torch::Device device);
  void to(torch::Dtype dtype);
  // Stores the weights of CPU inference once more, in the order in which its kernels read them: forward passes without a gradient then use
  // these. products: kFloat, or kBFloat16 for factors of 16 bits where the processor multiplies them. Weights that change later need
  // another call.
  void pack_for_inference(torch::Dtype products);
  void unpack_weights();  // passes without a gradient use the parameters again

 protected:
  virtual void pack(torch::Dtype products) { (void)products; }
  virtual void unpack() {}
  // Makes tensor a leaf that requires a gradient and names it; returns it.
  torch::Tensor register_parameter(const std::string& name, const torch::Tensor& tensor);
  template <class Child>
  std::shared_ptr<Child> register_module(const std::string& name, std::shared_ptr<Child> child) {
    children_.emplace_back(name, child);
    return child;
  }

 private:
  void collect(const std::string& prefix, std::vector<NamedParameter>& into) const;
  void collect(std::vector<torch::Tensor>& into) const;
  std::vector<NamedParameter> own_;
  std::vector<std::pair<std::string, std::shared_ptr<Module>>> children_;
};

}  // namespace adatape
