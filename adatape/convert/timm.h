// ViT as timm names its weights: state_dict of VisionTransformer (vit_*, deit_* without distillation) in, and back out.
#pragma once

#include <vector>

#include "adatape/convert/weight_map.h"
#include "adatape/models/encoder_config.h"

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

}  // namespace adatape
