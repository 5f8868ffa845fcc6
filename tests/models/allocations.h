// The allocations of this test program, counted, and how memory runs out.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <new>
#include <string>
#include <utility>

#include "gpt/core/error.h"
#include "support/isa.h"

namespace gpt::test {

inline const std::filesystem::path kDemo = GPT_SOURCE_DIR "/examples/models/demo";

/// Calls of operator new so far.
extern std::atomic<int> g_allocations;

/// Of the aligned pieces of these sizes, such as the pages of a KvPool, so many succeed, and then so many do not.
extern std::atomic<std::size_t> g_smallest, g_largest;
extern std::atomic<int> g_pieces_left, g_pieces_refused;

/// What fails once memory has run out.
enum class Shortage {
  kOnce,   // the one allocation that meets the limit
  kLarge,  // it, and all after it that are not small, as the message of an error is
  kAll,    // it, and all after it
};

/// From now on operator new fails after so many calls, until with_all_memory().
void run_out_after(int allocations, Shortage shortage);
void with_all_memory();

/// How a call ends that has so many allocations: "done", "MemoryError", or what else it throws.
std::string outcome(int allocations, Shortage shortage, const std::function<void()>& call);

/// While it lives there is memory, and nothing is counted: for what a call is given, and has to be made anew for each.
class MemoryOfTheCaller {
 public:
  MemoryOfTheCaller();
  ~MemoryOfTheCaller();
  MemoryOfTheCaller(const MemoryOfTheCaller&) = delete;
  MemoryOfTheCaller& operator=(const MemoryOfTheCaller&) = delete;

 private:
  int left_, before_;
};

template <class Make>
auto made_by_the_caller(const Make& make) {
  const MemoryOfTheCaller memory;
  return make();
}

/// Lets memory run out in every place of a call, or in about `tries` of very many, others in each of the ways. The last of them may
/// be beyond its end: the first run is not like the others.
void expect_memory_errors(int tries, const std::function<void()>& call, int line = __builtin_LINE());

/// Calls with every allocation failing in turn take long.
class EntryPoints : public testing::Test {
 protected:
  void SetUp() override { GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA(); }
};

/// A new T, whose own memory is not counted: that of what its constructor makes is.
template <class T, class... Args>
std::shared_ptr<T> constructed(Args&&... args) {
  struct Free {
    void operator()(void* p) const noexcept { std::free(p); }
  };
  std::unique_ptr<void, Free> memory(std::malloc(sizeof(T)));
  T* const made = ::new (memory.get()) T(std::forward<Args>(args)...);
  memory.release();
  return made_by_the_caller([made] {
    return std::shared_ptr<T>(made, [](T* p) {
      p->~T();
      std::free(p);
    });
  });
}

/// What a call is to refuse, with an Error other than that for missing memory.
template <class F>
void expect_refused(const F& call) {
  try {
    call();
  } catch (const MemoryError&) {
    throw;
  } catch (const Error&) {
    return;
  }
  const MemoryOfTheCaller memory;
  ADD_FAILURE() << "nothing was refused";
}

}  // namespace gpt::test
