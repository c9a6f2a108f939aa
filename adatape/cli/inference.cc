#include "adatape/cli/inference.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <iostream>

#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/ops/packed_attention/packed_attention_kernels.h"
#include "adatape/ops/packed_linear/packed_linear.h"
#include "adatape/ops/tape_read/tape_read_kernels.h"

namespace adatape::cli {

void InferenceOptions::declare(CLI::App& app) {
  app.add_option("--device", device, "auto, cpu, cuda or cuda:N")->type_name("NAME")->capture_default_str();
  app.add_option("--precision", precision,
                 "factors of matrix products: float32, or bfloat16 (on the CPU in the blocks alone; sums and norms stay float32)")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--threads", threads, "CPU threads [all cores]")->type_name("N")->check(CLI::Range(1, 1024));
  app.add_flag("--verbose", verbose, "say on stderr which kernels serve the model");
}

c10::Device InferenceOptions::start() const {
  if (threads > 0) at::set_num_threads(threads);
  return parse_device(device);
}

void InferenceOptions::prepare(Module& model, c10::Device on) const {
  const bool half = precision == "bfloat16";
  ADATAPE_CHECK(!half || on.is_cuda() || ops::has_bfloat16_products(), "precision",
                "expected a processor with bfloat16 products (avx512_bf16) for --precision bfloat16, this one has none; leave it out");
  if (half && on.is_cuda()) products = std::make_shared<MixedPrecision>(torch::kBFloat16, on);
  if (on.is_cpu()) model.pack_for_inference(half ? torch::kBFloat16 : torch::kFloat);
  const auto parameters = model.named_parameters();
  const bool experts =
      std::any_of(parameters.begin(), parameters.end(), [](const auto& p) { return p.name.find("experts.") != std::string::npos; });
  if (half && on.is_cpu() && experts) std::cerr << "adatape: blocks with experts multiply in float32 on a CPU, the others in bfloat16\n";
  if (!verbose) return;
  std::cerr << "kernels: matrix products "
            << (on.is_cpu()                       ? ops::packed_linear_kernel_name(half ? at::kBFloat16 : at::kFloat)
                : half && ops::has_cuda_kernels() ? "cublasLt bfloat16, norms of our own"
                                                  : "ATen")
            << ", attention "
            << (on.is_cpu() ? ops::packed_attention_kernel_name(on, at::kFloat) + (half ? " bfloat16" : "")
                : half      ? "ATen's flash attention of many lengths"
                            : "ATen's memory-efficient attention of many lengths")
            << " (plain calls where positions are relative), tape reading " << ops::tape_read_kernel_name(on, at::kFloat)
            << (on.is_cpu() ? "" : " from 512 bank rows an example on, below the reference") << "; " << on.str() << ", "
            << at::get_num_threads() << " threads\n";
}

}  // namespace adatape::cli
