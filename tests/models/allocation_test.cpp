// Law 4: once it has run, a decode step allocates nothing.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <string>
#include <typeinfo>

#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/models/model.h"
#include "support/random_model.h"

namespace {

std::atomic<int> g_allocations{0};
std::atomic<int> g_allocations_left{-1};  // then there is no memory; negative: no limit

}  // namespace

// Every C++ allocation of this program, the library's included.
void* operator new(std::size_t size) {
  ++g_allocations;
  if (g_allocations_left >= 0 && --g_allocations_left < 0) {
    g_allocations_left = -1;  // one failure; what reports it may allocate again
    throw std::bad_alloc();
  }
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace gpt {
namespace {

TEST(DecodeStep, AllocatesNothing) {
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  nn::KvCache first = network.make_cache(), second = network.make_cache();
  Arena arena;
  const auto step = [&](TokenId id) {
    arena.reset();
    const Chunk batch[] = {{std::span(&id, 1), &first}, {std::span(&id, 1), &second}};
    return network.forward(batch, arena).logits.data<float>()[0];
  };
  step(1);
  step(2);
  const int before = g_allocations;
  const std::size_t capacity = arena.capacity();  // its blocks do not come from operator new
  for (TokenId id = 3; id < 20; ++id) step(id);
  EXPECT_EQ(g_allocations - before, 0);
  EXPECT_EQ(arena.capacity(), capacity);
}

// Law 3: whichever allocation fails, it is a gpt::Error.
TEST(EntryPoints, TurnMissingMemoryIntoAMemoryError) {
  const std::string directory = GPT_SOURCE_DIR "/examples/models/demo";
  const auto outcome = [](int allocations, auto&& call) {
    try {
      g_allocations_left = allocations;
      call();
      g_allocations_left = -1;
      return std::string("done");
    } catch (const MemoryError&) {
      g_allocations_left = -1;
      return std::string("MemoryError");
    } catch (const std::exception& e) {
      g_allocations_left = -1;
      return std::string(typeid(e).name()) + e.what();
    }
  };
  const Model model = Model::load(directory);
  const Generator generator(model);
  int failures = 0;
  for (int n = 0; n < 60; ++n) {
    for (const std::string& what :
         {outcome(n, [&] { model.tokenizer().encode("Shall I compare thee"); }),
          outcome(n, [&] { generator.generate("ROMEO:", {.max_new_tokens = 3}); })}) {
      EXPECT_TRUE(what == "done" || what == "MemoryError") << what << " after " << n << " allocations";
      failures += what == "MemoryError" ? 1 : 0;
    }
  }
  EXPECT_GT(failures, 20);
}

}  // namespace
}  // namespace gpt
