// `adatape forward`: a model on the tensors of a file, every intermediate written out.
#include <ATen/Parallel.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "adatape/cli/command.h"
#include "adatape/cli/inference.h"
#include "adatape/convert/output_tensors.h"
#include "adatape/core/check.h"
#include "adatape/core/device.h"
#include "adatape/train/run_folder.h"

namespace adatape::cli {
namespace {

constexpr const char* kForwardMore =
    "For those who port or debug: logits and every intermediate.\n"
    "Input: `images` float [B, C, H, W] in [-1, 1], `symbols` / `token_ids` integers [B, L], or `vectors` float [B, L, D]; sequences\n"
    "also packed ([total], [total, D]) with `offsets` [B + 1]; an encoder-decoder also reads `decoder_symbols` / `decoder_ids`.\n"
    "Output: logits; tape_length, tape_indices (-1 = not read), tape_weights, tape_tokens, tape_halting, ponder_loss (an axis for the\n"
    "reading after B where there are several); steps, remainders, step_weights, halting_probabilities of Universal Transformers,\n"
    "token_counts and token_kinds (0 input, 1 class, 2 tape) where tokens halt one by one; with --gradients grad/PARAMETER of\n"
    "sum(logits * cotangent) + ponder weight * mean ponder loss, from `cotangent` [B, classes] in the input.\n"
    "\n"
    "Example:\n"
    "  adatape forward runs/parity/adatape --input in.safetensors --output out.safetensors --gradients";

struct ForwardArguments {
  std::string model, input, output, device = "cpu";
  std::vector<std::string> assignments;
  bool gradients = false, verbose = false;
  int threads = 0;
};

constexpr char kWhere[] = "forward";

// Where sequences begin: `offsets` [B + 1] of a packed tensor [total, ...], or equal lengths [B, L, ...].
std::vector<int64_t> read_offsets(const NamedTensors& tensors, const std::string& name, const at::Tensor& values, int64_t packed_dims,
                                  const std::string& file, const std::string& key = "offsets") {
  std::vector<int64_t> result;
  const auto given = tensors.find(key);
  if (given == tensors.end()) {
    ADATAPE_CHECK(values.dim() == packed_dims + 1, kWhere, file, ": expected `", name,
                  packed_dims == 1 ? "` [B, L], got " : "` [B, L, D], got ", values.sizes(), "; packed ",
                  name == "vectors" ? "vectors" : "symbols", " need `", key, "`");
    for (int64_t b = 0; b <= values.size(0); ++b) result.push_back(b * values.size(1));
    return result;
  }
  ADATAPE_CHECK(at::isIntegralType(given->second.scalar_type(), false), kWhere, file, ": expected integers in `", key, "`, got ",
                given->second.scalar_type());
  const at::Tensor places = given->second.to(at::kLong).contiguous();
  ADATAPE_CHECK(places.dim() == 1 && places.numel() > 0, kWhere, file, ": expected `", key, "` [B + 1], got ", places.sizes());
  result.assign(places.data_ptr<int64_t>(), places.data_ptr<int64_t>() + places.numel());
  int64_t total = 1;
  for (int64_t i = 0; i <= values.dim() - packed_dims; ++i) total *= values.size(i);
  bool rising = result.front() == 0 && result.back() == total;
  for (size_t i = 1; i < result.size(); ++i) rising = rising && result[i - 1] <= result[i];
  ADATAPE_CHECK(rising, kWhere, file, ": expected `", key, "` that rise from 0 to the ", total,
                name == "vectors" ? " vectors" : " symbols");
  return result;
}

// Images [B, C, H, W]; sequences of equal length, or packed with `offsets`: symbols int [B, L] or [total], vectors [B, L, D] or [total, D].
Batch read_batch(const NamedTensors& tensors, const InputSpec& spec, const std::string& file) {
  Batch batch;
  if (spec.kind == InputSpec::Kind::kImages) {
    const auto images = tensors.find("images");
    ADATAPE_CHECK(images != tensors.end(), kWhere, file, ": expected `images` [B, ", spec.channels, ", ", spec.height, ", ", spec.width,
                  "] in [-1, 1], found none");
    batch.images = images->second.to(at::kFloat);
    ADATAPE_CHECK(at::isfinite(batch.images).all().item<bool>(), kWhere, file, ": expected finite numbers in `images`");
  } else if (spec.kind == InputSpec::Kind::kVectors) {
    const auto vectors = tensors.find("vectors");
    ADATAPE_CHECK(vectors != tensors.end() && vectors->second.dim() >= 2, kWhere, file,
                  ": expected `vectors` [B, L, D], or packed [total, D] with `offsets`, found ",
                  vectors == tensors.end() ? "none" : concat(vectors->second.sizes()));
    batch.offsets = read_offsets(tensors, "vectors", vectors->second, 2, file);
    batch.vectors = vectors->second.to(at::kFloat).reshape({-1, vectors->second.size(-1)});
    ADATAPE_CHECK(at::isfinite(batch.vectors).all().item<bool>(), kWhere, file, ": expected finite numbers in `vectors`");
  } else {
    const auto symbols = tensors.count("symbols") ? tensors.find("symbols") : tensors.find("token_ids");
    ADATAPE_CHECK(symbols != tensors.end(), kWhere, file,
                  ": expected `symbols` or `token_ids` (integers [B, L], or packed [total] with `offsets`), found none");
    const at::Tensor& ids = symbols->second;
    ADATAPE_CHECK(at::isIntegralType(ids.scalar_type(), false), kWhere, file, ": expected integers in `", symbols->first, "`, got ",
                  ids.scalar_type());
    batch.offsets = read_offsets(tensors, symbols->first, ids, 1, file);
    batch.symbols = ids.to(at::kLong).reshape({-1});
    if (spec.decoder_length > 0) {
      const auto second = tensors.count("decoder_symbols") ? tensors.find("decoder_symbols") : tensors.find("decoder_ids");
      ADATAPE_CHECK(second != tensors.end() && at::isIntegralType(second->second.scalar_type(), false), kWhere, file,
                    ": expected integers `decoder_symbols` or `decoder_ids`, which the decoder reads, found none");
      batch.decoder_offsets = read_offsets(tensors, second->first, second->second, 1, file, "decoder_offsets");
      batch.decoder_symbols = second->second.to(at::kLong).reshape({-1});
      ADATAPE_CHECK(batch.decoder_offsets.size() == batch.offsets.size(), kWhere, file,
                    ": expected as many sequences for the decoder as for ", "the encoder, got ", batch.decoder_offsets.size() - 1, " and ",
                    batch.offsets.size() - 1);
    }
  }
  batch.examples = at::arange(batch.size(), at::kLong);
  return batch;
}

// A tensor that nothing reads is a mistake, such as a decoder's symbols for a decoder alone. (A cotangent may stay: the same file serves
// with and without --gradients.)
void check_all_read(const NamedTensors& tensors, const InputSpec& spec, const std::string& file) {
  std::vector<std::string> read = {"cotangent"};
  if (spec.kind == InputSpec::Kind::kImages) {
    read.push_back("images");
  } else {
    read.push_back("offsets");
    read.push_back(spec.kind == InputSpec::Kind::kVectors ? "vectors" : tensors.count("symbols") ? "symbols" : "token_ids");
  }
  if (spec.decoder_length > 0) {
    read.push_back("decoder_offsets");
    read.push_back(tensors.count("decoder_symbols") ? "decoder_symbols" : "decoder_ids");
  }
  std::string known;
  for (const std::string& name : read) known += (known.empty() ? "" : ", ") + name;
  for (const auto& [name, tensor] : tensors) {
    ADATAPE_CHECK(std::find(read.begin(), read.end(), name) != read.end(), kWhere, file,
                  ": expected no other tensors than this model reads (", known, "), got `", name, "`; leave it out");
  }
}

int run_forward(const ForwardArguments& options) {
  if (options.threads > 0) at::set_num_threads(options.threads);
  const at::Device device = parse_device(options.device);
  const KernelReport report(device, /*asked=*/device.is_cuda(), options.verbose);
  // Weights stay as they are: packed, a bank's two layers are one product, and what comes out with gradients would be other bits.
  const LoadedRun loaded = load_run(options.model, options.assignments, device, /*with_task=*/false);
  const NamedTensors inputs = read_safetensors(options.input).tensors;
  const Batch batch = read_batch(inputs, loaded.config.task->input_spec(), options.input).to(device);
  check_all_read(inputs, loaded.config.task->input_spec(), options.input);
  ForwardOptions forward;
  forward.record = true;
  NamedTensors result;
  if (options.gradients) {
    const auto cotangent = inputs.find("cotangent");
    ADATAPE_CHECK(cotangent != inputs.end(), kWhere, options.input,
                  ": --gradients expects `cotangent` with the shape of the logits, found none");
    const ModelOutput output = loaded.model->forward(batch, forward);
    result = output_tensors(output);
    cotangent_objective(output, cotangent->second.to(device)).backward();
    for (auto& [name, gradient] : parameter_gradients(*loaded.model)) result["grad/" + name] = gradient;
  } else {
    torch::NoGradGuard no_grad;
    result = output_tensors(loaded.model->forward(batch, forward));
  }
  write_safetensors(options.output, result);
  std::cout << options.output << ": " << result.size() << " tensors of " << batch.size() << " examples\n";
  return 0;
}

}  // namespace

std::function<int()> declare_forward(CLI::App& app) {
  auto options = std::make_shared<ForwardArguments>();
  app.footer(kForwardMore);
  app.add_option("model", options->model, "run or model folder")->required()->type_name("MODEL");
  app.add_option("--input", options->input, "tensors to read")->required()->type_name("IN.safetensors");
  app.add_option("--output", options->output, "file to write")->required()->type_name("OUT.safetensors");
  app.add_option("--set", options->assignments, "change a configuration key, e.g. model.readers.0.threshold=3")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--device", options->device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--threads", options->threads, "CPU threads [all cores]")->type_name("N")->check(CLI::Range(1, 1024));
  app.add_flag("--verbose", options->verbose, KernelReport::kHelp);
  app.add_flag("--gradients", options->gradients, "also write the gradient of every parameter");
  return [options] { return run_forward(*options); };
}

}  // namespace adatape::cli
