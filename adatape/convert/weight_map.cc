#include "adatape/convert/weight_map.h"

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr char kWhere[] = "import";

at::Tensor piece_to_ours(const WeightPiece& piece, const at::Tensor& source, at::IntArrayRef shape) {
  int64_t elements = 1;
  for (const int64_t size : shape) elements *= size;
  ADATAPE_CHECK(source.numel() == elements, kWhere, "tensor ", piece.source, ": expected ", elements, " numbers for ", piece.ours, " ", shape, ", got ",
                source.sizes());
  switch (piece.form) {
    case WeightPiece::Form::kReshape:
      return source.reshape(shape);
    case WeightPiece::Form::kTransposed:
      return source.reshape({-1, shape[0]}).t().reshape(shape);
    case WeightPiece::Form::kConvolution:
      ADATAPE_CHECK(source.dim() == 4, kWhere, "tensor ", piece.source, ": expected 4 dimensions, got ", source.sizes());
      return source.permute({3, 2, 0, 1}).reshape(shape);
  }
  return source;
}

at::Tensor piece_to_source(const WeightPiece& piece, const at::Tensor& ours, at::IntArrayRef shape) {
  switch (piece.form) {
    case WeightPiece::Form::kReshape:
      return ours.reshape(shape);
    case WeightPiece::Form::kTransposed:
      return ours.reshape({ours.size(0), -1}).t().reshape(shape);
    case WeightPiece::Form::kConvolution:
      return ours.permute({2, 3, 1, 0}).reshape(shape);
  }
  return ours;
}

}  // namespace

NamedTensors to_ours(const std::vector<WeightPiece>& pieces, const NamedTensors& source, const Model& model) {
  NamedTensors ours;
  std::map<std::string, int64_t> rows_filled;
  std::map<std::string, at::Tensor> parameters;
  for (const NamedParameter& parameter : model.named_parameters()) parameters[parameter.name] = parameter.tensor;
  for (const WeightPiece& piece : pieces) {
    const auto parameter = parameters.find(piece.ours);
    ADATAPE_CHECK(parameter != parameters.end(), kWhere, "tensor ", piece.source, ": this configuration has no ", piece.ours,
                  "; make the configuration match the weights");
    at::Tensor tensor = source.at(piece.source);
    if (piece.layer >= 0) {
      ADATAPE_CHECK(tensor.dim() > 0 && piece.layer < tensor.size(0), kWhere, "tensor ", piece.source, ": expected at least ", piece.layer + 1,
                    " stacked blocks, got ", tensor.sizes());
      tensor = tensor.select(0, piece.layer);
    }
    const at::Tensor& target = parameter->second;
    const int64_t count = piece.count < 0 ? target.size(0) : piece.count;
    std::vector<int64_t> shape = target.sizes().vec();
    shape[0] = count;
    at::Tensor& into = ours.try_emplace(piece.ours, at::empty(target.sizes(), at::kFloat)).first->second;
    into.narrow(0, piece.first, count).copy_(piece_to_ours(piece, tensor.to(at::kFloat), shape));
    rows_filled[piece.ours] += count;
  }
  for (const auto& [name, tensor] : parameters) {
    ADATAPE_CHECK(rows_filled[name] == tensor.size(0), kWhere, "no tensor in the weights gives ", name, " ", tensor.sizes(),
                  rows_filled[name] > 0 ? " completely" : "", "; make the configuration match the weights");
  }
  return ours;
}

NamedTensors to_source(const std::vector<WeightPiece>& pieces, const NamedTensors& ours, const NamedTensors& source_shapes) {
  NamedTensors result;
  for (const WeightPiece& piece : pieces) {
    const at::Tensor& whole = ours.at(piece.ours);
    const at::Tensor part = piece.count < 0 ? whole : whole.narrow(0, piece.first, piece.count);
    const at::Tensor& like = source_shapes.at(piece.source);
    if (piece.layer < 0) {
      result[piece.source] = piece_to_source(piece, part, like.sizes()).contiguous();
      continue;
    }
    at::Tensor& stacked = result.try_emplace(piece.source, at::zeros(like.sizes(), at::kFloat)).first->second;
    stacked.select(0, piece.layer).copy_(piece_to_source(piece, part, like.sizes().slice(1)));
  }
  return result;
}

}  // namespace adatape
