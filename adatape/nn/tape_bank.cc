#include "adatape/nn/tape_bank.h"

#include "adatape/core/check.h"
#include "adatape/nn/look_up.h"
#include "adatape/nn/patches.h"
#include "adatape/ops/half_block/half_block.h"

namespace adatape {

void TapeBankConfig::fields(FieldVisitor& visit) {
  visit.text("name", name, "what readers call this bank");
  visit.choice("kind", kind, {"input", "learnable"}, "made from each example's raw input, or learned rows shared by all");
  visit.integer("rows", rows, {1, 100000000}, "learnable bank: number of rows M");
  visit.integer("patch", patch, {1, 4096}, "input-driven bank of images: side of a bank patch in pixels");
  visit.integer("resolution", resolution, {0, 16384}, "input-driven bank of images: resize the image to this side first; 0 = as it is");
  visit.choice("positions", positions, {"auto", "on", "off"}, "position embedding of the rows; auto: on for images, off for sequences");
}

TapeBank::TapeBank(const TapeBankConfig& config_, const InputSpec& spec_, int64_t width) : config(config_), spec(spec_) {
  if (config.kind == "learnable") {
    rows = register_parameter("rows", torch::zeros({config.rows, width}));
    return;
  }
  const bool images = spec.kind == InputSpec::Kind::kImages;
  const bool with_positions = config.positions == "on" || (config.positions == "auto" && images);
  int64_t count = spec.length;
  if (images) {
    const int64_t height = config.resolution > 0 ? config.resolution : spec.height,
                  image_width = config.resolution > 0 ? config.resolution : spec.width;
    ADATAPE_CHECK(config.patch <= height && config.patch <= image_width, "config", "model.banks: bank \"", config.name,
                  "\": expected patch at most ", std::min(height, image_width), ", got ", config.patch);
    count = (height / config.patch) * (image_width / config.patch);
    patch_weight = register_parameter("patch_weight", torch::zeros({width, spec.channels, config.patch, config.patch}));
  } else if (spec.kind == InputSpec::Kind::kVectors) {
    vector_weight = register_parameter("vector_weight", torch::zeros({width, spec.dimension}));
  } else {
    symbol_weight = register_parameter("symbol_weight", torch::zeros({width, spec.vocabulary}));
  }
  bias = register_parameter("bias", torch::zeros({width}));
  if (with_positions) positions = register_parameter("positions", torch::zeros({count, width}));
  if (images) project = register_module("project", std::make_shared<Linear>(width, width));
}

void TapeBank::initialize(at::Generator& generator) {
  torch::NoGradGuard no_grad;
  if (rows.defined()) truncated_normal(rows, 0.02, generator);
  if (patch_weight.defined()) lecun_normal(patch_weight, patch_weight.numel() / patch_weight.size(0), generator);
  if (symbol_weight.defined()) lecun_normal(symbol_weight, symbol_weight.size(1), generator);
  if (vector_weight.defined()) lecun_normal(vector_weight, vector_weight.size(1), generator);
  if (bias.defined()) bias.zero_();
  if (positions.defined()) normal(positions, 0.02, generator);
  if (project) xavier_uniform(*project, generator);
}

void TapeBank::pack(torch::Dtype) {
  if (!project || !patch_weight.is_cpu()) return;
  torch::NoGradGuard no_grad;
  const auto wide = [](const torch::Tensor& x) { return x.to(torch::kDouble); };
  const torch::Tensor first = wide(patch_weight.view({patch_weight.size(0), -1})), second = wide(project->weight);
  const torch::Tensor offset = positions.defined() ? wide(positions) + wide(bias) : wide(bias);
  packed_patches_ = ops::pack_weight(at::matmul(second, first), {}, torch::kFloat);
  packed_offset_ = (at::matmul(offset, second.t()) + wide(project->bias)).to(torch::kFloat);
}

BankRows TapeBank::forward(const Batch& batch, const ForwardContext& context) const {
  if (rows.defined()) return {rows, nullptr};
  const std::string part = "bank " + config.name;
  if (spec.sequences()) {
    std::vector<int64_t> lengths;
    for (int64_t b = 0; b < batch.size(); ++b) lengths.push_back(batch.offsets[b + 1] - batch.offsets[b]);
    if (vector_weight.defined())
      context.count(part + " / vectors", lengths, product_cost(vector_weight.size(1), vector_weight.size(0), true));
    auto layout = std::make_shared<const PackLayout>(std::move(lengths), std::vector<TokenKind>{}, bias.device());
    // A look-up, so that equal symbols are equal bits: their scores then tie exactly and the lower index wins.
    torch::Tensor values =
        vector_weight.defined() ? linear(batch.vectors, vector_weight, bias) : look_up(symbol_weight.t() + bias, batch.symbols);
    if (positions.defined()) {
      ADATAPE_CHECK(layout->longest() <= positions.size(0), "model", "bank \"", config.name, "\": expected sequences of at most ",
                    positions.size(0), " elements (learned positions), got ", layout->longest());
      const torch::Tensor place = torch::arange(layout->total(), layout->offsets_tensor().options()) -
                                  layout->offsets_tensor().index_select(0, layout->example_of_token());
      values = values + positions.index_select(0, place);
    }
    return {values, std::move(layout)};
  }
  torch::Tensor images = batch.images;
  if (config.resolution > 0) images = at::_upsample_bilinear2d_aa(images, {config.resolution, config.resolution}, false);
  const torch::Tensor weight = patch_weight.view({patch_weight.size(0), -1});
  const torch::Tensor patches = patch_rows(images, config.patch);
  const int64_t batch_size = batch.size(), count = (images.size(2) / config.patch) * (images.size(3) / config.patch);
  const std::vector<int64_t> lengths(static_cast<size_t>(batch_size), count);
  const auto layout = std::make_shared<const PackLayout>(lengths, std::vector<TokenKind>{}, images.device());
  context.count(part + " / patches", lengths, product_cost(weight.size(1), weight.size(0), true));
  if (packed_path(patches, packed_patches_)) {
    const torch::Tensor values = linear(patches, weight, {}, packed_patches_);
    values.view({batch_size, count, values.size(1)}).add_(packed_offset_);
    return {values, layout};
  }
  if (ops::half_products() && patches.is_cuda()) {
    // Linear over linear is one product. To multiply the weights is small work beside a batch's rows, so nothing needs to be kept.
    torch::Tensor together, offset;
    {
      const c10::impl::ExcludeDispatchKeyGuard in_float32(c10::autocast_dispatch_keyset);
      together = at::mm(project->weight, weight).to(patches.scalar_type());
      offset = at::linear(positions.defined() ? positions + bias : bias.unsqueeze(0), project->weight, project->bias);
    }
    torch::Tensor values = linear(patches, together, torch::Tensor());
    if (at::GradMode::is_enabled() || !ops::has_half_block(values, values.size(1))) {
      values = (values.view({batch_size, count, values.size(1)}) + offset.to(values.scalar_type())).view({-1, values.size(1)});
    } else {
      ops::cuda_kernels().add_table(values, offset);
    }
    return {values, layout};
  }
  torch::Tensor values = linear(patches, weight, bias);
  if (positions.defined()) values = (values.view({batch_size, count, values.size(1)}) + positions).view({-1, values.size(1)});
  context.count(part + " / projection", lengths, project->cost_per_row());
  return {project->forward(values), layout};
}

}  // namespace adatape
