// What both back ends of parallel_for share: how many threads are allowed, and how a range is cut.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "core/float_environment.h"
#include "gpt/core/parallel.h"

namespace gpt::detail {

/// How many threads the machine or OMP_NUM_THREADS suggests; each back end has its own answer.
int default_num_threads() noexcept;

/// The piece `index` of [0, n) cut into `count`, as even as possible.
struct Range {
  std::int64_t begin, end;
};
inline Range piece(std::int64_t n, std::int64_t index, std::int64_t count) noexcept {
  const auto edge = [&](std::int64_t i) { return n / count * i + std::min<std::int64_t>(i, n % count); };
  return {edge(index), edge(index + 1)};
}

/// How many pieces to cut n items into for so many threads, which take one after another: a multiple of the threads, and up to
/// sixteen for each, so that one whose CPU is busy with something else does not hold up the others.
inline std::int64_t pieces_of(std::int64_t n, std::int64_t grain, int threads) noexcept {
  constexpr std::int64_t kPiecesPerThread = 16;
  const std::int64_t each = std::clamp<std::int64_t>(n / grain / threads, 1, kPiecesPerThread);
  return each * threads;
}

/// The pieces of a loop, as Sharing says who takes which.
class Pieces {
 public:
  void reset(std::int64_t n, std::int64_t count, int threads, Sharing sharing) noexcept {
    n_ = n;
    count_ = count;
    stretches_ = sharing == Sharing::kInterleaved ? 1 : std::clamp(threads, 1, kMostStretches);
    for (int s = 0; s < stretches_; ++s) stretch_[s].next.store(begin_of(s), std::memory_order_relaxed);
  }

  /// Calls body(begin, end) for pieces, those of `thread` first, until none is left.
  template <class Body>
  void run(int thread, const Body& body) noexcept {
    for (int i = 0; i < stretches_; ++i) {
      const int s = (thread + i) % stretches_;
      for (std::int64_t p = take(s); p < begin_of(s + 1); p = take(s)) {
        const Range r = piece(n_, p, count_);
        body(r.begin, r.end);
      }
    }
  }

 private:
  static constexpr int kMostStretches = 64;  // more threads share them
  struct alignas(64) Stretch {
    std::atomic<std::int64_t> next{0};
  };

  std::int64_t begin_of(int stretch) const noexcept { return count_ * stretch / stretches_; }
  std::int64_t take(int stretch) noexcept {
    return stretch_[stretch].next.fetch_add(1, std::memory_order_relaxed);
  }

  std::int64_t n_ = 0, count_ = 0;
  int stretches_ = 1;
  Stretch stretch_[kMostStretches];
};

/// Threads worth using for n items, `grain` of which are the least to give to one.
inline int useful_threads(std::int64_t n, std::int64_t grain, int allowed) noexcept {
  return static_cast<int>(std::clamp<std::int64_t>(n / grain, 1, allowed));
}

}  // namespace gpt::detail
