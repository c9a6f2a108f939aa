#include "adatape/nn/segments.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cstring>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_clones.h"

namespace adatape {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

std::vector<int64_t> rows_named(const Segments& segments, size_t sources) {
  std::vector<int64_t> rows(sources);
  for (const Segment& segment : segments) rows[static_cast<size_t>(segment.source)] += segment.count;
  return rows;
}

// Copies between the joined rows and the sources' own: to the joined ones, or back.
void copy(const Segments& segments, const std::vector<char*>& sources, char* joined, size_t row_bytes, bool back) {
  std::vector<int64_t> places(segments.size());
  int64_t place = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    places[i] = place;
    place += segments[i].count;
  }
  const int64_t bytes_each = place * static_cast<int64_t>(row_bytes) / std::max<int64_t>(static_cast<int64_t>(segments.size()), 1);
  at::parallel_for(0, static_cast<int64_t>(segments.size()), ops::cpu::grain(bytes_each / 4), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Segment& segment = segments[static_cast<size_t>(i)];
      char* const own = sources[static_cast<size_t>(segment.source)] + static_cast<size_t>(segment.first) * row_bytes;
      char* const together = joined + static_cast<size_t>(places[static_cast<size_t>(i)]) * row_bytes;
      const size_t bytes = static_cast<size_t>(segment.count) * row_bytes;
      if (bytes == 0) continue;
      std::memcpy(back ? own : together, back ? together : own, bytes);
    }
  });
}

struct JoinFunction : torch::autograd::Function<JoinFunction> {
  static at::Tensor forward(AutogradContext* context, at::TensorList sources, const std::shared_ptr<const Segments>& segments) {
    std::vector<int64_t> sizes;
    std::vector<char*> data;
    variable_list contiguous;
    int64_t total = 0;
    for (const Segment& segment : *segments) total += segment.count;
    for (const at::Tensor& source : sources) {
      contiguous.push_back(source.contiguous());
      data.push_back(static_cast<char*>(const_cast<void*>(contiguous.back().const_data_ptr())));
      sizes.push_back(source.size(0));
    }
    at::Tensor joined = at::empty({total, sources.front().size(1)}, sources.front().options());
    copy(*segments, data, static_cast<char*>(joined.mutable_data_ptr()), static_cast<size_t>(joined.size(1)) * joined.element_size(),
         false);
    context->saved_data["sizes"] = sizes;
    context->saved_data["segments"] = c10::IValue::make_capsule(c10::make_intrusive<Holder>(segments));
    return joined;
  }

  static variable_list backward(AutogradContext* context, const variable_list& grads) {
    const std::vector<int64_t> sizes = context->saved_data["sizes"].toIntVector();
    const auto holder = c10::static_intrusive_pointer_cast<Holder>(context->saved_data["segments"].toCapsule());
    const Segments& segments = *holder->segments;
    const at::Tensor grad = grads[0].contiguous();
    if (at::GradMode::is_enabled()) return differentiable(segments, sizes, grad);
    const std::vector<int64_t> named = rows_named(segments, sizes.size());
    variable_list result;
    std::vector<char*> data;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const std::vector<int64_t> shape = {sizes[i], grad.size(1)};
      result.push_back(named[i] == sizes[i] ? at::empty(shape, grad.options()) : at::zeros(shape, grad.options()));
      data.push_back(static_cast<char*>(result.back().mutable_data_ptr()));
    }
    copy(segments, data, static_cast<char*>(const_cast<void*>(grad.const_data_ptr())),
         static_cast<size_t>(grad.size(1)) * grad.element_size(), true);
    result.emplace_back();  // of the segments
    return result;
  }

  // The same by calls that can be differentiated again.
  static variable_list differentiable(const Segments& segments, const std::vector<int64_t>& sizes, const at::Tensor& grad) {
    std::vector<std::vector<int64_t>> own(sizes.size()), together(sizes.size());
    int64_t place = 0;
    for (const Segment& segment : segments) {
      for (int64_t i = 0; i < segment.count; ++i) {
        own[static_cast<size_t>(segment.source)].push_back(segment.first + i);
        together[static_cast<size_t>(segment.source)].push_back(place++);
      }
    }
    variable_list result;
    for (size_t i = 0; i < sizes.size(); ++i) {
      result.push_back(
          at::zeros({sizes[i], grad.size(1)}, grad.options())
              .index_copy(0, torch::tensor(own[i], torch::kInt64), grad.index_select(0, torch::tensor(together[i], torch::kInt64))));
    }
    result.emplace_back();  // of the segments
    return result;
  }

  struct Holder : torch::CustomClassHolder {
    explicit Holder(std::shared_ptr<const Segments> segments_) : segments(std::move(segments_)) {}
    std::shared_ptr<const Segments> segments;
  };
};

// Elsewhere than on the CPU an index on the device does the same in one kernel.
at::Tensor join_by_index(const std::vector<at::Tensor>& sources, const Segments& segments) {
  std::vector<int64_t> starts(1), rows;
  for (const at::Tensor& source : sources) starts.push_back(starts.back() + source.size(0));
  for (const Segment& segment : segments) {
    for (int64_t i = 0; i < segment.count; ++i) rows.push_back(starts[static_cast<size_t>(segment.source)] + segment.first + i);
  }
  return (sources.size() == 1 ? sources.front() : at::cat(sources))
      .index_select(0, torch::tensor(rows, torch::kInt64).to(sources.front().device(), torch::kInt64, /*non_blocking=*/true));
}

}  // namespace

void add_segment(Segments& segments, const Segment& segment) {
  if (segment.count == 0) return;
  if (!segments.empty() && segments.back().source == segment.source && segments.back().first + segments.back().count == segment.first) {
    segments.back().count += segment.count;
  } else {
    segments.push_back(segment);
  }
}

torch::Tensor join_segments(const std::vector<torch::Tensor>& sources, const std::shared_ptr<const Segments>& segments) {
  ADATAPE_CHECK(!sources.empty(), "segments", "expected at least one tensor, got none");
  for (const Segment& segment : *segments) {
    ADATAPE_CHECK(segment.source >= 0 && segment.source < static_cast<int64_t>(sources.size()), "segments", "expected sources 0 .. ",
                  sources.size() - 1, ", got ", segment.source);
    const int64_t rows = sources[static_cast<size_t>(segment.source)].size(0);
    ADATAPE_CHECK(segment.first >= 0 && segment.count >= 0 && segment.first + segment.count <= rows, "segments",
                  "expected rows within 0 .. ", rows - 1, ", got ", segment.first, " and the ", segment.count, " from there on");
  }
  if (segments->size() == 1) {
    const torch::Tensor& source = sources[static_cast<size_t>(segments->front().source)];
    return segments->front().count == source.size(0) ? source : source.narrow(0, segments->front().first, segments->front().count);
  }
  if (!sources.front().is_cpu()) return join_by_index(sources, *segments);
  return JoinFunction::apply(at::TensorList(sources), segments);
}

}  // namespace adatape
