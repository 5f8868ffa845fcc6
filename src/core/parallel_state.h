// What both back ends of parallel_for share: how many threads are allowed, and how a range is cut.
#pragma once

#include <algorithm>
#include <cfenv>
#include <cstdint>

namespace gpt::detail {

/// How many threads the machine or OMP_NUM_THREADS suggests; each back end has its own answer.
int default_num_threads() noexcept;

/// The default floating-point environment for this thread while it lives: rounding to nearest, subnormal numbers kept, no
/// traps, whatever the host has set; its flags come back unchanged. Results must not depend on which thread takes a piece.
class DefaultFloatEnvironment {
 public:
  DefaultFloatEnvironment() noexcept {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatEnvironment() { std::fesetenv(&saved_); }
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;

 private:
  std::fenv_t saved_;
};

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

/// Threads worth using for n items, `grain` of which are the least to give to one.
inline int useful_threads(std::int64_t n, std::int64_t grain, int allowed) noexcept {
  return static_cast<int>(std::clamp<std::int64_t>(n / grain, 1, allowed));
}

}  // namespace gpt::detail
