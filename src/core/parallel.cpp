#include "gpt/core/parallel.h"

#include <algorithm>
#include <atomic>

#include "core/parallel_state.h"
#include "gpt/core/error.h"

namespace gpt {
namespace {

std::atomic<int> g_num_threads{0};    // 0: the back end's default
thread_local int t_thread_limit = 0;  // 0: no limit

}  // namespace

void set_num_threads(int n) {
  if (n < 0)
    fail<ArgumentError>("set_num_threads", "the number of threads is ", n, ", expected 0 (default) or more");
  g_num_threads.store(n, std::memory_order_relaxed);
}

int num_threads() noexcept {
  const int set = g_num_threads.load(std::memory_order_relaxed);
  const int n = set > 0 ? set : detail::default_num_threads();
  return std::max(1, t_thread_limit > 0 ? std::min(n, t_thread_limit) : n);
}

ThreadLimit::ThreadLimit(int n) noexcept : outer_(t_thread_limit) {
  if (n > 0) t_thread_limit = outer_ > 0 ? std::min(outer_, n) : n;
}

ThreadLimit::~ThreadLimit() { t_thread_limit = outer_; }

}  // namespace gpt
