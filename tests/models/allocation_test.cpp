// Law 4: once it has run, a decode step allocates nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "allocations.h"
#include "gpt/core/arena.h"
#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/generate/generator.h"
#include "gpt/generate/scheduler.h"
#include "gpt/io/hf_config.h"
#include "gpt/models/gpt2.h"
#include "gpt/models/gpt2_config.h"
#include "gpt/models/model.h"
#include "gpt/models/prune.h"
#include "support/isa.h"
#include "support/random_model.h"

namespace gpt {
namespace {

using test::g_allocations;
using test::kDemo;

void expect_steps_without_allocations(const Gpt2& network) {
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

TEST(DecodeStep, AllocatesNothing) {
  const Gpt2 network = test::random_network(test::tiny_config(), 1);
  expect_steps_without_allocations(network);
  const HeadId head{0, 1};
  expect_steps_without_allocations(without_heads(network, {&head, 1}));
}

// Where a step finds no memory, the requests stay, and the same step may be taken again.
TEST(Scheduler, GoesOnWhenThereIsMemoryAgain) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const Model model = Model::load(kDemo);
  const GenerateOptions options{.max_new_tokens = 4};
  const GenerateResult expected = Generator(model).generate("ROMEO: what", options);
  int failures = 0, all = 1;
  for (int n = 0; n < all; ++n) {
    Scheduler scheduler(model, {.max_batch = 2, .kv_cache_bytes = 16 << 20});
    const RequestId first = scheduler.submit("ROMEO: what", options), second = scheduler.submit("A", options);
    const int before = g_allocations;
    const std::string what = test::outcome(n, test::Shortage::kLarge, [&] { scheduler.step(); });
    all = std::max(all, g_allocations - before);
    ASSERT_TRUE(what == "done" || what == "MemoryError") << what << " after " << n << " allocations";
    scheduler.run();
    for (const RequestId id : {first, second}) {
      Completion done = *scheduler.take(id);
      if (!done.error) {
        if (id == first) {
          EXPECT_EQ(done.result.ids, expected.ids) << n;
        }
        continue;
      }
      ++failures;  // in the choice of its token
      EXPECT_THROW(done.get(), MemoryError);
    }
    EXPECT_EQ(scheduler.statistics().pages, scheduler.statistics().prefix_pages) << n;
  }
  EXPECT_GT(failures, 0);
}

// A small network with room for requests of eight pages.
class ShortOfPages : public ::testing::Test {
 protected:
  static Model make_model() {
    Gpt2Config config = test::tiny_config();
    config.n_positions = 128;
    config.eos_token_id.clear();
    return Model(test::random_network(config, 1), HfConfig());
  }
  /// After `left` pages more, `refused` cannot be had.
  static void refuse(int left, int refused, std::size_t smallest = kPage, std::size_t largest = kPage) {
    test::g_pieces_left = left;
    test::g_pieces_refused = refused;
    test::g_smallest = smallest;
    test::g_largest = largest;
  }
  static void refuse_nothing() { test::g_largest = 0; }
  ~ShortOfPages() override { refuse_nothing(); }

  /// Takes `count` steps, each of which may find no memory; says whether any did.
  static bool fails_in(Scheduler& scheduler, int count) {
    bool failed = false;
    for (int i = 0; i < count; ++i) {
      try {
        scheduler.step();
      } catch (const MemoryError&) {
        failed = true;
      }
    }
    return failed;
  }
  /// With memory for everything from now on, the requests end, and have the tokens they have alone.
  void expect_all(Scheduler& scheduler, const std::vector<RequestId>& ids) {
    refuse_nothing();
    int steps = 0;
    while (scheduler.step()) ASSERT_LT(++steps, 1000) << "it goes on for ever";
    for (const RequestId id : ids) {
      const GenerateResult got = scheduler.take(id)->get();
      const auto count = static_cast<std::int64_t>(got.ids.size());
      EXPECT_EQ(got.ids, Generator(model_).generate(got.prompt_ids, {.max_new_tokens = count}).ids);
    }
    EXPECT_EQ(scheduler.statistics().pages, scheduler.statistics().prefix_pages);
  }

  // 16 tokens of 2 layers and heads, keys and values of 16 floats.
  static constexpr std::size_t kPage = std::size_t{16} * 2 * 2 * 2 * 16 * 4;
  static constexpr int kForGood = 1 << 20;
  const Model model_ = make_model();
};

TEST_F(ShortOfPages, GivesUpIdlePrefixesBeforeItReportsThatThereIsNoMemory) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage});
  scheduler.submit(test::tokens(64, 1), {.max_new_tokens = 1});
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().prefix_pages, 4);
  const RequestId id = scheduler.submit(test::tokens(40, 2), {.max_new_tokens = 60});
  refuse(0, 3);
  EXPECT_FALSE(fails_in(scheduler, 1));
  EXPECT_EQ(scheduler.statistics().prefix_pages, 1 + 2) << "as many as were refused";
  expect_all(scheduler, {id});
}

TEST_F(ShortOfPages, GivesUpIdlePrefixesForWhatAStepComputes) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage});
  const RequestId first = scheduler.submit(test::tokens(33, 1), {.max_new_tokens = 1});
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().prefix_pages, 2);
  const RequestId second = scheduler.submit(test::tokens(120, 2), {.max_new_tokens = 1});
  refuse(0, 1, kPage + 1, ~std::size_t{0});
  EXPECT_FALSE(fails_in(scheduler, 1));
  EXPECT_LE(test::g_pieces_refused, 0) << "nothing was refused";
  EXPECT_EQ(scheduler.statistics().prefix_pages, 7) << "those of the second";
  expect_all(scheduler, {first, second});
}

TEST_F(ShortOfPages, ReportsThatThereIsNoMemoryForWhatAStepComputes) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage});
  const RequestId id = scheduler.submit(test::tokens(33, 1), {.max_new_tokens = 5});
  refuse(0, kForGood, kPage + 1, ~std::size_t{0});
  EXPECT_TRUE(fails_in(scheduler, 1));
  EXPECT_TRUE(fails_in(scheduler, 1));
  EXPECT_EQ(scheduler.statistics().computed_tokens, 0);
  expect_all(scheduler, {id});
}

TEST_F(ShortOfPages, LetsTheLastWaitForTheFirst) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 12 * kPage, .prefix_cache = false});
  std::vector<RequestId> ids;
  for (const std::size_t first : {1u, 2u, 3u})
    ids.push_back(scheduler.submit(test::tokens(10, first), {.max_new_tokens = 30}));
  scheduler.step();
  EXPECT_EQ(scheduler.statistics().running, 3);
  refuse(0, 1);  // when the first two need their second pages, the third has gone
  EXPECT_FALSE(fails_in(scheduler, 10));
  EXPECT_EQ(scheduler.statistics().preemptions, 1);
  expect_all(scheduler, ids);
}

TEST_F(ShortOfPages, KeepsNoneForARequestThatFailedToBegin) {
  Scheduler scheduler(model_, {.kv_cache_bytes = 8 * kPage});
  std::vector<RequestId> ids = {scheduler.submit(test::tokens(16, 1), {.max_new_tokens = 100})};
  scheduler.step();
  ids.push_back(scheduler.submit(test::tokens(70, 2), {.max_new_tokens = 50}));
  refuse(4, 1);  // the last that it begins with
  fails_in(scheduler, 1);
  // One that comes before it, and both before the first: which needs the pages now.
  ids.push_back(scheduler.submit(test::tokens(100, 3), {.max_new_tokens = 20}, {.priority = 1}));
  expect_all(scheduler, ids);
}

// The memory is there for one request alone, and then pages are refused from the nth on.
TEST_F(ShortOfPages, GoesOnWhereverTheyEnd) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (const bool prefix_cache : {false, true}) {
    int n = 0;
    for (bool failed = true; failed; ++n) {
      Scheduler scheduler(model_, {.kv_cache_bytes = 8 * kPage, .prefix_cache = prefix_cache});
      std::vector<RequestId> ids = {scheduler.submit(test::tokens(16, 1), {.max_new_tokens = 100})};
      refuse(n, kForGood);
      failed = fails_in(scheduler, 3);
      ids.push_back(scheduler.submit(test::tokens(70, 2), {.max_new_tokens = 50}));
      failed = fails_in(scheduler, 120) || failed;
      ASSERT_NO_FATAL_FAILURE(expect_all(scheduler, ids)) << n;
      ASSERT_LT(n, 100);
    }
    EXPECT_GT(n, 7);
  }
}

TEST_F(ShortOfPages, AllocatesNothingForARequestThatWaitsForThem) {
  const auto allocations = [this](bool one_waits) {
    Scheduler scheduler(model_, {.kv_cache_bytes = 8 * kPage});
    scheduler.submit(test::tokens(33, 1), {.max_new_tokens = 60});
    scheduler.step();
    if (one_waits) scheduler.submit(test::tokens(100, 2), {.max_new_tokens = 5});
    scheduler.step();
    const int before = g_allocations;
    for (int i = 0; i < 10; ++i) scheduler.step();  // within a page
    EXPECT_EQ(scheduler.statistics().waiting, one_waits ? 1 : 0);
    return g_allocations - before;
  };
  allocations(false);  // the first run is not like the others
  EXPECT_EQ(allocations(true), allocations(false));
}

TEST_F(ShortOfPages, GoesOnAfterAnyNumberOfRefusals) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const CounterRng rng(11, seed);
    std::uint64_t draws = 0;
    const auto below = [&](int n) { return static_cast<int>(rng.uniform(draws++) * n); };
    Scheduler scheduler(model_, {.max_batch = 1 + below(4),
                                 .max_tokens_per_step = 8 + below(60),
                                 .kv_cache_bytes = (8 + static_cast<std::size_t>(below(4))) * kPage,
                                 .prefix_cache = below(3) > 0});
    std::vector<RequestId> ids;
    for (int i = 0; i < 100; ++i) {
      if (i % 10 == 0)
        ids.push_back(scheduler.submit(
            test::tokens(1 + static_cast<std::size_t>(below(80)), static_cast<std::size_t>(below(3))),
            {.max_new_tokens = 1 + below(48)}, {.priority = below(3)}));
      refuse(below(4), below(6));
      fails_in(scheduler, 1);
    }
    ASSERT_NO_FATAL_FAILURE(expect_all(scheduler, ids)) << seed;
  }
}

}  // namespace
}  // namespace gpt
