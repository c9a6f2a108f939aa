// ViT as timm names its weights: state_dict of VisionTransformer (vit_*, deit_* without distillation) in, and back out.
#pragma once

#include <string>
#include <vector>

#include "adatape/convert/weight_map.h"
#include "adatape/models/transformer.h"

namespace adatape {

// Where each tensor of a state_dict goes. Error on a name that timm's VisionTransformer does not have or we do not (LayerScale, a
// distillation token).
std::vector<WeightPiece> timm_pieces(const NamedTensors& source, const Model& model);

// Error where a model of this configuration would compute something else from these weights than timm does: another GELU, another place of
// the final norm.
void check_timm_config(const EncoderConfig& config, const NamedTensors& source);

// The state_dict of a ViT of this configuration: the same bits, timm's names and shapes. Error where timm's VisionTransformer has no such
// model (tanh GELU, no positions, other parameters).
NamedTensors to_timm(const EncoderConfig& config, const Model& model);

// The call that makes this model in Python, all that differs from vit_base_patch16_224 given: `timm.create_model("...", img_size=(H, W),
// ...)`.
std::string timm_call(const TransformerConfig& config, const InputSpec& input);

}  // namespace adatape
