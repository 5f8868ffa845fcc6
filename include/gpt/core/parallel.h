// The one place where libgpt runs on more than one thread. The caller owns the threads: libgpt uses at most as many
// as it is allowed here. Each thread of the host that runs loops has workers of its own, which end with it, sleep
// between loops, and take no signals but those of their own faults. Where the system lets no more threads start, loops go on with fewer; a child
// of fork() starts new ones.
// In a build with GPT_WITH_OPENMP=ON the threads are those of the OpenMP runtime, asked for by the num_threads clause
// alone. Such a runtime ends the process when it cannot start a thread, and a child of fork() must not run a loop.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace gpt {

/// How many threads a parallel loop may use when no ThreadLimit is in force. 0 restores the default: the
/// number of CPUs this process may run on (with OpenMP: OMP_NUM_THREADS, or those). Throws ArgumentError when
/// negative.
void set_num_threads(int n);

/// The number of threads a parallel loop started here may use, at least 1. With OpenMP a loop never takes more than
/// there are CPUs.
int num_threads() noexcept;

/// While it lives, loops started by this thread use at most n threads (n <= 0: no further limit). Limits are of each thread of
/// the host for itself: two of them that run loops at once use the threads of both.
class ThreadLimit {
 public:
  explicit ThreadLimit(int n) noexcept;
  ~ThreadLimit();
  ThreadLimit(const ThreadLimit&) = delete;
  ThreadLimit& operator=(const ThreadLimit&) = delete;

 private:
  int outer_;
};

/// Which ranges of a parallel loop a thread takes.
enum class Sharing : std::uint8_t {
  kInterleaved,  // the next one: neighbours run at the same time, and share what they read
  kStretches,    // those of a stretch of its own, then others': for loops that stream memory
};

namespace detail {
using ParallelBody = void (*)(void* context, std::int64_t begin, std::int64_t end) noexcept;
void parallel_for(std::int64_t n, std::int64_t grain, Sharing sharing, ParallelBody body,
                  void* context) noexcept;
}  // namespace detail

/// Calls body(begin, end) on disjoint ranges that together cover [0, n), and returns when all are done: up to
/// num_threads() threads take ranges one after another, as `sharing` says. The ranges are as even as possible, up to
/// sixteen for each thread, and none shorter than `grain` (positive: the least that is worth waking a thread for)
/// unless n is. The body must be noexcept and must not let its result depend on where the ranges are cut; it runs in
/// the default floating-point environment. Runs inline when there is one range only, or inside another parallel_for.
template <class Body>
void parallel_for(std::int64_t n, std::int64_t grain, Body&& body,
                  Sharing sharing = Sharing::kInterleaved) noexcept {
  using B = std::remove_reference_t<Body>;
  static_assert(std::is_nothrow_invocable_v<B&, std::int64_t, std::int64_t>,
                "the body of a parallel_for must be noexcept: check shapes before the loop");
  detail::parallel_for(
      n, grain, sharing,
      [](void* context, std::int64_t begin, std::int64_t end) noexcept {
        (*static_cast<B*>(context))(begin, end);
      },
      const_cast<void*>(static_cast<const void*>(std::addressof(body))));
}

}  // namespace gpt
