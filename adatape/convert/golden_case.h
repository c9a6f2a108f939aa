// Golden cases: small models with known answers (case.json, weights, inputs and, where given, expected tensors).
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "adatape/core/safetensors.h"

namespace adatape {

struct TensorComparison {
  std::string name;
  bool produced = false;
  double largest_error = 0;  // |got - expected|; for integers the number of places that differ
  double tolerance = 0;      // already times max(1, max |expected|)
  bool passed = false;
  std::string note;  // shapes that differ ...
};

struct CaseResult {
  std::string name;
  NamedTensors tensors;                       // everything produced, under the names of expected.safetensors
  bool compared = false;                      // expected.safetensors was there
  std::vector<TensorComparison> comparisons;  // empty when not compared
  bool passed() const;                        // something was compared, and all of it passed
};

// Runs a case folder on a device; what it gives lies on the CPU. Throws Error where the case cannot be read or its model is unknown.
CaseResult run_golden_case(const std::string& folder, at::Device device = at::kCPU);

// Of a case's weights or inputs; throws Error where it is not among them.
const at::Tensor& tensor_of(const NamedTensors& tensors, const std::string& name);

// The tensors that a case's model gives, computed where the inputs lie; one function a kind of case.
NamedTensors run_model_case(const nlohmann::json& config, const std::string& model, const NamedTensors& weights,
                            const NamedTensors& inputs);
NamedTensors run_pondernet_case(const nlohmann::json& config, const NamedTensors& weights, const NamedTensors& inputs);
NamedTensors run_act_rnn_case(const nlohmann::json& config, const NamedTensors& weights, const NamedTensors& inputs);
NamedTensors run_moe_case(const nlohmann::json& config, const NamedTensors& weights, const NamedTensors& inputs);
NamedTensors run_text_case(const nlohmann::json& config, const std::string& model, const NamedTensors& weights, const NamedTensors& inputs);
NamedTensors run_tape_reader_case(const nlohmann::json& config, const NamedTensors& weights, const NamedTensors& inputs);

}  // namespace adatape
