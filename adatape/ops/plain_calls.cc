#include "adatape/ops/plain_calls.h"

namespace adatape::ops {
namespace {
thread_local bool plain = false;
}

PlainCalls::PlainCalls() : before_(plain) { plain = true; }
PlainCalls::~PlainCalls() { plain = before_; }
bool plain_calls() { return plain; }

}  // namespace adatape::ops
