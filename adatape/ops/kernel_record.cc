#include "adatape/ops/kernel_record.h"

#include <algorithm>
#include <mutex>

#include "adatape/core/check.h"
#include "adatape/ops/cpu_clones.h"

namespace adatape::ops {
namespace {

struct Records {
  std::mutex mutex;
  std::vector<KernelRecord> kernels, fallbacks;
};

// Never destroyed: the end of the program may still ask.
Records& records() {
  static Records* const only = new Records;
  return *only;
}

void add(std::vector<KernelRecord>& to, KernelRecord record) {
  const std::lock_guard<std::mutex> lock(records().mutex);
  if (std::find(to.begin(), to.end(), record) == to.end()) to.push_back(std::move(record));
}

std::vector<KernelRecord> copy_of(const std::vector<KernelRecord>& from) {
  const std::lock_guard<std::mutex> lock(records().mutex);
  return from;
}

}  // namespace

void record_kernel(const char* part, const std::string& kernel) { add(records().kernels, {part, kernel}); }
void record_fallback(const char* part, const std::string& reason) { add(records().fallbacks, {part, reason}); }
std::vector<KernelRecord> recorded_kernels() { return copy_of(records().kernels); }
std::vector<KernelRecord> recorded_fallbacks() { return copy_of(records().fallbacks); }

const char* cpu_instructions(int64_t lanes) {
  if (lanes == 16) return "avx512";
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)  // where ADATAPE_CPU_CLONES clones
  if (__builtin_cpu_supports("x86-64-v3")) return "avx2";
#endif
  return "plain";
}

void record_cpu_kernel(const char* part, const char* form, int64_t lanes, const char* factors) {
  const std::string instructions = cpu_instructions(lanes);
  record_kernel(part, concat(form, " ", instructions, " ", factors));
  if (instructions == "plain") record_fallback(kCpuKernels, "neither AVX2 nor AVX-512 serves, by this processor or this build");
}

std::string recorded_kernels_text() {
  const std::vector<KernelRecord> kernels = recorded_kernels();
  std::string text;
  for (const char* part : {kMatrixProducts, kNorms, kAttention, kTapeReading, kEncoderBlocks}) {
    bool first = true;
    for (const KernelRecord& kernel : kernels) {
      if (kernel.part != part) continue;
      text += first ? concat(text.empty() ? "" : "; ", part, " ") : ", ";
      text += kernel.text;
      first = false;
    }
  }
  return text;
}

}  // namespace adatape::ops
