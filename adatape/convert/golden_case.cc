#include "adatape/convert/golden_case.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "adatape/core/check.h"
#include "adatape/core/files.h"

namespace adatape {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

double tolerance_of(const Json& tolerances, const std::string& name) {
  const auto given = [&](const std::string& key) { return tolerances.contains(key) ? tolerances[key].get<double>() : -1.0; };
  if (name.rfind("grad/", 0) == 0 || name.rfind("grad_", 0) == 0 || name.find("/grad/") != std::string::npos)
    return given("grad") > 0 ? given("grad") : 1e-4;
  const std::string last = name.substr(name.rfind('/') + 1);  // entries of a case carry a prefix
  for (const std::string& key : {name, last}) {
    if (given(key) > 0) return given(key);
  }
  return 1e-5;
}

TensorComparison compare(const std::string& name, const at::Tensor& expected, const NamedTensors& produced, double tolerance) {
  TensorComparison comparison;
  comparison.name = name;
  const auto found = produced.find(name);
  if (found == produced.end()) {
    comparison.note = "not produced";
    return comparison;
  }
  comparison.produced = true;
  const at::Tensor& got = found->second;
  if (got.sizes() != expected.sizes()) {
    comparison.note = concat("expected shape ", expected.sizes(), ", got ", got.sizes());
    return comparison;
  }
  if (!at::isFloatingType(expected.scalar_type())) {  // not as integers, of which 0.9 would be 0
    comparison.largest_error = static_cast<double>((got.to(at::kDouble) != expected.to(at::kDouble)).sum().item<int64_t>());
    comparison.passed = comparison.largest_error == 0;
    return comparison;
  }
  const at::Tensor wanted = expected.to(at::kDouble);
  const double largest = expected.numel() > 0 ? wanted.abs().max().item<double>() : 0;
  comparison.largest_error = expected.numel() > 0 ? (got.to(at::kDouble) - wanted).abs().max().item<double>() : 0;
  comparison.tolerance = tolerance * std::max(1.0, largest);
  // False for NaN; where infinity is expected every tolerance is infinite, too.
  comparison.passed = std::isfinite(comparison.largest_error) && comparison.largest_error <= comparison.tolerance;
  return comparison;
}

}  // namespace

bool CaseResult::passed() const {
  return !comparisons.empty() &&
         std::all_of(comparisons.begin(), comparisons.end(), [](const TensorComparison& comparison) { return comparison.passed; });
}

const at::Tensor& tensor_of(const NamedTensors& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  ADATAPE_CHECK(found != tensors.end(), "golden case", "expected a tensor ", name, ", found none");
  return found->second;
}

CaseResult run_golden_case(const std::string& folder, at::Device device) {
  const auto file = [&](const char* name) { return (fs::path(folder) / name).string(); };
  ADATAPE_CHECK(fs::is_directory(folder), folder, "expected a case folder with case.json, found ",
                fs::exists(folder) ? "a file" : "nothing there");
  Json json;
  try {
    json = Json::parse(read_file(file("case.json")));
    ADATAPE_CHECK(
        json.is_object() && json.contains("config") && json["config"].is_object() && json.contains("model") && json["model"].is_string(),
        file("case.json"), "expected an object with \"model\" and \"config\"");
    NamedTensors inputs = read_safetensors(file("inputs.safetensors")).tensors;
    for (auto& [name, tensor] : inputs) tensor = tensor.to(device);
    const NamedTensors weights = read_safetensors(file("weights.safetensors")).tensors;
    const std::string model = json["model"];
    CaseResult result;
    result.name = json.value("name", fs::path(folder).filename().string());
    if (model == "tape_reader") {
      result.tensors = run_tape_reader_case(json["config"], weights, inputs);
    } else if (model == "mixture_of_experts") {
      result.tensors = run_moe_case(json["config"], weights, inputs);
    } else if (model == "t5" || model == "gpt" || model == "palm") {
      result.tensors = run_text_case(json["config"], model, weights, inputs);
    } else if (model == "pondernet" || model == "pondernet_vit") {
      result.tensors = run_pondernet_case(json["config"], weights, inputs);
    } else if (model == "act_rnn") {
      result.tensors = run_act_rnn_case(json["config"], weights, inputs);
    } else {
      result.tensors = run_model_case(json["config"], model, weights, inputs);
    }
    for (auto& [name, tensor] : result.tensors) tensor = tensor.to(at::kCPU);
    if (!fs::exists(file("expected.safetensors"))) return result;
    result.compared = true;
    const Json tolerances = json.value("tolerance", Json::object());
    for (const auto& [name, expected] : read_safetensors(file("expected.safetensors")).tensors) {
      if (name.rfind("published/", 0) == 0) continue;  // what published code gives where it is wrong
      result.comparisons.push_back(compare(name, expected, result.tensors, tolerance_of(tolerances, name)));
    }
    return result;
  } catch (const Json::exception& error) {
    throw Error(concat(file("case.json"), ": ", error.what()));
  }
}

}  // namespace adatape
