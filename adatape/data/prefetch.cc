#include "adatape/data/prefetch.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <omp.h>

#include <chrono>

#include "adatape/core/check.h"

namespace adatape {

Prefetcher::Prefetcher(Make make, uint64_t first_step, int64_t workers, int64_t ahead)
    : make_(std::move(make)), ahead_(static_cast<uint64_t>(ahead)), next_step_(first_step), next_to_make_(first_step) {
  ADATAPE_CHECK(make_ != nullptr, "prefetch", "expected a function that makes batches, got none");
  ADATAPE_CHECK(workers >= 0, "prefetch", "expected workers >= 0, got ", workers);
  ADATAPE_CHECK(ahead >= 1, "prefetch", "expected ahead >= 1, got ", ahead);
  workers_.reserve(static_cast<size_t>(workers));
  for (int64_t i = 0; i < workers; ++i) {
    workers_.emplace_back([this](std::stop_token stop) { work(std::move(stop)); });
  }
}

Prefetcher::~Prefetcher() {
  for (std::jthread& worker : workers_) worker.request_stop();  // all at once; the destructors of the threads join
}

Prefetcher::Made Prefetcher::try_make(uint64_t step) const {
  const at::NoGradGuard no_grad;
  Made made;
  try {
    made.batch = make_(step);
  } catch (...) {
    made.error = std::current_exception();
  }
  return made;
}

void Prefetcher::work(std::stop_token stop) {
  // at::set_num_threads(1) would change every thread's default. The first at::get_num_threads() of a thread applies that default, after
  // which OpenMP's own setter holds for this thread alone.
  at::get_num_threads();
  omp_set_num_threads(1);

  std::unique_lock<std::mutex> lock(mutex_);
  while (room_.wait(lock, stop, [&] { return next_to_make_ - next_step_ < ahead_; })) {
    if (stop.stop_requested()) return;
    const uint64_t step = next_to_make_++;
    lock.unlock();
    Made made = try_make(step);
    lock.lock();
    made_.emplace(step, std::move(made));
    ready_.notify_one();
  }
}

Batch Prefetcher::next() {
  const auto start = std::chrono::steady_clock::now();
  Made made;
  if (workers_.empty()) {
    made = try_make(next_step_);
    if (made.error == nullptr) ++next_step_;
  } else {
    std::unique_lock<std::mutex> lock(mutex_);
    ready_.wait(lock, [&] { return made_.contains(next_step_); });
    const auto found = made_.find(next_step_);
    if (found->second.error != nullptr) {
      made.error = found->second.error;  // stays, so that later calls throw it too
    } else {
      made = std::move(found->second);
      made_.erase(found);
      ++next_step_;
    }
  }
  room_.notify_one();
  waited_seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (made.error != nullptr) std::rethrow_exception(made.error);
  return std::move(made.batch);
}

}  // namespace adatape
