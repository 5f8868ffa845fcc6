#include "allocations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <new>
#include <typeinfo>

#include "gpt/core/error.h"

namespace gpt::test {

std::atomic<int> g_allocations{0};
std::atomic<std::size_t> g_smallest{0}, g_largest{0};
std::atomic<int> g_pieces_left{0}, g_pieces_refused{0};

namespace {

constexpr int kUnlimited = -1, kExhausted = -2;
std::atomic<int> g_left{kUnlimited};  // allocations until memory runs out
std::atomic<Shortage> g_shortage{Shortage::kOnce};

bool runs_out(std::size_t size) {
  constexpr std::size_t kSmall = 1024;
  if (g_left == kUnlimited) return false;
  if (g_left == kExhausted) return g_shortage == Shortage::kAll || size > kSmall;
  if (g_left-- > 0) return false;
  g_left = g_shortage == Shortage::kOnce ? kUnlimited : kExhausted;
  return true;
}

}  // namespace

void run_out_after(int allocations, Shortage shortage) {
  g_shortage = shortage;
  g_left = allocations;
}

void with_all_memory() { g_left = kUnlimited; }

std::string outcome(int allocations, Shortage shortage, const std::function<void()>& call) {
  run_out_after(allocations, shortage);
  try {
    call();
    with_all_memory();
    return "done";
  } catch (const MemoryError& e) {
    with_all_memory();
    return std::string_view(e.what()).starts_with('[') ? "MemoryError" : concat("MemoryError: ", e.what());
  } catch (const std::exception& e) {
    with_all_memory();
    return concat(typeid(e).name(), ": ", e.what());
  }
}

MemoryOfTheCaller::MemoryOfTheCaller() : left_(g_left.exchange(kUnlimited)), before_(g_allocations) {}
MemoryOfTheCaller::~MemoryOfTheCaller() {
  g_allocations = before_;
  g_left = left_;
}

void expect_memory_errors(int tries, const std::function<void()>& call, int line) {
  const int before = g_allocations;
  call();
  const int all = g_allocations - before;
  const int step = all <= 4 * tries ? 1 : all / tries, runs = (all + step - 1) / step;
  for (const Shortage shortage : {Shortage::kOnce, Shortage::kLarge, Shortage::kAll}) {
    int failures = 0;
    for (int n = static_cast<int>(shortage) * step / 3; n < all; n += step) {
      const std::string what = outcome(n, shortage, call);
      EXPECT_TRUE(what == "done" || what == "MemoryError")
          << what << " after " << n << " of " << all << " allocations, in line " << line << ", shortage "
          << static_cast<int>(shortage);
      failures += what == "MemoryError" ? 1 : 0;
    }
    EXPECT_GE(failures, (runs + 2) / 3) << "in line " << line;
  }
}

}  // namespace gpt::test

// Every C++ allocation of this program, the library's included.
// They are malloc and free: where gcc inlines one of them and not the other, it takes the pair for a mistake.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++gpt::test::g_allocations;
  void* p = gpt::test::runs_out(size) ? nullptr : std::malloc(size == 0 ? 1 : size);
  return p != nullptr ? p : throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++gpt::test::g_allocations;
  return gpt::test::runs_out(size) ? nullptr : std::malloc(size == 0 ? 1 : size);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

// The library's larger pieces.
extern "C" void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  using namespace gpt::test;
  if (size >= g_smallest && size <= g_largest && g_pieces_left-- <= 0 && g_pieces_refused-- > 0)
    return nullptr;
  void* p = nullptr;
  return ::posix_memalign(&p, alignment, size) == 0 ? p : nullptr;
}
