// Runs the benchmarks, then prints one table of all that have a goal; --json=FILE writes it too, beside rows of other programs that the
// file has. Google Benchmark's own options work as usual. An answer that is wrong is an error of the program, exit status 1.
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "adatape/core/check.h"
#include "adatape/core/files.h"
#include "adatape/ops/kernel_record.h"
#include "benchmarks/side_by_side.h"

namespace {

// What the ratio is, where it is not rival_ms / ours_ms; else "".
std::string ratio_of(const adatape::BenchmarkRow& row) {
  return row.flops_saved > 0 ? "time_saved / flops_saved" : row.factor != 1 ? "factor x rival_ms / ours_ms" : "";
}

void print_table(const std::vector<adatape::BenchmarkRow>& rows) {
  std::printf("\n%-42s %12s  %-12s %12s %8s %8s\n", "", "ours, ms", "rival", "rival, ms", "ratio", "goal");
  for (const adatape::BenchmarkRow& row : rows) {
    const std::string of = ratio_of(row);
    std::printf("%-42s %12.3f  %-12s %12.3f %8.2f %8.2f%s%s\n", row.name.c_str(), row.ours_ms, row.rival.c_str(), row.rival_ms, row.ratio(),
                row.goal, row.ratio() < row.goal ? "  short" : "", of.empty() ? "" : ("  (" + of + ")").c_str());
  }
}

// What ran, rivals that are plain calls left out, and where a faster kernel could not.
void print_kernels() {
  std::printf("\nkernels: %s; %d threads\n", adatape::ops::recorded_kernels_text().c_str(), at::get_num_threads());
  for (const adatape::ops::KernelRecord& fallback : adatape::ops::recorded_fallbacks())
    std::printf("%s: not on the fast path: %s\n", fallback.part.c_str(), fallback.text.c_str());
}

// Google Benchmark goes on after a benchmark that refuses its answer, and its row is missing in the end: counted here.
class Reporter : public benchmark::ConsoleReporter {
 public:
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) errors += run.error_occurred ? 1 : 0;
    ConsoleReporter::ReportRuns(runs);
  }
  int errors = 0;
};

void write_json(const std::string& file, const std::vector<adatape::BenchmarkRow>& rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  if (std::filesystem::exists(file)) {
    const auto before = nlohmann::ordered_json::parse(adatape::read_file(file), nullptr, /*allow_exceptions=*/false);
    // Rows of benchmarks/peers say how many register tokens the rival has, or which speed the device reached.
    for (const auto& row : before.is_array() ? before : nlohmann::ordered_json::array()) {
      if (row.contains("register_tokens") || row.contains("matmul_tflops")) all.push_back(row);
    }
  }
  for (const adatape::BenchmarkRow& row : rows) {
    all.push_back({{"name", row.name},
                   {"ours_ms", row.ours_ms},
                   {"rival", row.rival},
                   {"rival_ms", row.rival_ms},
                   {"ratio", row.ratio()},
                   {"goal", row.goal}});
    if (row.flops_saved > 0) all.back().update({{"flops_saved", row.flops_saved}, {"time_saved", row.time_saved()}});
    if (row.factor != 1) all.back()["factor"] = row.factor;
    if (const std::string of = ratio_of(row); !of.empty()) all.back()["ratio_of"] = of;
  }
  const std::filesystem::path parent = std::filesystem::path(file).parent_path();
  if (!parent.empty()) adatape::make_directories(parent.string());
  adatape::write_file_atomically(file, all.dump(2) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  std::string json;
  int kept = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--json=", 0) == 0) {
      json = argument.substr(7);
    } else {
      argv[kept++] = argv[i];
    }
  }
  argc = kept;
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  Reporter reporter;
  // keep_freed_memory, which most benchmarks call, lasts as long as the process: what runs with the C library's own habits goes first.
  if (const std::string filter = benchmark::GetBenchmarkFilter(); filter.empty() || filter == "all" || filter == ".") {
    constexpr const char* kOwnHabits = "^(tape_read|dense_linear|layer_norm|one_query)/";
    Reporter first;
    benchmark::RunSpecifiedBenchmarks(&first, kOwnHabits);
    benchmark::RunSpecifiedBenchmarks(&reporter, std::string("-") + kOwnHabits);
    reporter.errors += first.errors;
  } else {
    benchmark::RunSpecifiedBenchmarks(&reporter);
  }
  print_table(adatape::benchmark_rows());
  print_kernels();
  try {
    if (!json.empty()) write_json(json, adatape::benchmark_rows());
  } catch (const adatape::Error& error) {
    std::fprintf(stderr, "benchmarks: %s; give another file to --json\n", error.what());
    return 2;
  }
  if (reporter.errors > 0)
    std::fprintf(stderr, "benchmarks: expected right answers of all, got %d that were refused (see above)\n", reporter.errors);
  return reporter.errors > 0 ? 1 : 0;
}
