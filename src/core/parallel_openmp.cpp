// parallel_for on OpenMP. Nothing of the host's OpenMP settings is changed: the thread count goes by clause.
#include <omp.h>

#include <algorithm>

#include "core/parallel_state.h"
#include "gpt/core/parallel.h"

namespace gpt::detail {

namespace {

// A runtime that cannot start a thread ends the process, so it is never asked for more than there are CPUs.
int most_threads() noexcept {
  static const int most = std::max(1, std::min(omp_get_num_procs(), omp_get_thread_limit()));
  return most;
}

}  // namespace

int default_num_threads() noexcept { return omp_get_max_threads(); }

void parallel_for(std::int64_t n, std::int64_t grain, Sharing sharing, ParallelBody body,
                  void* context) noexcept {
  if (n <= 0) return;
  const int threads =
      omp_in_parallel() ? 1 : useful_threads(n, grain, std::min(num_threads(), most_threads()));
  if (threads <= 1) {
    const DefaultFloatEnvironment environment;
    return body(context, 0, n);
  }
  Pieces pieces;
  pieces.reset(n, pieces_of(n, grain, threads), threads, sharing);
#pragma omp parallel num_threads(threads)
  {
    const DefaultFloatEnvironment environment;
    pieces.run(omp_get_thread_num(),
               [&](std::int64_t begin, std::int64_t end) noexcept { body(context, begin, end); });
  }
}

}  // namespace gpt::detail
