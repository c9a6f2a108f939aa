#include "adatape/core/signals.h"

#include <signal.h>

#include <atomic>

namespace adatape {
namespace {

std::atomic<int> stop{0};  // the signal that asked for it
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int number) {
  int none = 0;
  if (stop.compare_exchange_strong(none, number)) return;
  // A person who asks twice does not want to wait: the default action ends the process, and its exit status tells why.
  ::signal(number, SIG_DFL);
  ::raise(number);
}

}  // namespace

void install_stop_handlers() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // reads and writes under way go on; loops look at the flag
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() { return stop_signal() != 0; }
int stop_signal() { return stop.load(std::memory_order_relaxed); }
void request_stop() { stop = SIGINT; }
void clear_stop_request() { stop = 0; }

}  // namespace adatape
