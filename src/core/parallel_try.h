// A parallel loop whose steps may throw.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>

#include "gpt/core/parallel.h"

namespace gpt {

/// Calls body(i) for every i in [0, n) on up to num_threads() threads, each of which gets `grain` steps at least. When steps
/// throw, the exception of the smallest i comes out, after all steps were tried: which one it is does not depend on the
/// threads.
template <class Body>
void parallel_try(std::int64_t n, std::int64_t grain, Body&& body) {
  std::mutex mutex;
  std::int64_t first = n;
  std::exception_ptr error;
  parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; ++i) {
      try {
        body(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i > first) continue;
        first = i;
        error = std::current_exception();
      }
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace gpt
