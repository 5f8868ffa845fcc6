// Who runs first, and who gives up what for it.
#include "gpt/generate/scheduler.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "generate/scheduler_support.h"

namespace gpt {
namespace {

using test::kPage;
using test::kPrompt;
using test::long_config;
using test::tiny_model;

TEST(Scheduler, RunsHigherPrioritiesFirst) {
  const Model model = tiny_model();
  std::vector<int> order;
  Scheduler scheduler(model, {.max_batch = 1});
  const auto submit = [&](int priority) {
    return scheduler.submit(kPrompt, {.max_new_tokens = 3},
                            {.priority = priority, .on_done = [&order, priority](const Completion& done) {
                               EXPECT_EQ(done.result.ids.size(), 3u);
                               order.push_back(priority);
                             }});
  };
  submit(0);
  scheduler.step();
  submit(-1);
  submit(2);  // takes the place of the one that runs
  submit(1);
  scheduler.run();
  EXPECT_EQ(order, (std::vector<int>{2, 1, 0, -1}));
  EXPECT_EQ(scheduler.statistics().preemptions, 1);
}

TEST(Scheduler, LetsHigherPrioritiesIntoAStepThatNewTokensFill) {
  const Model model = tiny_model();
  for (const std::int64_t size : {1, 3}) {
    std::vector<int> order;
    Scheduler scheduler(model, {.max_batch = size, .max_tokens_per_step = size});
    const auto submit = [&](int priority, std::int64_t count) {
      scheduler.submit(kPrompt, {.max_new_tokens = count},
                       {.priority = priority,
                        .on_done = [&order, priority](const Completion&) { order.push_back(priority); }});
    };
    for (std::int64_t i = 0; i < size; ++i) submit(0, 20);
    for (int i = 0; i < 6; ++i) scheduler.step();
    EXPECT_EQ(scheduler.statistics().running, size);
    EXPECT_GE(scheduler.statistics().generated_tokens, size) << "all are past their prompts";
    submit(1, 1);
    scheduler.run();
    EXPECT_EQ(order.front(), 1);
    EXPECT_EQ(scheduler.statistics().preemptions, 1);
  }
}

TEST(Scheduler, ComputesPromptsOfHigherPriorityFirst) {
  const Model model = tiny_model(long_config());
  Scheduler scheduler(model, {.max_batch = 4, .max_tokens_per_step = 8});
  std::vector<int> order;
  const auto submit = [&](int priority, std::size_t length) {
    scheduler.submit(test::tokens(length, 5), {.max_new_tokens = 1},
                     {.priority = priority,
                      .on_done = [&order, priority](const Completion&) { order.push_back(priority); }});
  };
  submit(0, 100);
  scheduler.step();
  submit(1, 16);  // has a place, but the other's prompt would take what there is room for
  scheduler.step();
  scheduler.step();
  EXPECT_EQ(order, std::vector<int>{1});
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().preemptions, 0);
}

TEST(Scheduler, PreemptsNobodyWhereThatWouldNotDo) {
  const Model model = tiny_model(long_config());
  for (const bool prefix_cache : {false, true}) {
    Scheduler scheduler(model, {.kv_cache_bytes = 8 * kPage, .prefix_cache = prefix_cache});
    const GenerateOptions options{.max_new_tokens = 20};
    scheduler.submit(test::tokens(60, 1), options, {.priority = 2});  // 4 pages, then 5
    const RequestId low = scheduler.submit(test::tokens(20, 2), options);
    scheduler.step();
    EXPECT_EQ(scheduler.statistics().running, 2);
    const RequestId blocked = scheduler.submit(test::tokens(64, 3), options, {.priority = 1});
    for (int i = 0; i < 10; ++i) scheduler.step();
    EXPECT_EQ(scheduler.statistics().preemptions, 0)
        << "4 pages and one for the other: all but those of the first";
    EXPECT_EQ(scheduler.statistics().running, 2);
    scheduler.run();
    EXPECT_EQ(scheduler.statistics().preemptions, 0);
    EXPECT_EQ(scheduler.take(low)->get().ids.size(), 20u);
    EXPECT_EQ(scheduler.take(blocked)->get().ids.size(), 20u);
  }
}

TEST(Scheduler, PreemptsAllWhoShareThePagesThatAreNeeded) {
  const Model model = tiny_model(long_config());
  Scheduler scheduler(model, {.kv_cache_bytes = 9 * kPage});
  scheduler.submit(kPrompt, {.max_new_tokens = 10}, {.priority = 2});
  for (int i = 0; i < 2; ++i) scheduler.submit(test::tokens(70, 1), {.max_new_tokens = 20});
  scheduler.step();
  scheduler.step();
  EXPECT_EQ(scheduler.statistics().running, 3);
  EXPECT_EQ(scheduler.statistics().pages, 1 + 4 + 2);
  // 4 pages and one for the first; there are two, and two that belong to one of the others each.
  scheduler.submit(test::tokens(60, 2), {.max_new_tokens = 4}, {.priority = 1});
  scheduler.step();
  EXPECT_EQ(scheduler.statistics().running, 2);
  EXPECT_EQ(scheduler.statistics().preemptions, 2);
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().pages, scheduler.statistics().prefix_pages);
}

TEST(Scheduler, CountsNoHitWhereARequestFindsItsOwnPages) {
  const Model model = tiny_model();
  Scheduler scheduler(model, {.max_batch = 1, .kv_cache_bytes = 8 * kPage});
  scheduler.submit(test::tokens(20, 1), {.max_new_tokens = 5});
  scheduler.step();
  scheduler.submit(test::tokens(20, 2), {.max_new_tokens = 5}, {.priority = 1});
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().preemptions, 1);
  EXPECT_EQ(scheduler.statistics().prefix_hits, 0);
  EXPECT_LT(scheduler.statistics().computed_tokens, 20 + 20 + 4 + 4 + 20) << "it did find them";
}

TEST(Scheduler, ComputesLongPromptsInPartsWhileOthersGoOn) {
  const Model model = tiny_model(long_config());
  Scheduler scheduler(model, {.max_batch = 4, .max_tokens_per_step = 10});
  std::vector<std::string> events;
  const auto options = [&](std::string name, std::int64_t count) {
    return GenerateOptions{.max_new_tokens = count,
                           .on_token = [&events, name](const Piece&) { events.push_back(name); }};
  };
  scheduler.submit(kPrompt, options("short", 10));
  scheduler.submit(test::tokens(40, 2), options("long", 2));
  scheduler.run();
  // 5 tokens of the long prompt beside the short one, then 9 a step: with the fifth step it is complete.
  EXPECT_EQ(events, (std::vector<std::string>{"short", "short", "short", "short", "short", "long", "short",
                                              "long", "short", "short", "short", "short"}));
}

}  // namespace
}  // namespace gpt
