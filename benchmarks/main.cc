// Runs the benchmarks, then prints one table of all that have a goal; --json=FILE writes it too. Google Benchmark's own options work as
// usual.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "benchmarks/side_by_side.h"

namespace {

void print_table(const std::vector<adatape::BenchmarkRow>& rows) {
  std::printf("\n%-42s %12s  %-12s %12s %8s %8s\n", "", "ours, ms", "rival", "rival, ms", "ratio", "goal");
  for (const adatape::BenchmarkRow& row : rows) {
    std::printf("%-42s %12.3f  %-12s %12.3f %8.2f %8.2f%s\n", row.name.c_str(), row.ours_ms, row.rival.c_str(), row.rival_ms, row.ratio(),
                row.goal, row.ratio() < row.goal ? "  short" : "");
  }
}

bool write_json(const std::string& file, const std::vector<adatape::BenchmarkRow>& rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const adatape::BenchmarkRow& row : rows) {
    all.push_back({{"name", row.name},
                   {"ours_ms", row.ours_ms},
                   {"rival", row.rival},
                   {"rival_ms", row.rival_ms},
                   {"ratio", row.ratio()},
                   {"goal", row.goal}});
    if (row.flops_saved > 0) all.back().update({{"flops_saved", row.flops_saved}, {"time_saved", row.time_saved()}});
  }
  std::error_code ignored;
  const std::filesystem::path parent = std::filesystem::path(file).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, ignored);
  std::ofstream out(file);
  out << all.dump(2) << "\n";
  out.close();
  return static_cast<bool>(out);
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
  // keep_freed_memory, which most benchmarks call, lasts as long as the process: what runs with the C library's own habits goes first.
  if (const std::string filter = benchmark::GetBenchmarkFilter(); filter.empty() || filter == "all" || filter == ".") {
    constexpr const char* kOwnHabits = "^(tape_read|dense_linear|layer_norm|one_query)/";
    benchmark::ConsoleReporter first, then;
    benchmark::RunSpecifiedBenchmarks(&first, kOwnHabits);
    benchmark::RunSpecifiedBenchmarks(&then, std::string("-") + kOwnHabits);
  } else {
    benchmark::RunSpecifiedBenchmarks();
  }
  print_table(adatape::benchmark_rows());
  if (!json.empty() && !write_json(json, adatape::benchmark_rows())) {
    std::fprintf(stderr, "benchmarks: expected a file that can be written, got %s; give another one to --json\n", json.c_str());
    return 2;
  }
  return 0;
}
