// The golden case of tape reading alone: entries with ragged banks, learnable banks, fractional thresholds, banks that run out.
#include <nlohmann/json.hpp>

#include "adatape/convert/golden_case.h"
#include "adatape/core/check.h"
#include "adatape/ops/tape_read/tape_read.h"

namespace adatape {
namespace {

at::Tensor leaf(const at::Tensor& tensor, at::Device device) { return tensor.detach().clone().to(device).requires_grad_(true); }

}  // namespace

NamedTensors run_tape_reader_case(const nlohmann::json& config, const NamedTensors& weights, const NamedTensors& inputs) {
  NamedTensors result;
  for (const auto& [entry, options] : config.items()) {
    const std::string prefix = entry + "/";
    const bool shared = weights.count(prefix + "bank") > 0;
    const at::Device device = inputs.begin()->second.device();
    const at::Tensor query = leaf(tensor_of(inputs, prefix + "query"), device);
    const at::Tensor bank = leaf(tensor_of(shared ? weights : inputs, prefix + "bank"), device);
    const at::Tensor scale = leaf(tensor_of(weights, prefix + "bank_norm/scale"), device),
                     bias = leaf(tensor_of(weights, prefix + "bank_norm/bias"), device);
    ops::TapeReadOptions read;
    read.max_steps = options.at("T");
    read.threshold = options.at("tau");
    read.rows_per_step = options.value("K", static_cast<int64_t>(static_cast<double>(read.max_steps) / read.threshold));
    read.key_width =
        options.contains("key_width") ? options["key_width"].get<int64_t>() : query.size(1) / options.at("key_split").get<int64_t>();
    read.ponder = options.value("ponder", "entropy");
    read.query_update = options.value("query_update", "average");
    const auto offsets = shared ? std::optional<at::Tensor>() : tensor_of(inputs, prefix + "bank_offsets").to(at::kLong);
    const auto [tokens, row_weights, indices, lengths, ponder, halting] = ops::tape_read(query, bank, offsets, scale, bias, read);

    result[prefix + "tape_tokens"] = tokens.detach();
    result[prefix + "tape_weights"] = row_weights.detach();
    result[prefix + "tape_indices"] = indices.to(at::kInt);
    result[prefix + "tape_length"] = lengths.to(at::kInt);
    result[prefix + "ponder_loss"] = ponder.detach();
    result[prefix + "halting_sum"] = halting.detach().amax(1);  // h only grows, and is 0 from the halting step on
    if (inputs.count(prefix + "cotangent") == 0) continue;
    ((tokens * tensor_of(inputs, prefix + "cotangent")).sum() + options.value("lambda", 0.01) * ponder.mean()).backward();
    const auto gradient = [](const at::Tensor& of) { return of.grad().defined() ? of.grad() : at::zeros_like(of); };
    const std::string names = "grad/" + prefix;
    result[names + "query"] = gradient(query);
    result[names + "bank"] = gradient(bank);
    result[names + "bank_norm/scale"] = gradient(scale);
    result[names + "bank_norm/bias"] = gradient(bias);
  }
  return result;
}

}  // namespace adatape
