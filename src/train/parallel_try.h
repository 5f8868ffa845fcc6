// A parallel loop whose steps may throw.
#pragma once

#include <cstdint>
#include <exception>
#include <vector>

#include "gpt/core/parallel.h"

namespace gpt {

/// Calls body(i) for every i in [0, n) on up to num_threads() threads. When steps throw, the exception of the smallest i
/// comes out, after all steps were tried: which one it is does not depend on the threads.
template <class Body>
void parallel_try(std::int64_t n, Body&& body) {
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(n));
  parallel_for(n, 1, [&](std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t i = begin; i < end; ++i) {
      try {
        body(i);
      } catch (...) {
        errors[static_cast<std::size_t>(i)] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& error : errors)
    if (error) std::rethrow_exception(error);
}

}  // namespace gpt
