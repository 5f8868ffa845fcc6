#include "gpt/core/arena.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;

TEST(Arena, HandsOutAlignedDisjointMemory) {
  Arena arena;
  std::vector<TensorView> taken;
  for (const std::int64_t n : {1, 0, 100, 30'000, 3, 100'000, 7}) {  // beyond the first block, and back
    taken.push_back(arena.take({n}, DType::f32));
    EXPECT_EQ(taken.back().shape(), Shape{n});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(taken.back().raw()) % 64, 0u);
    std::memset(taken.back().raw(), static_cast<int>(taken.size()), taken.back().nbytes());
  }
  for (std::size_t i = 0; i < taken.size(); ++i)
    for (std::size_t b = 0; b < taken[i].nbytes(); ++b)
      ASSERT_EQ(taken[i].raw()[b], static_cast<std::byte>(i + 1)) << "tensor " << i << ", byte " << b;
}

TEST(Arena, SteadyStateKeepsItsMemory) {
  Arena arena;
  const auto pass = [&arena] {
    for (const std::int64_t n : {1000, 50'000, 200'000}) arena.take({n});
    const std::byte* last = arena.take({1}).raw();
    arena.reset();
    return last;
  };
  pass();
  const std::size_t capacity = arena.capacity();
  const std::byte* place = pass();
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(pass(), place);
    EXPECT_EQ(arena.capacity(), capacity);
  }
}

TEST(Arena, KnowsTheMostThatWasTakenAtOnce) {
  Arena arena;
  arena.take({1000});
  {
    const Arena::Scope scope(arena);
    arena.take({100'000});
  }
  arena.take({2000});
  EXPECT_EQ(arena.peak(), 404'032u);  // in multiples of 64 bytes
  arena.reset();
  arena.take({100'000});
  EXPECT_EQ(arena.peak(), 404'032u);
}

TEST(Arena, MemoryThatCannotBeHadIsAnErrorAndLeavesTheArenaUsable) {
  Arena arena;
  constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();
  expect_error<MemoryError>([&] { arena.take({kMax}, DType::f64); }, {"[arena]", "9223372036854775807"});
  expect_error<MemoryError>([&] { arena.take({kMax / 4}, DType::u8); }, {"[arena]", "cannot allocate"});
  EXPECT_EQ(arena.take({4}).numel(), 4);
}

TEST(Arena, IsEmptyAndUsableAfterItWasMovedFrom) {
  Arena a;
  a.take({10000});
  const Arena b = std::move(a);
  EXPECT_EQ(a.capacity(), 0u);
  const TensorView t = a.take({16000});
  std::memset(t.raw(), 1, t.nbytes());
  EXPECT_GE(a.capacity(), t.nbytes());
}

TEST(Arena, CanBeMoved) {
  Arena a;
  const TensorView t = a.take({10});
  Arena b = std::move(a);
  std::memset(t.raw(), 1, t.nbytes());
  EXPECT_NE(b.take({10}).raw(), t.raw());
  EXPECT_GT(b.capacity(), 0u);
}

}  // namespace
}  // namespace gpt
