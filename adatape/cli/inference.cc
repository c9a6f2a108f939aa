#include "adatape/cli/inference.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <exception>
#include <iostream>

#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/ops/kernel_record.h"
#include "adatape/ops/packed_linear/packed_linear.h"

namespace adatape::cli {

void InferenceOptions::declare(CLI::App& app) {
  app.add_option("--device", device, "auto, cpu, cuda or cuda:N")->type_name("NAME")->capture_default_str();
  app.add_option("--precision", precision,
                 "factors of matrix products: float32, or bfloat16 (on the CPU in the blocks alone; sums and norms stay float32)")
      ->check(CLI::IsMember({"float32", "bfloat16"}))
      ->type_name("NAME")
      ->capture_default_str();
  app.add_option("--threads", threads, "CPU threads [all cores]")->type_name("N")->check(CLI::Range(1, 1024));
  app.add_flag("--verbose", verbose, KernelReport::kHelp);
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
  if (!report) report = std::make_shared<KernelReport>(on, half || on.is_cuda(), verbose);
}

KernelReport::~KernelReport() {
  if (std::uncaught_exceptions() > 0) return;  // an error is one line, and alone
  if (verbose_)
    std::cerr << "kernels: " << ops::recorded_kernels_text() << "; " << device_.str() << ", " << at::get_num_threads() << " threads\n";
  if (!verbose_ && !asked_) return;
  for (const ops::KernelRecord& fallback : ops::recorded_fallbacks())
    std::cerr << "adatape: " << fallback.part << ": not on the fast path: " << fallback.text << "\n";
}

}  // namespace adatape::cli
