// What commands that run a model without training it share: device, threads, precision, and which kernels served.
#pragma once

#include <c10/core/Device.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "adatape/nn/mixed_precision.h"
#include "adatape/nn/module.h"

namespace adatape::cli {

// Says on stderr, when it goes at the end of a command that succeeds: with `verbose` which kernels really ran; and what the fast path did
// not serve, a line each, where a CUDA device serves or a precision was asked for, or with `verbose`.
class KernelReport {
 public:
  static constexpr const char* kHelp = "say on stderr at the end which kernels ran, and where a faster one could not";  // of --verbose
  KernelReport(c10::Device device, bool asked, bool verbose) : device_(device), asked_(asked), verbose_(verbose) {}
  ~KernelReport();
  KernelReport(const KernelReport&) = delete;
  KernelReport& operator=(const KernelReport&) = delete;

 private:
  c10::Device device_;
  bool asked_, verbose_;
};

struct InferenceOptions {
  std::string device = "auto", precision = "float32";
  int threads = 0;
  bool verbose = false;

  void declare(CLI::App& app);  // --device, --precision, --threads, --verbose
  c10::Device start() const;    // sets the threads
  // Packs the weights for CPU inference. Error where the precision asked for is not to be had. What ran is said when the command is over.
  void prepare(Module& model, c10::Device device) const;
  mutable std::shared_ptr<MixedPrecision> products;  // while these options live, once prepared for bfloat16 on CUDA
  mutable std::shared_ptr<KernelReport> report;      // likewise, once prepared
};

}  // namespace adatape::cli
