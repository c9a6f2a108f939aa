// Golden cases of models that learn when to halt: PonderNet (a GRU, or Scenic's ViT) and recurrent networks with ACT.
#include <nlohmann/json.hpp>

#include "adatape/convert/golden_case.h"
#include "adatape/convert/output_tensors.h"
#include "adatape/convert/weight_map.h"
#include "adatape/core/check.h"
#include "adatape/models/act_rnn.h"
#include "adatape/models/pondernet.h"
#include "adatape/models/registry.h"
#include "adatape/nn/halting.h"
#include "adatape/train/load_tensors.h"
#include "adatape/train/run_folder.h"

namespace adatape {
namespace {

using Json = nlohmann::json;

std::shared_ptr<Model> model_of(ModelConfig& config, const InputSpec& spec) {
  config.resolve(spec);
  config.validate(spec);
  return find_model(config.name).make_model(config, spec);
}

// The names of torch's cells are ours, but for the halting unit.
std::vector<WeightPiece> torch_pieces(const NamedTensors& weights) {
  std::vector<WeightPiece> pieces;
  for (const auto& [name, tensor] : weights) {
    pieces.push_back({name, name.rfind("halt.", 0) == 0 ? "halting" + name.substr(4) : name});
  }
  return pieces;
}

void add_gradients(const Model& model, const std::vector<WeightPiece>& pieces, const NamedTensors& weights, NamedTensors& result) {
  for (auto& [name, gradient] : to_source(pieces, parameter_gradients(model), weights)) result["grad/" + name] = gradient;
}

// The case's config in our words. Scenic's case has a width D and encoder blocks, the other one a state.
PonderNetConfig pondernet_config(const Json& config, bool vit) {
  PonderNetConfig ours;
  ours.step = vit ? "transformer" : "gru";
  ours.width = config.at(vit ? "D" : "state_width");
  ours.max_steps = config.at("steps");
  ours.prior = config.at("lambda_p");
  ours.divergence_weight = config.at("beta");
  ours.halting_threshold = config.at("halting_threshold");
  ours.training_steps = "fixed";
  ours.evaluation = "threshold";
  ours.truncation = "renormalised";
  if (vit) {
    ours.heads = config.at("heads");
    ours.ffn_width = config.at("ffn_width");
    ours.gelu = config.at("gelu");
    ours.stem.patch = config.at("patch");
    ours.stem.class_token = true;
    ours.head.pooling = config.at("pooling");
    ours.halting_reads = "before";
  }
  return ours;
}

}  // namespace

NamedTensors run_pondernet_case(const Json& config, const NamedTensors& weights, const NamedTensors& inputs) {
  const bool vit = inputs.count("images") > 0;
  PonderNetConfig ours = pondernet_config(config, vit);
  InputSpec spec;
  Batch batch;
  spec.classes = config.at("classes");
  if (vit) {
    batch.images = tensor_of(inputs, "images").permute({0, 3, 1, 2}).contiguous();
    spec.kind = InputSpec::Kind::kImages;
    spec.channels = batch.images.size(1);
    spec.height = batch.images.size(2);
    spec.width = batch.images.size(3);
  } else {
    batch.vectors = tensor_of(inputs, "x");
    spec.kind = InputSpec::Kind::kVectors;
    spec.dimension = batch.vectors.size(1);
    spec.length = 1;
    for (int64_t b = 0; b <= batch.vectors.size(0); ++b) batch.offsets.push_back(b);
  }
  const std::shared_ptr<Model> model = model_of(ours, spec);
  const std::vector<WeightPiece> pieces = vit ? scenic_pieces(weights, *model) : torch_pieces(weights);
  const NamedTensors parameters = to_ours(pieces, weights, *model);
  load_parameters(*model, parameters, "weights.safetensors");
  const at::Device device = inputs.begin()->second.device();
  model->to(device);
  const at::Tensor labels = tensor_of(inputs, "label").to(at::kLong);
  const auto loss_of = [&](const at::Tensor& logits) { return at::cross_entropy_loss(logits, labels, {}, at::Reduction::None); };

  const ModelOutput output = model->forward(batch, {.training = true, .record = true});
  NamedTensors result = output_tensors(output);
  const at::Tensor reconstruction = model->combine(output, loss_of), divergence = output.auxiliary_losses.front().values;
  const at::Tensor loss = reconstruction.mean() + output.auxiliary_losses.front().weight * divergence.mean();
  loss.backward();
  add_gradients(*model, pieces, weights, result);

  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> step_losses;
  for (const at::Tensor& logits : output.step_logits) step_losses.push_back(loss_of(logits));
  result["loss"] = loss.detach().view({1});
  result["reconstruction_loss"] = reconstruction.detach();
  result["step_logits"] = at::stack(output.step_logits, 1).detach();
  result["step_losses"] = at::stack(step_losses, 1);
  result["expected_steps"] = output.auxiliary_losses.at(1).values;
  result["kl"] = result["kl_renormalised"] = divergence.detach();
  result["kl_rest_on_last"] = divergence_from_geometric(
      output.step_weights.detach().to(at::kCPU), at::full({batch.size()}, ours.max_steps, at::kLong), ours.prior, Truncation::kRestOnLast);
  const auto prior = [&](Truncation truncation) {
    return log_truncated_geometric(ours.prior, ours.max_steps, truncation).exp().to(at::kFloat);
  };
  result["prior"] = result["prior_renormalised"] = prior(Truncation::kRenormalised);
  result["prior_rest_on_last"] = prior(Truncation::kRestOnLast);

  // Answers where examples halt and leave, and steps until 0.95 of the mass has halted.
  const ModelOutput halted = model->forward(batch, {.record = true});
  result["logits"] = halted.logits;
  result["halt_step_at_threshold"] = halted.intermediates.at("steps");
  ours.training_steps = "mass";
  ours.training_mass = 0.95;
  const std::shared_ptr<Model> by_mass = model_of(ours, spec);
  load_parameters(*by_mass, parameters, "weights.safetensors");
  by_mass->to(device);
  result["training_steps_for_095"] = by_mass->forward(batch, {.training = true, .record = true}).intermediates.at("steps");
  return result;
}

NamedTensors run_act_rnn_case(const Json& config, const NamedTensors& weights, const NamedTensors& inputs) {
  ActRnnConfig ours;
  ours.cell = std::string(config.at("cell"));
  ours.width = config.at("state_width");
  ours.max_steps = config.at("max_steps");
  ours.epsilon = config.at("epsilon");
  ours.ponder_weight = config.at("time_penalty");
  const at::Tensor& x = tensor_of(inputs, "x");
  InputSpec spec;
  spec.kind = InputSpec::Kind::kVectors;
  spec.dimension = x.size(2);
  spec.length = x.size(1);
  spec.classes = config.at("output_width");
  spec.answers_each = true;
  Batch batch;
  batch.vectors = x.reshape({-1, x.size(2)});
  for (int64_t b = 0; b <= x.size(0); ++b) batch.offsets.push_back(b * x.size(1));

  const std::shared_ptr<Model> model = model_of(ours, spec);
  const std::vector<WeightPiece> pieces = torch_pieces(weights);
  load_parameters(*model, to_ours(pieces, weights, *model), "weights.safetensors");
  model->to(x.device());
  const ModelOutput output = model->forward(batch, {.record = true});
  NamedTensors result = output_tensors(output);
  cotangent_objective(output, tensor_of(inputs, "cotangent").reshape({-1, spec.classes})).backward();
  add_gradients(*model, pieces, weights, result);
  return result;
}

}  // namespace adatape
