// How requests end, what is called back, and by whom.
#include "gpt/generate/scheduler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <stop_token>
#include <thread>
#include <vector>

#include "generate/same_result.h"
#include "generate/tiny_model.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;
using test::expect_same;
using test::kPrompt;
using test::tiny_model;

TEST(Scheduler, StopsARequestByIdAndByItsToken) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  std::stop_source stop;
  const RequestId by_id = scheduler.submit(kPrompt, {.max_new_tokens = 20});
  const RequestId by_token = scheduler.submit(kPrompt, {.max_new_tokens = 20, .stop = stop.get_token()});
  const RequestId other = scheduler.submit(kPrompt, {.max_new_tokens = 20});
  scheduler.step();
  scheduler.step();
  EXPECT_FALSE(scheduler.take(by_id).has_value());
  EXPECT_TRUE(scheduler.cancel(by_id));
  stop.request_stop();
  scheduler.run();
  const GenerateResult whole = scheduler.take(other)->get();
  EXPECT_EQ(whole.ids.size(), 20u);
  for (const RequestId id : {by_id, by_token}) {
    const GenerateResult part = scheduler.take(id)->get();
    EXPECT_EQ(part.finish_reason, FinishReason::kCancelled);
    EXPECT_EQ(part.ids, std::vector<TokenId>(whole.ids.begin(), whole.ids.begin() + 2));
  }
  EXPECT_FALSE(scheduler.cancel(by_id));
  expect_error<ArgumentError>([&] { scheduler.take(by_id); }, {"request 1 "});
}

TEST(Scheduler, LeavesNoTraceOfAStepThatWasStopped) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  const RequestId id = scheduler.submit(kPrompt, {.max_new_tokens = 5});
  std::stop_source stop;
  stop.request_stop();
  EXPECT_TRUE(scheduler.step(stop.get_token()));
  EXPECT_EQ(scheduler.statistics().computed_tokens, 0);
  scheduler.run(stop.get_token());
  EXPECT_FALSE(scheduler.idle());
  scheduler.run();
  expect_same(scheduler.take(id)->get(), Generator(model).generate(kPrompt, {.max_new_tokens = 5}));
}

TEST(Scheduler, EndsOnlyTheRequestThatFails) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  const RequestId callback = scheduler.submit(
      kPrompt, {.max_new_tokens = 5, .on_token = [](const Piece&) { throw std::runtime_error("mine"); }});
  const RequestId processor = scheduler.submit(
      kPrompt, {.max_new_tokens = 5, .logits_processor = [](std::span<double> scores, const DecodingStep&) {
                  std::fill(scores.begin(), scores.end(), -std::numeric_limits<double>::infinity());
                }});
  const RequestId good = scheduler.submit(kPrompt, {.max_new_tokens = 5});
  scheduler.run();
  Completion failed = *scheduler.take(callback);
  EXPECT_THROW(failed.get(), std::runtime_error);
  EXPECT_EQ(failed.result.ids.size(), 1u);
  EXPECT_THROW(scheduler.take(processor)->get(), NumericError);
  EXPECT_EQ(scheduler.take(good)->get().ids.size(), 5u);
  EXPECT_EQ(scheduler.statistics().pages, scheduler.statistics().prefix_pages);
}

TEST(Scheduler, LeavesCallbacksOutOfItsTimes) {
  using Clock = std::chrono::steady_clock;
  const Model model = tiny_model();
  Scheduler scheduler(model);
  Clock::duration in_callbacks{};
  const RequestId id =
      scheduler.submit(kPrompt, {.max_new_tokens = 5, .on_token = [&](const Piece&) {
                                   const auto start = Clock::now();
                                   std::this_thread::sleep_for(std::chrono::milliseconds(40));
                                   in_callbacks += Clock::now() - start;
                                 }});
  const auto start = Clock::now();
  scheduler.run();
  const std::chrono::duration<double> all = Clock::now() - start;
  const GenerateTiming timing = scheduler.take(id)->get().timing;
  const double callbacks = std::chrono::duration<double>(in_callbacks).count();
  EXPECT_LE(timing.prefill_s + timing.decode_s, all.count() - callbacks + 1e-6) << "for sums in other units";
  EXPECT_GT(timing.decode_s, 0);
  EXPECT_EQ(timing.decode_tokens, 4);
}

TEST(Scheduler, LetsCallbacksSubmitAndCancel) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  const RequestId victim = scheduler.submit(kPrompt, {.max_new_tokens = 20});
  std::vector<std::size_t> lengths;
  const auto done = [&](const Completion& completion) { lengths.push_back(completion.result.ids.size()); };
  scheduler.submit(kPrompt, {.max_new_tokens = 3}, {.on_done = [&](const Completion& completion) {
                     done(completion);
                     scheduler.cancel(victim);
                     scheduler.submit(kPrompt, {.max_new_tokens = 4}, {.on_done = done});
                     EXPECT_THROW(scheduler.step(), ArgumentError);
                     throw std::runtime_error("mine");
                   }});
  EXPECT_THROW(scheduler.run(), std::runtime_error);
  scheduler.run();
  EXPECT_EQ(lengths, (std::vector<std::size_t>{3, 4}));
  EXPECT_EQ(scheduler.take(victim)->result.ids.size(), 3u);
}

TEST(Scheduler, ThrowsWhatCallbacksThrowAsItIs) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  const RequestId id = scheduler.submit(
      kPrompt, {.max_new_tokens = 5, .on_token = [](const Piece&) { throw std::length_error("mine"); }});
  scheduler.submit(kPrompt, {.max_new_tokens = 5},
                   {.on_done = [](const Completion&) { throw std::length_error("mine, too"); }});
  EXPECT_THROW(scheduler.run(), std::length_error);
  EXPECT_THROW(scheduler.take(id)->get(), std::length_error);
}

TEST(Scheduler, IsNotIdleBeforeACallbackHasBeenCalled) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  RequestId first = 0, second = 0;
  int calls = 0;
  const auto on_done = [&](const Completion&) {
    EXPECT_FALSE(scheduler.idle());
    EXPECT_EQ(scheduler.statistics().finished, calls++);
    EXPECT_FALSE(scheduler.cancel(first)) << "both have ended";
    EXPECT_FALSE(scheduler.cancel(second));
  };
  first = scheduler.submit(kPrompt, {.max_new_tokens = 3}, {.on_done = on_done});
  second = scheduler.submit(kPrompt, {.max_new_tokens = 3}, {.on_done = on_done});
  scheduler.run();
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(scheduler.statistics().finished, 2);
}

TEST(Scheduler, KeepsOfAFinishedRequestItsCompletionAlone) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  const auto mine = std::make_shared<int>();
  const RequestId id =
      scheduler.submit(kPrompt, {.max_new_tokens = 3, .on_token = [mine](const Piece&) { ++*mine; }});
  EXPECT_EQ(mine.use_count(), 2);
  scheduler.run();
  EXPECT_EQ(*mine, 3);
  EXPECT_EQ(mine.use_count(), 1);
  EXPECT_EQ(scheduler.take(id)->get().ids.size(), 3u);
}

TEST(Scheduler, DropsRequestsWithoutACallWhereItIsDestroyed) {
  const Model model = tiny_model();
  bool called = false;
  {
    Scheduler scheduler(model, {.max_batch = 1});
    for (int i = 0; i < 2; ++i)
      scheduler.submit(kPrompt, {.max_new_tokens = 20},
                       {.on_done = [&](const Completion&) { called = true; }});
    scheduler.step();
    EXPECT_EQ(scheduler.statistics().running, 1);
    EXPECT_EQ(scheduler.statistics().waiting, 1);
  }
  EXPECT_FALSE(called);
}

TEST(Scheduler, MayBeUsedFromSeveralThreads) {
  const Model model = tiny_model();
  const Generator generator(model);
  Scheduler scheduler(model, {.max_batch = 3});
  std::stop_source stop;
  std::thread server([&] {
    while (!stop.stop_requested()) {
      scheduler.wait(stop.get_token());
      scheduler.run(stop.get_token());
    }
  });
  std::mutex mutex;
  std::map<std::uint64_t, GenerateResult> results;
  std::vector<std::thread> clients;
  for (std::uint64_t c = 0; c < 4; ++c)
    clients.emplace_back([&, c] {
      for (std::uint64_t i = 0; i < 5; ++i) {
        const std::uint64_t seed = c * 5 + i;
        const RequestId id =
            scheduler.submit("the cat", {.max_new_tokens = 6, .do_sample = true, .seed = seed},
                             {.on_done = [&, seed](const Completion& done) {
                               const std::lock_guard lock(mutex);
                               results.emplace(seed, done.result);
                             }});
        if (i % 2 == 1) scheduler.cancel(id);
        EXPECT_FALSE(scheduler.cancel(1000));
        static_cast<void>(scheduler.statistics());
      }
    });
  for (std::thread& client : clients) client.join();
  while (!scheduler.idle()) std::this_thread::yield();
  {
    const std::lock_guard lock(mutex);
    EXPECT_EQ(results.size(), 20u) << "it is idle, and has not called back";
  }
  stop.request_stop();
  server.join();
  ASSERT_EQ(results.size(), 20u);
  for (const auto& [seed, result] : results) {
    GenerateResult expected =
        generator.generate("the cat", {.max_new_tokens = 6, .do_sample = true, .seed = seed});
    if (seed % 5 % 2 == 1 && result.finish_reason == FinishReason::kCancelled) {  // somewhere
      ASSERT_LT(result.ids.size(), expected.ids.size());
      expected.ids.resize(result.ids.size());
      EXPECT_EQ(result.ids, expected.ids);
    } else {
      expect_same(result, expected);
    }
  }
}

}  // namespace
}  // namespace gpt
