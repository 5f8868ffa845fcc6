// What both back ends of parallel_for share: how many threads are allowed, and how a range is cut.
#pragma once

#include <algorithm>
#include <cstdint>

namespace gpt::detail {

/// How many threads the machine or OMP_NUM_THREADS suggests; each back end has its own answer.
int default_num_threads() noexcept;

/// The part of [0, n) that belongs to thread `index` of `count`, as even as possible.
struct Range {
  std::int64_t begin, end;
};
inline Range range_of_thread(std::int64_t n, int index, int count) noexcept {
  const auto edge = [&](std::int64_t i) { return n / count * i + std::min<std::int64_t>(i, n % count); };
  return {edge(index), edge(index + 1)};
}

/// Threads worth using for n items, `grain` of which are the least to give to one.
inline int useful_threads(std::int64_t n, std::int64_t grain, int allowed) noexcept {
  return static_cast<int>(std::clamp<std::int64_t>(n / grain, 1, allowed));
}

}  // namespace gpt::detail
