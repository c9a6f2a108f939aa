// `adatape verify`: golden cases.
#include <iomanip>
#include <iostream>
#include <memory>

#include "adatape/cli/command.h"
#include "adatape/convert/golden_case.h"
#include "adatape/core/check.h"
#include "adatape/core/utf8.h"

namespace adatape::cli {
namespace {

constexpr const char* kVerifyMore =
    "A golden case is a small model whose answers an independent implementation computed: a folder with case.json,\n"
    "weights.safetensors, inputs.safetensors and expected.safetensors. Each expected tensor is compared\n"
    "(|got - expected| <= tolerance x max(1, max |expected|), integers equal); one that is not produced is a failure,\n"
    "and so is expected.safetensors without a tensor to compare.\n"
    "Exit status 1 when a case fails. Without expected.safetensors nothing is compared (status 0).\n"
    "\n"
    "Examples:\n"
    "  adatape verify tests/golden/*\n"
    "  adatape verify tests/golden/vit_timm --output vit.safetensors";

struct VerifyArguments {
  std::vector<std::string> folders;
  std::string output;
};

void print(const CaseResult& result) {
  if (!result.compared) {
    std::cout << for_terminal(result.name) << ": " << result.tensors.size()
              << " tensors produced, not compared (no expected.safetensors)\n";
    return;
  }
  std::cout << for_terminal(result.name) << '\n';
  if (result.comparisons.empty()) std::cout << "  FAILED  expected.safetensors holds no tensor to compare\n";
  for (const TensorComparison& comparison : result.comparisons) {
    std::cout << "  " << (comparison.passed ? "ok    " : "FAILED") << "  " << std::left << std::setw(96) << for_terminal(comparison.name)
              << std::right;
    if (!comparison.note.empty()) {
      std::cout << "  " << comparison.note << '\n';
    } else {
      std::cout << "  error " << std::scientific << std::setprecision(2) << comparison.largest_error << "  of " << comparison.tolerance
                << std::defaultfloat << '\n';
    }
  }
}

int run_verify(const VerifyArguments& options) {
  ADATAPE_CHECK(options.output.empty() || options.folders.size() == 1, "verify", "--output takes the tensors of one case, got ",
                options.folders.size(), " cases");
  size_t failed = 0, compared = 0;
  for (const std::string& folder : options.folders) {
    const CaseResult result = run_golden_case(folder);
    print(result);
    if (!options.output.empty()) write_safetensors(options.output, result.tensors);
    compared += result.compared;
    failed += result.compared && !result.passed();
  }
  std::cout << compared - failed << " of " << compared << " compared cases passed";
  if (compared < options.folders.size()) std::cout << ", " << options.folders.size() - compared << " not compared";
  std::cout << '\n';
  return failed == 0 ? 0 : 1;
}

}  // namespace

std::function<int()> declare_verify(CLI::App& app) {
  auto options = std::make_shared<VerifyArguments>();
  app.footer(kVerifyMore);
  app.add_option("cases", options->folders, "case folders")->required()->type_name("CASE_DIR");
  app.add_option("--output", options->output, "write every tensor to this file, under the names of expected.safetensors")
      ->type_name("OUT.safetensors");
  return [options] { return run_verify(*options); };
}

}  // namespace adatape::cli
