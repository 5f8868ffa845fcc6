#include "gpt/generate/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "generate/same_result.h"
#include "generate/tiny_model.h"
#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;
using test::expect_same;
using test::kPrompt;
using test::tiny_model;

// Bytes of a page of 16 tokens of the tiny model: 2 layers, 2 heads, keys and values of 16 elements.
constexpr std::size_t kPage = std::size_t{2} * 2 * 2 * 16 * 16 * 4;

// A larger context than the tiny model's, so that requests take several pages.
Gpt2Config long_config() {
  Gpt2Config config = test::tiny_config();
  config.n_positions = 128;
  return config;
}

/// A request made up from a seed: options, lengths, and prompts of which many begin alike.
struct RandomRequest {
  std::vector<TokenId> prompt;
  GenerateOptions options;
  RequestSettings settings;
  std::size_t cancel_after = 0;  // tokens; 0: never
};

RandomRequest random_request(std::uint64_t seed) {
  const CounterRng rng(7, seed);
  std::uint64_t draws = 0;
  const auto below = [&](std::size_t n) {
    return static_cast<std::size_t>(rng.uniform(draws++) * static_cast<double>(n));
  };
  RandomRequest r;
  const std::size_t family = below(5), length = 1 + below(70);
  r.prompt = test::tokens(length, family);
  if (below(3) == 0) r.prompt.back() = static_cast<TokenId>(below(97));
  GenerateOptions& o = r.options;
  o.max_new_tokens = static_cast<std::int64_t>(1 + below(128 - length));
  o.seed = seed;
  if (below(2) == 0) {
    o.do_sample = true;
    o.temperature = 0.5 + rng.uniform(draws++);
    if (below(2) == 0) o.top_p = 0.9;
    if (below(3) == 0) o.top_k = 0;
    if (below(4) == 0) o.mirostat = 2;
    if (o.mirostat) o.top_p.reset(), o.top_k.reset();
  }
  if (below(3) == 0) o.repetition_penalty = 1.2;
  if (below(4) == 0) o.no_repeat_ngram_size = 2;
  if (below(4) == 0) o.dry_multiplier = 0.8;
  if (below(3) == 0) o.stop_strings = std::vector<std::string>{"the ", "ab", "q"};
  if (below(4) == 0) o.eos_token_id = std::vector<TokenId>{static_cast<TokenId>(below(97)), 96};
  if (below(3) == 0) o.logprobs = static_cast<int>(below(4));
  if (below(6) == 0) {
    o.sliding_window = true;
    o.n_keep = static_cast<std::int64_t>(below(20));
    o.max_new_tokens = 150;
  }
  r.settings.priority = static_cast<int>(below(3));
  if (below(10) == 0) r.cancel_after = 1 + below(5);
  return r;
}

// The central promise: whatever runs beside it, a request's result has the bits it has alone; and no page is lost.
void expect_results_alone(const SchedulerOptions& options, std::size_t count, bool expect_preemptions) {
  const Model model = tiny_model(long_config());
  const Generator generator(model);
  Scheduler scheduler(model, options);
  struct Waiting {
    RandomRequest request;
    std::string pieces;
    std::vector<TokenId> ids;
    std::stop_source stop;
    std::optional<Completion> done;
  };
  std::vector<Waiting> all(count);
  std::size_t submitted = 0;
  const CounterRng rng(3, 4);
  for (std::uint64_t step = 0; submitted < count || !scheduler.idle(); ++step) {
    // A few at a time, so that requests join while others run.
    for (auto n = static_cast<std::size_t>(rng.uniform(step) * 9); n > 0 && submitted < count;
         --n, ++submitted) {
      Waiting& w = all[submitted];
      w.request = random_request(submitted);
      GenerateOptions o = w.request.options;
      o.stop = w.stop.get_token();
      o.on_token = [&w](const Piece& piece) {
        w.pieces += piece.text;
        w.ids.push_back(piece.id);
        if (w.ids.size() == w.request.cancel_after) w.stop.request_stop();
      };
      RequestSettings settings = w.request.settings;
      settings.on_done = [&w](Completion completion) { w.done = std::move(completion); };
      scheduler.submit(w.request.prompt, o, settings);
    }
    scheduler.step();
    const SchedulerStatistics now = scheduler.statistics();
    ASSERT_LE(now.pages, now.total_pages);
    ASSERT_LE(now.running, options.max_batch);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Waiting& w = all[i];
    const std::string which = concat("request ", i);
    ASSERT_TRUE(w.done.has_value()) << which;
    ASSERT_FALSE(w.done->error) << which;
    const GenerateResult& got = w.done->result;
    EXPECT_EQ(got.ids, w.ids) << which;
    GenerateResult expected = generator.generate(w.request.prompt, w.request.options);
    if (w.request.cancel_after > 0 && w.request.cancel_after < expected.ids.size()) {
      EXPECT_EQ(got.finish_reason, FinishReason::kCancelled) << which;
      expected.ids.resize(w.request.cancel_after);
      EXPECT_EQ(got.ids, expected.ids) << which;
      continue;
    }
    expect_same(got, expected, which);
    EXPECT_EQ(w.pieces, expected.text) << which;
  }
  const SchedulerStatistics end = scheduler.statistics();
  EXPECT_EQ(end.submitted, static_cast<std::int64_t>(count));
  EXPECT_EQ(end.finished, end.submitted);
  EXPECT_EQ(end.running + end.waiting, 0);
  EXPECT_EQ(end.pages, end.prefix_pages) << "pages are lost";
  if (!options.prefix_cache) {
    EXPECT_EQ(end.pages, 0);
  }
  EXPECT_LE(static_cast<std::size_t>(end.peak_pages) * end.page_bytes,
            options.kv_cache_bytes == 0 ? ~std::size_t{0} : options.kv_cache_bytes);
  if (expect_preemptions) {
    EXPECT_GT(end.preemptions, 0);
  }
  if (options.prefix_cache && options.page_tokens == 16) {
    EXPECT_GT(end.prefix_hits, 0);
  }
}

TEST(Scheduler, GivesEachOfManyRequestsTheBitsItHasAlone) {
  expect_results_alone({.max_batch = 16, .max_tokens_per_step = 64}, 200, false);
}

TEST(Scheduler, GivesThemTheSameBitsWhenMemoryIsShort) {
  // As many pages as the longest request needs, and a few more.
  expect_results_alone({.max_batch = 12, .max_tokens_per_step = 40, .kv_cache_bytes = 11 * kPage}, 200, true);
  expect_results_alone({.max_batch = 12, .max_tokens_per_step = 12, .kv_cache_bytes = 8 * kPage}, 60, true);
}

TEST(Scheduler, GivesThemTheSameBitsWithoutSharedPrefixes) {
  expect_results_alone({.max_batch = 9, .kv_cache_bytes = 15 * kPage, .prefix_cache = false}, 60, true);
}

TEST(Scheduler, GivesThemTheSameBitsInPagesOfAnySize) {
  for (const std::int64_t page : {32, 48, 128})
    expect_results_alone({.max_batch = 5, .max_tokens_per_step = 100, .page_tokens = page}, 40, false);
}

TEST(Scheduler, HoldsKeysAndValuesAsNarrowAsAsked) {
  const Model model = tiny_model(long_config());
  for (const DType dtype : {DType::f16, DType::bf16, DType::i8}) {
    Scheduler scheduler(model, {.kv_cache_dtype = dtype});
    const GenerateOptions options{.max_new_tokens = 60, .logprobs = 1, .kv_cache_dtype = dtype};
    const RequestId first = scheduler.submit(test::tokens(40, 1), options);
    scheduler.run();
    const RequestId second = scheduler.submit(test::tokens(60, 1), options);
    scheduler.run();
    expect_same(scheduler.take(first)->get(), Generator(model).generate(test::tokens(40, 1), options));
    expect_same(scheduler.take(second)->get(), Generator(model).generate(test::tokens(60, 1), options));
    EXPECT_EQ(scheduler.statistics().prefix_hits, 1);
    expect_error<ArgumentError>([&] { scheduler.submit(kPrompt, {}); },
                                {"kv_cache_dtype is float32", std::string(name_of(dtype))});
  }
}

TEST(Scheduler, ComputesASharedPrefixOnce) {
  const Model model = tiny_model(long_config());
  const GenerateOptions options{.max_new_tokens = 1};
  const std::vector<TokenId> prompt = test::tokens(64, 3);
  Scheduler scheduler(model);
  scheduler.submit(prompt, options);
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().computed_tokens, 64);
  EXPECT_EQ(scheduler.statistics().prefix_pages, 4);
  // All of it, of which the last token is computed again, in a copy of its page that is let go of afterwards.
  const RequestId again = scheduler.submit(prompt, options);
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().computed_tokens, 65);
  EXPECT_EQ(scheduler.statistics().prefix_hit_tokens, 63);
  EXPECT_EQ(scheduler.statistics().pages, 4);
  expect_same(scheduler.take(again)->result, Generator(model).generate(prompt, options));
  // A part: whole pages.
  std::vector<TokenId> other = prompt;
  other[40] += 1;
  scheduler.submit(other, options);
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().computed_tokens, 65 + 32);
  EXPECT_EQ(scheduler.statistics().prefix_hits, 2);
  EXPECT_EQ(scheduler.statistics().pages, 6);
}

TEST(Scheduler, LetsRequestsThatRunSideBySideShareTheirPages) {
  const Model model = tiny_model(long_config());
  Scheduler scheduler(model);
  for (int i = 0; i < 4; ++i) scheduler.submit(test::tokens(64, 3), {.max_new_tokens = 2});
  scheduler.step();
  EXPECT_EQ(scheduler.statistics().running, 4);
  EXPECT_EQ(scheduler.statistics().pages, 4);
  scheduler.step();
  EXPECT_EQ(scheduler.statistics().running, 0);
}

TEST(Scheduler, ForgetsThePrefixThatWasUsedLeastRecently) {
  const Model model = tiny_model(long_config());
  Scheduler scheduler(model, {.kv_cache_bytes = 4 * kPage});
  const auto run = [&](std::size_t first) {
    scheduler.submit(test::tokens(16, first), {.max_new_tokens = 2});
    scheduler.run();
    return scheduler.statistics().prefix_hits;
  };
  EXPECT_EQ(run(1), 0);
  EXPECT_EQ(run(2), 0);
  EXPECT_EQ(run(3), 0);
  EXPECT_EQ(run(1), 1);  // then 2 is the oldest
  EXPECT_EQ(run(4), 1);
  EXPECT_EQ(run(5), 1);
  EXPECT_EQ(run(1), 2);
  EXPECT_EQ(run(2), 2);
}

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

// The time of the steps and that of the callbacks together are no more than all the time there was.
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
        scheduler.submit("the cat", {.max_new_tokens = 6, .do_sample = true, .seed = seed},
                         {.on_done = [&, seed](const Completion& done) {
                           const std::lock_guard lock(mutex);
                           results.emplace(seed, done.result);
                         }});
        scheduler.cancel(1000);
        static_cast<void>(scheduler.statistics());
      }
    });
  for (std::thread& client : clients) client.join();
  while (!scheduler.idle()) std::this_thread::yield();
  stop.request_stop();
  server.join();
  ASSERT_EQ(results.size(), 20u);
  for (const auto& [seed, result] : results)
    expect_same(result,
                generator.generate("the cat", {.max_new_tokens = 6, .do_sample = true, .seed = seed}));
}

TEST(Scheduler, RefusesRequestsThatItCannotRun) {
  const Model model = tiny_model();
  Scheduler scheduler(model);
  const auto refuses = [&](const GenerateOptions& options, std::string_view name) {
    expect_error<UnsupportedError>([&] { scheduler.submit(kPrompt, options); }, {name, "not supported"});
  };
  refuses({.num_beams = 2}, "num_beams");
  refuses({.top_k = 3, .penalty_alpha = 0.5}, "penalty_alpha");
  refuses({.do_sample = true, .num_return_sequences = 2}, "num_return_sequences");
  refuses({.guidance_scale = 2}, "guidance_scale");
  refuses({.assistant_model = &model}, "assistant_model");
  refuses({.prompt_lookup_num_tokens = 3}, "prompt_lookup_num_tokens");
  expect_error<ArgumentError>([&] { scheduler.submit(kPrompt, {.num_threads = 1}); }, {"num_threads is 1"});
  expect_error<ArgumentError>([&] { scheduler.submit(""); }, {"empty"});
  expect_error<ArgumentError>([&] { scheduler.submit(kPrompt, {.max_new_tokens = 30}); }, {"n_positions"});
  expect_error<ArgumentError>([&] { scheduler.submit(kPrompt, {.top_k = 3}); }, {"top_k"});
  expect_error<UnsupportedError>(
      [] {
        const Model plain = test::tiny_model_without_tokenizer();
        Scheduler(plain).submit("abc");
      },
      {"no tokenizer"});
  EXPECT_TRUE(scheduler.idle());
  EXPECT_EQ(scheduler.statistics().submitted, 0);
}

TEST(Scheduler, RefusesARequestThatCouldNeverRun) {
  const Model model = tiny_model(long_config());
  Scheduler scheduler(model, {.kv_cache_bytes = 3 * kPage});
  scheduler.submit(kPrompt, {.max_new_tokens = 44});  // the last of 49 tokens is not fed
  expect_error<ArgumentError>([&] { scheduler.submit(kPrompt, {.max_new_tokens = 45}); },
                              {"49 tokens, 4 pages", "allows 3", "never"});
  expect_error<ArgumentError>(
      [&] { scheduler.submit(kPrompt, {.max_new_tokens = 500, .sliding_window = true}); },
      {"128 tokens, 8 pages"});
  scheduler.run();
}

TEST(Scheduler, RefusesMoreThanMayWait) {
  const Model model = tiny_model();
  Scheduler scheduler(model, {.max_batch = 1, .max_queue = 2});
  const auto submit = [&] { return scheduler.submit(kPrompt, {.max_new_tokens = 3}); };
  submit();
  submit();
  expect_error<BusyError>([&] { submit(); }, {"2 requests are waiting", "max_queue is 2"});
  scheduler.step();  // one runs
  submit();
  expect_error<BusyError>([&] { submit(); }, {"max_queue"});
  scheduler.run();
  EXPECT_EQ(scheduler.statistics().finished, 3);
}

TEST(Scheduler, RefusesOptionsThatMakeNoSense) {
  const Model model = tiny_model();
  const auto refuses = [&](const SchedulerOptions& options, std::string_view what) {
    expect_error<ArgumentError>([&] { Scheduler(model, options); }, {what});
  };
  refuses({.max_batch = 0}, "max_batch is 0");
  refuses({.max_batch = 8, .max_tokens_per_step = 7},
          "max_tokens_per_step is 7, expected at least max_batch = 8");
  refuses({.max_queue = 0}, "max_queue is 0");
  refuses({.page_tokens = 8}, "page_tokens is 8");
  refuses({.kv_cache_bytes = 100}, "the budget is 100 bytes");
  refuses({.kv_cache_dtype = DType::f64}, "float64");
  refuses({.num_threads = -1}, "num_threads is -1");
}

}  // namespace
}  // namespace gpt
