#include "adatape/convert/output_tensors.h"

#include <algorithm>

#include "adatape/core/check.h"

namespace adatape {
namespace {

torch::Tensor padded(const torch::Tensor& x, int64_t steps, int64_t rows, double fill) {
  std::vector<int64_t> shape = x.sizes().vec();
  shape[1] = steps;
  if (rows > 0) shape[2] = rows;
  torch::Tensor wide = torch::full(shape, fill, x.options());
  torch::Tensor place = wide.narrow(1, 0, x.size(1));
  if (rows > 0) place = place.narrow(2, 0, x.size(2));
  place.copy_(x);
  return wide;
}

}  // namespace

NamedTensors output_tensors(const ModelOutput& output) {
  torch::NoGradGuard no_grad;
  NamedTensors tensors;
  tensors["logits"] = output.logits.detach();
  for (const auto& [name, tensor] : output.intermediates) tensors[name] = tensor.detach();
  if (output.readings.empty()) {
    for (const AuxiliaryLoss& loss : output.auxiliary_losses) {
      const torch::Tensor values = loss.values.detach();
      tensors[loss.name + "_loss"] = loss.of_batch ? values.slice(0, 0, 1).contiguous() : values;
    }
    return tensors;
  }
  int64_t steps = 0, rows = 0;
  for (const TapeReading& reading : output.readings) {
    steps = std::max(steps, reading.indices.size(1));
    rows = std::max(rows, reading.indices.size(2));
  }
  std::vector<torch::Tensor> length, indices, weights, tokens, halting, ponder;
  for (const TapeReading& reading : output.readings) {
    length.push_back(reading.lengths.to(torch::kInt32));
    indices.push_back(padded(reading.indices.to(torch::kInt32), steps, rows, -1));
    weights.push_back(padded(reading.weights.detach(), steps, rows, 0));
    tokens.push_back(padded(reading.tokens.detach(), steps, 0, 0));
    halting.push_back(padded(reading.halting.detach(), steps, 0, 0));
    ponder.push_back(reading.ponder.detach());
  }
  const auto together = [](const std::vector<torch::Tensor>& parts) { return parts.size() == 1 ? parts.front() : torch::stack(parts, 1); };
  tensors["tape_length"] = together(length);
  tensors["tape_indices"] = together(indices);
  tensors["tape_weights"] = together(weights);
  tensors["tape_tokens"] = together(tokens);
  tensors["tape_halting"] = together(halting);
  tensors["ponder_loss"] = together(ponder);
  if (ponder.size() > 1) tensors["ponder_loss_total"] = tensors["ponder_loss"].sum(1);
  return tensors;
}

torch::Tensor cotangent_objective(const ModelOutput& output, const torch::Tensor& cotangent) {
  ADATAPE_CHECK(cotangent.sizes() == output.logits.sizes(), "cotangent", "expected the shape of the logits ", output.logits.sizes(),
                ", got ", cotangent.sizes());
  torch::Tensor objective = (output.logits * cotangent).sum();
  for (const AuxiliaryLoss& loss : output.auxiliary_losses) objective = objective + loss.weight * loss.values.mean();
  return objective;
}

NamedTensors parameter_gradients(const Model& model) {
  NamedTensors gradients;
  for (const NamedParameter& parameter : model.named_parameters()) {
    const torch::Tensor& gradient = parameter.tensor.grad();
    gradients[parameter.name] = (gradient.defined() ? gradient : torch::zeros_like(parameter.tensor).detach()).to(torch::kCPU);
  }
  return gradients;
}

}  // namespace adatape
