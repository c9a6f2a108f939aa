#include "adatape/convert/weight_map.h"

#include "adatape/core/check.h"

namespace adatape {
namespace {

constexpr char kWhere[] = "import";

// Each size of `shape` is a product of neighbours in `sizes`, in order: [1, 17, 16] is [17, 16], [heads, d] is [heads * d], [16, 5] is not
// [5, 16].
bool merges_to(at::IntArrayRef sizes, at::IntArrayRef shape) {
  size_t next = 0;
  for (const int64_t wanted : shape) {
    int64_t product = 1;
    while (next < sizes.size() && (product < wanted || sizes[next] == 1)) product *= sizes[next++];
    if (product != wanted) return false;
  }
  return next == sizes.size();
}

// The shape that a source tensor should have, in its own order of axes, and what becomes of it.
std::string expected_source(const WeightPiece& piece, at::IntArrayRef shape) {
  const std::string rows = piece.count < 0 ? "" : concat("rows ", piece.first, " .. ", piece.first + piece.count - 1, " of ");
  std::vector<int64_t> axes = shape.vec();
  std::string order;
  if (piece.form == WeightPiece::Form::kTransposed) {
    axes = {1, shape[0]};
    for (const int64_t size : shape.slice(1)) axes[0] *= size;
    order = "[in, out], ";
  } else if (piece.form == WeightPiece::Form::kConvolution && shape.size() == 4) {
    axes = {shape[2], shape[3], shape[1], shape[0]};
    order = "[height, width, in, out], ";
  }
  return concat(at::IntArrayRef(axes), " (", order, "for ", rows, piece.ours, ")");
}

at::Tensor piece_to_ours(const WeightPiece& piece, const at::Tensor& source, at::IntArrayRef shape) {
  int64_t inputs = 1;
  for (const int64_t size : shape.slice(1)) inputs *= size;
  const bool convolution = piece.form == WeightPiece::Form::kConvolution;
  const at::Tensor turned = convolution && source.dim() == 4 ? source.permute({3, 2, 0, 1}) : source;
  const bool fits = convolution                                    ? turned.sizes() == shape
                    : piece.form == WeightPiece::Form::kTransposed ? merges_to(source.sizes(), {inputs, shape[0]})
                                                                   : merges_to(source.sizes(), shape);
  ADATAPE_CHECK(fits, kWhere, "tensor ", piece.source, ": expected ", expected_source(piece, shape), ", got ", source.sizes(),
                "; make the configuration match the weights");
  if (piece.form == WeightPiece::Form::kTransposed) return source.reshape({inputs, shape[0]}).t().reshape(shape);
  return turned.reshape(shape);
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
      ADATAPE_CHECK(tensor.dim() > 0 && piece.layer < tensor.size(0), kWhere, "tensor ", piece.source, ": expected at least ",
                    piece.layer + 1, " stacked blocks, got ", tensor.sizes());
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
