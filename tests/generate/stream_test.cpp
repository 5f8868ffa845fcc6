// Pieces as they come, callbacks, and stopping on the way.
#include <gtest/gtest.h>

#include <atomic>
#include <iterator>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "generate/tiny_model.h"
#include "gpt/core/error.h"
#include "gpt/generate/generator.h"
#include "gpt/text/utf8.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::kPrompt;
using test::tiny_model;

static_assert(std::input_iterator<Stream::Iterator>);
static_assert(std::ranges::input_range<Stream>);

TEST(Stream, PiecesJoinedAreTheWholeResult) {
  const Model model = tiny_model();
  const Generator generator(model);
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    const GenerateOptions options{
        .max_new_tokens = 27, .do_sample = true, .top_k = 0, .seed = seed, .logprobs = 2};
    const GenerateResult whole = generator.generate(kPrompt, options);
    Stream stream = generator.stream(kPrompt, options);
    std::vector<TokenId> ids;
    std::string text;
    for (const Piece& piece : stream) {
      EXPECT_TRUE(is_valid_utf8(piece.text));
      EXPECT_EQ(piece.logprob, whole.logprobs[ids.size()]);
      EXPECT_EQ(piece.top_logprobs.size(), 2u);
      ids.push_back(piece.id);
      text += piece.text;
    }
    EXPECT_EQ(ids, whole.ids);
    EXPECT_EQ(text, whole.text);
    EXPECT_EQ(stream.result().ids, whole.ids);
    EXPECT_EQ(stream.result().finish_reason, whole.finish_reason);
  }
}

TEST(Stream, ComputesOneTokenPerStep) {
  const Model model = tiny_model();
  Stream stream = Generator(model).stream("abc", {.max_new_tokens = 5});
  EXPECT_TRUE(stream.result().ids.empty());
  auto it = stream.begin();
  EXPECT_EQ(stream.result().ids.size(), 1u);
  ++it;
  EXPECT_EQ(stream.result().ids.size(), 2u);
  EXPECT_EQ(it->id, stream.result().ids[1]);
  EXPECT_EQ(stream.begin()->id, it->id) << "begin() starts nothing over";
}

TEST(Stream, MayBeMovedAndAbandoned) {
  const Model model = tiny_model();
  Stream first = Generator(model).stream("abc", {.max_new_tokens = 5});
  first.begin();
  Stream second = std::move(first);
  EXPECT_EQ(std::ranges::distance(second), 5);
}

TEST(Stream, ChecksPromptAndOptionsAtOnce) {
  const Model model = tiny_model();
  const Generator generator(model);
  test::expect_error<ArgumentError>([&] { generator.stream(""); }, {"empty"});
  test::expect_error<ArgumentError>([&] { generator.stream("a", {.top_k = 1}); }, {"top_k"});
}

TEST(OnToken, IsCalledWithEveryPieceOfItsSequence) {
  const Model model = tiny_model();
  std::vector<std::vector<TokenId>> seen(3);
  GenerateOptions options{.max_new_tokens = 6};
  options.on_token = [&seen](const Piece& piece) { seen.at(piece.sequence).push_back(piece.id); };
  const std::vector<std::vector<TokenId>> prompts = {{1}, {2, 3}, {4, 5, 6}};
  const auto results = Generator(model).generate(prompts, options);
  for (std::size_t i = 0; i < prompts.size(); ++i) EXPECT_EQ(seen[i], results[i].ids);
}

TEST(OnToken, WhatItThrowsReachesTheCallerAndLeavesAllUsable) {
  const Model model = tiny_model();
  const Generator generator(model);
  GenerateOptions options{.max_new_tokens = 6};
  const auto expected = generator.generate(kPrompt, options).ids;
  int calls = 0;
  options.on_token = [&calls](const Piece&) {
    if (++calls == 3) throw std::out_of_range("enough");
  };
  EXPECT_THROW(generator.generate(kPrompt, options), std::out_of_range);
  EXPECT_EQ(generator.generate(kPrompt, {.max_new_tokens = 6}).ids, expected);

  calls = 0;
  Stream stream = generator.stream(kPrompt, options);
  EXPECT_THROW(
      for (const Piece& piece
           : stream) { static_cast<void>(piece); },
      std::out_of_range);
  EXPECT_EQ(stream.result().ids, std::vector<TokenId>(expected.begin(), expected.begin() + 3));
}

TEST(Cancellation, BeforeTheStartGivesAnEmptyResult) {
  const Model model = tiny_model();
  std::stop_source source;
  source.request_stop();
  const GenerateResult result = Generator(model).generate(kPrompt, {.stop = source.get_token()});
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_TRUE(result.ids.empty());
  EXPECT_EQ(result.prompt_ids, kPrompt);
  EXPECT_EQ(result.timing.prefill_tokens, 0);
}

TEST(Cancellation, FromTheCallbackKeepsTheTokensSoFar) {
  const Model model = tiny_model();
  const Generator generator(model);
  const auto whole = generator.generate(kPrompt, {.max_new_tokens = 10}).ids;
  std::stop_source source;
  GenerateOptions options{.max_new_tokens = 10, .stop = source.get_token()};
  options.on_token = [&, count = 0](const Piece&) mutable {
    if (++count == 4) source.request_stop();
  };
  const GenerateResult result = generator.generate(kPrompt, options);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.ids, std::vector<TokenId>(whole.begin(), whole.begin() + 4));
  EXPECT_EQ(result.text,
            replace_invalid_utf8(model.tokenizer().decode(result.ids, {.skip_special_tokens = true})));
}

// There is no token then that could bring it in its piece.
TEST(Cancellation, GivesWhatWasHeldBackToTheResultAlone) {
  const Model model = tiny_model();
  const Generator generator(model);
  constexpr TokenId kLead = 30;  // the first byte of "\u00e9"
  ASSERT_EQ(model.tokenizer().bytes_of(kLead), "\xc3");
  std::stop_source source;
  std::string told;
  GenerateOptions options{.max_new_tokens = 5, .stop = source.get_token()};
  options.logits_processor = [](std::span<double> scores, const DecodingStep&) {
    for (std::size_t id = 0; id < scores.size(); ++id)
      if (id != std::size_t{kLead}) scores[id] = -std::numeric_limits<double>::infinity();
  };
  options.on_token = [&](const Piece& piece) { told += piece.text; };
  std::string streamed;
  Stream stream = generator.stream(kPrompt, options);
  int pieces = 0;
  for (const Piece& piece : stream) {
    streamed += piece.text;
    if (++pieces == 2) source.request_stop();
  }
  EXPECT_EQ(pieces, 2);
  EXPECT_EQ(streamed, "\uFFFD");
  EXPECT_EQ(told, streamed);
  EXPECT_EQ(stream.result().finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(stream.result().text, "\uFFFD\uFFFD");
  options.stop = {};
  told.clear();
  EXPECT_EQ(generator.generate(kPrompt, options).text, told);  // ended by a token, which brings it
}

TEST(Cancellation, LeavesSequencesThatHaveEndedAsTheyAre) {
  const Model model = tiny_model();
  std::stop_source source;
  GenerateOptions options{.max_length = 8, .stop = source.get_token()};
  options.on_token = [&, count = 0](const Piece&) mutable {
    if (++count == 4) source.request_stop();  // two tokens each: the second sequence is full
  };
  const auto results =
      Generator(model).generate(std::vector<std::vector<TokenId>>{{1, 2}, {1, 2, 3, 4, 5, 6}}, options);
  EXPECT_EQ(results[0].finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(results[0].ids.size(), 2u);
  EXPECT_EQ(results[1].finish_reason, FinishReason::kLength);
  EXPECT_EQ(results[1].ids.size(), 2u);
}

TEST(Cancellation, ThatAUsersFunctionThrowsReachesTheCaller) {
  const Model model = tiny_model();
  const Generator generator(model);
  const FunctionProcessor::Function cancels = [](std::span<double>, const DecodingStep&) {
    fail<CancelledError>("user", "has other plans");
  };
  const auto expect_thrown = [&](GenerateOptions options) {
    options.max_new_tokens = 3;
    options.logits_processor = cancels;
    test::expect_error<CancelledError>([&] { generator.generate(kPrompt, options); }, {"has other plans"});
  };
  expect_thrown({});
  expect_thrown({.num_beams = 2});
  expect_thrown({.top_k = 4, .penalty_alpha = 0.5});
}

TEST(Cancellation, FromAnotherThreadStopsALongPrefill) {
  Gpt2Config config = test::endless_config();
  config.n_positions = 4096;
  config.n_layer = 8;
  config.n_embd = 64;
  const Model model = tiny_model(config);
  std::stop_source source;
  std::atomic<bool> started = false;
  std::thread stopper([&] {
    started.wait(false);
    source.request_stop();
  });
  started = true;
  started.notify_one();
  const GenerateResult result = Generator(model).generate(std::vector<TokenId>(4000, 1),
                                                          {.max_new_tokens = 97, .stop = source.get_token()});
  stopper.join();
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_LT(result.ids.size(), 97u);
  EXPECT_LE(result.timing.prefill_tokens, 4000);
}

}  // namespace
}  // namespace gpt
