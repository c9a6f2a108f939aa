// What commands that run a model without training it share: device, threads, precision, and which kernels serve.
#pragma once

#include <c10/core/Device.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "adatape/nn/mixed_precision.h"
#include "adatape/nn/module.h"

namespace adatape::cli {

struct InferenceOptions {
  std::string device = "auto", precision = "float32";
  int threads = 0;
  bool verbose = false;

  void declare(CLI::App& app);  // --device, --precision, --threads, --verbose
  c10::Device start() const;    // sets the threads
  // Packs the weights for CPU inference. Error where the precision asked for is not to be had; with --verbose the kernels on stderr.
  void prepare(Module& model, c10::Device device) const;
  mutable std::shared_ptr<MixedPrecision> products;  // while these options live, once prepared for bfloat16 on CUDA
};

}  // namespace adatape::cli
