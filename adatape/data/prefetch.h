// Makes batches ahead of use on worker threads and hands them out in step order.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include "adatape/core/batch.h"

namespace adatape {

// make(step) is called once a step, from several threads at once, and must be a function of the step alone; so the batches and their order
// do not depend on the number of workers. An exception of make(step) is thrown by the next() that would have returned this step, and by
// every later one. At most `ahead` batches are made and not yet handed out.
//
// make runs without autograd, and on workers with OpenMP teams of one thread (theirs alone: the consumer keeps its threads), so that an
// ATen call inside make does not start a team in each worker. Not thread-safe for several consumers. The destructor waits for calls of make
// in progress.
class Prefetcher {
 public:
  using Make = std::function<Batch(uint64_t step)>;

  // workers >= 0, 0: make runs inside next(); ahead >= 1.
  Prefetcher(Make make, uint64_t first_step, int64_t workers, int64_t ahead);
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  // The batch of next_step(), which moves on by one.
  Batch next();
  uint64_t next_step() const { return next_step_; }
  // Seconds that next() has waited for data since construction, all calls together.
  double waited_seconds() const { return waited_seconds_; }

 private:
  struct Made {
    Batch batch;
    std::exception_ptr error;
  };

  void work(std::stop_token stop);
  Made try_make(uint64_t step) const;

  const Make make_;
  const uint64_t ahead_;
  uint64_t next_step_;  // written by the consumer, under mutex_
  double waited_seconds_ = 0;

  std::mutex mutex_;
  std::condition_variable_any room_, ready_;
  uint64_t next_to_make_;              // guarded by mutex_
  std::map<uint64_t, Made> made_;      // guarded by mutex_
  std::vector<std::jthread> workers_;  // last member: joined before the others go
};

}  // namespace adatape
