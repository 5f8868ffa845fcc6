#include "gpt/generate/constraints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "generate/processor_run.h"
#include "gpt/core/error.h"
#include "support/expect_error.h"

namespace gpt {
namespace {

using test::expect_error;
using test::kDropped;
using test::kept;
using test::run;
using ::testing::ElementsAreArray;

const std::vector<double> kFive = {0.5, 1.0, 1.5, 2.0, 2.5};

DecodingStep after(const std::vector<TokenId>& history, std::size_t prompt_length,
                   std::size_t max_length = 100) {
  return {.history = history, .prompt_length = prompt_length, .max_length = max_length};
}

TEST(NoRepeatNGram, DropsWhatWouldRepeat) {
  const std::vector<TokenId> history = {1, 2, 3, 1, 2, 4, 1, 2};
  EXPECT_THAT(kept(run(NoRepeatNGram(3), kFive, history)), ElementsAreArray({0, 1, 2}));
  EXPECT_THAT(kept(run(NoRepeatNGram(2), kFive, {0, 1, 0, 2, 0})), ElementsAreArray({0, 3, 4}));
  EXPECT_THAT(kept(run(NoRepeatNGram(2), kFive, {3, 3})), ElementsAreArray({0, 1, 2, 4}));
  EXPECT_THAT(kept(run(NoRepeatNGram(4), kFive, history)), ElementsAreArray({0, 1, 2, 3, 4}));
}

TEST(NoRepeatNGram, OfOneDropsTheHistoryAndShortHistoriesHaveNone) {
  EXPECT_THAT(kept(run(NoRepeatNGram(1), kFive, {1, 3, 1})), ElementsAreArray({0, 2, 4}));
  EXPECT_EQ(run(NoRepeatNGram(3), kFive, {1, 1}), kFive);
  EXPECT_EQ(run(NoRepeatNGram(1), kFive), kFive);
  EXPECT_EQ(run(NoRepeatNGram(0), kFive, {1, 2, 1}), kFive);
  expect_error<ArgumentError>([] { run(NoRepeatNGram(1), kFive, {7}); }, {"token id 7", "history"});
}

TEST(NoBadWords, DropsTheLastTokenOfAWord) {
  const NoBadWords words({{0}, {3, 1}, {2, 3, 4}});
  EXPECT_THAT(kept(run(words, kFive, {2, 3})), ElementsAreArray({2, 3, 4}));
  EXPECT_THAT(kept(run(words, kFive, {1, 2, 3})), ElementsAreArray({2, 3}));
  EXPECT_THAT(kept(run(words, kFive, {3, 2})), ElementsAreArray({1, 2, 3, 4}));
}

TEST(NoBadWords, LeavesTheEosTokens) {
  const std::vector<TokenId> eos = {1, 2};
  EXPECT_THAT(kept(run(NoBadWords({{0}, {1}, {2, 4}}, eos), kFive, {2, 2})), ElementsAreArray({1, 2, 3}));
}

TEST(MinLength, DropsEosBeforeIt) {
  EXPECT_THAT(kept(run(MinLength(3, {0, 4}), kFive, {1, 1})), ElementsAreArray({1, 2, 3}));
  EXPECT_EQ(run(MinLength(3, {0, 4}), kFive, {1, 1, 1}), kFive);
  EXPECT_EQ(run(MinLength(3, {}), kFive, {1}), kFive);
}

TEST(MinNewTokens, DoesNotCountThePrompt) {
  EXPECT_THAT(kept(run(MinNewTokens(2, {4}), kFive, after({1, 1, 1, 1}, 3))), ElementsAreArray({0, 1, 2, 3}));
  EXPECT_EQ(run(MinNewTokens(2, {4}), kFive, after({1, 1, 1, 1}, 2)), kFive);
}

TEST(PrefixConstrained, KeepsWhatTheFunctionLists) {
  const PrefixConstrained processor([](std::size_t sequence, std::span<const TokenId> tokens) {
    return std::vector<TokenId>{static_cast<TokenId>(sequence), tokens.back()};
  });
  const std::vector<TokenId> history = {0, 3};
  auto scores = kFive;
  scores[3] = kDropped;
  EXPECT_EQ(run(processor, kFive, DecodingStep{.history = history, .sequence = 1}),
            (std::vector<double>{kDropped, 1.0, kDropped, 2.0, kDropped}));
  EXPECT_THAT(kept(run(processor, scores, DecodingStep{.history = history, .sequence = 1})),
              ElementsAreArray({1}));
}

TEST(PrefixConstrained, RefusesAnEmptyListAndForeignTokens) {
  const auto lists = [](std::vector<TokenId> ids) {
    return PrefixConstrained([ids](std::size_t, std::span<const TokenId>) { return ids; });
  };
  expect_error<ArgumentError>(
      [&] {
        run(lists({}), kFive, {1, 2});
      },
      {"prefix_allowed_tokens_fn", "position 2", "sequence 0"});
  expect_error<ArgumentError>([&] { run(lists({5}), kFive); }, {"prefix_allowed_tokens_fn", "token id 5"});
  expect_error<ArgumentError>([] { PrefixConstrained{nullptr}; }, {"prefix_allowed_tokens_fn"});
}

TEST(ForcedBos, ComesAfterAPromptOfOneToken) {
  EXPECT_EQ(run(ForcedBos(2), kFive, {4}),
            (std::vector<double>{kDropped, kDropped, 0.0, kDropped, kDropped}));
  EXPECT_EQ(run(ForcedBos(2), kFive, {4, 2}), kFive);
  expect_error<ArgumentError>([] { run(ForcedBos(5), kFive, {4}); }, {"forced_bos_token_id", "token id 5"});
}

TEST(ForcedEos, TakesTheLastPlace) {
  EXPECT_EQ(run(ForcedEos({1, 4}), kFive, after({0, 0, 0}, 1, 4)),
            (std::vector<double>{kDropped, 0.0, kDropped, kDropped, 0.0}));
  EXPECT_EQ(run(ForcedEos({1}), kFive, after({0, 0, 0}, 1, 5)), kFive);
  EXPECT_EQ(run(ForcedEos({1}), kFive, {0}), kFive);
  expect_error<ArgumentError>([] { ForcedEos({}); }, {"forced_eos_token_id"});
}

TEST(SuppressTokens, DropsThemAlways) {
  EXPECT_THAT(kept(run(SuppressTokens({0, 3}), kFive, {1})), ElementsAreArray({1, 2, 4}));
  expect_error<ArgumentError>([] { run(SuppressTokens({-1}), kFive); }, {"suppress_tokens", "token id -1"});
}

TEST(BeginSuppressTokens, DropsThemForTheFirstNewToken) {
  EXPECT_THAT(kept(run(BeginSuppressTokens({0, 3}), kFive, after({1, 2}, 2))), ElementsAreArray({1, 2, 4}));
  EXPECT_EQ(run(BeginSuppressTokens({0, 3}), kFive, after({1, 2, 4}, 2)), kFive);
  // For the second, when the first is a forced bos token.
  EXPECT_EQ(run(BeginSuppressTokens({0}, true), kFive, after({1}, 1)), kFive);
  EXPECT_THAT(kept(run(BeginSuppressTokens({0}, true), kFive, after({1, 2}, 1))),
              ElementsAreArray({1, 2, 3, 4}));
  EXPECT_THAT(kept(run(BeginSuppressTokens({0}, true), kFive, after({1, 2}, 2))),
              ElementsAreArray({1, 2, 3, 4}));
}

TEST(Constraints, RefuseValuesOutsideTheirRangeByName) {
  expect_error<ArgumentError>([] { NoRepeatNGram{-1}; }, {"no_repeat_ngram_size is -1"});
  expect_error<ArgumentError>([] { MinLength(-1, {}); }, {"min_length is -1"});
  expect_error<ArgumentError>([] { MinNewTokens(-1, {}); }, {"min_new_tokens is -1"});
  expect_error<ArgumentError>(
      [] {
        NoBadWords(std::vector<std::vector<TokenId>>{{1}, {}});
      },
      {"bad_words_ids", "empty"});
}

}  // namespace
}  // namespace gpt
