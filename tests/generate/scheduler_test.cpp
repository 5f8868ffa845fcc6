#include "gpt/generate/scheduler.h"
#include "gpt/models/prune.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "generate/same_result.h"
#include "generate/scheduler_support.h"
#include "gpt/core/error.h"
#include "gpt/core/rng.h"
#include "gpt/generate/generator.h"
#include "support/expect_error.h"
#include "support/isa.h"

namespace gpt {
namespace {

using test::expect_error;
using test::expect_same;
using test::kPage;
using test::kPrompt;
using test::long_config;
using test::tiny_model;

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
void expect_results_alone(const SchedulerOptions& options, std::size_t count, bool expect_preemptions,
                          std::span<const HeadId> pruned = {}) {
  Model model = tiny_model(long_config());
  if (!pruned.empty()) model.network() = without_heads(model.network(), pruned);
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
      w.request.options.kv_cache_dtype = options.kv_cache_dtype;
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
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  expect_results_alone({.max_batch = 16, .max_tokens_per_step = 64}, 200, false);
}

TEST(Scheduler, GivesThemTheSameBitsWhenMemoryIsShort) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  // As many pages as the longest request needs, and a few more.
  expect_results_alone({.max_batch = 12, .max_tokens_per_step = 40, .kv_cache_bytes = 11 * kPage}, 200, true);
  expect_results_alone({.max_batch = 12, .max_tokens_per_step = 12, .kv_cache_bytes = 8 * kPage}, 60, true);
}

TEST(Scheduler, GivesThemTheSameBitsWithoutSharedPrefixes) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  expect_results_alone({.max_batch = 9, .kv_cache_bytes = 15 * kPage, .prefix_cache = false}, 60, true);
}

TEST(Scheduler, GivesThemTheSameBitsInPagesOfAnySize) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (const std::int64_t page : {32, 48, 128})
    expect_results_alone({.max_batch = 5, .max_tokens_per_step = 100, .page_tokens = page}, 40, false);
}

TEST(Scheduler, GivesThemTheSameBitsInNarrowPagesThatAreShort) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  for (const auto& [dtype, page] : {std::pair{DType::f16, kPage / 2}, {DType::i8, kPage / 4 + kPage / 16}})
    expect_results_alone({.max_batch = 12, .kv_cache_bytes = 11 * page, .kv_cache_dtype = dtype}, 60, true);
}

TEST(Scheduler, GivesThemTheSameBitsWhereALayerLacksHeads) {
  GPT_SKIP_UNLESS_ON_THE_FASTEST_ISA();
  const HeadId head{0, 1};
  for (const auto& [dtype, page] : {std::pair{DType::f32, kPage}, {DType::i8, kPage / 4 + kPage / 16}})
    expect_results_alone({.max_batch = 12, .kv_cache_bytes = 11 * page, .kv_cache_dtype = dtype}, 40, false,
                         {&head, 1});
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
  const GenerateResult result = scheduler.take(again)->get();
  EXPECT_EQ(result.timing.prefill_tokens, 1);
  expect_same(result, Generator(model).generate(prompt, options));
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

// The time of the steps and that of the callbacks together are no more than all the time there was.
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
  refuses({.page_tokens = 0}, "page_tokens is 0");
  refuses({.kv_cache_bytes = 100},
          "kv_cache_bytes is 100, expected at least 8192, the size of a page of page_tokens = 16");
  refuses({.kv_cache_dtype = DType::f64}, "kv_cache_dtype is float64");
  refuses({.num_threads = -1}, "num_threads is -1");
}

}  // namespace
}  // namespace gpt
