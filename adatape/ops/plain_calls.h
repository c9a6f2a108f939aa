// Plain ATen calls on request, for what products, norms and activations of this library are measured against.
#pragma once

namespace adatape::ops {

// While one lives, linear layers, norms and activations that its thread runs are ATen's, where this library has kernels of its own.
class PlainCalls {
 public:
  PlainCalls();
  ~PlainCalls();
  PlainCalls(const PlainCalls&) = delete;
  PlainCalls& operator=(const PlainCalls&) = delete;

 private:
  bool before_;
};

bool plain_calls();  // of this thread

}  // namespace adatape::ops
