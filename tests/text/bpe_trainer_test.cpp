#include "gpt/text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <map>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/byte_map.h"
#include "text/pretokenizer.h"

namespace gpt {
namespace {

using test::expect_error;
using Merges = std::vector<std::pair<std::string, std::string>>;

// The definition, word for word: counts everything anew for every merge.
ByteBpeModel naive(std::span<const std::string_view> texts, const BpeTrainingOptions& options) {
  ByteBpeModel model;
  std::map<std::string, TokenId> ids;
  const auto add = [&](const std::string& token) {
    const auto [at, is_new] = ids.emplace(token, static_cast<TokenId>(ids.size()));
    if (is_new) model.vocab.emplace_back(token, at->second);
    return at->second;
  };
  for (const std::string& token : options.special_tokens) add(token);
  std::map<char32_t, std::string> alphabet;
  for (unsigned b = 0; b < 256; ++b)
    alphabet[kCharOfByte[b]] = spell_bytes(std::string(1, static_cast<char>(b)));
  for (const auto& [code_point, spelling] : alphabet) add(spelling);

  std::map<std::string, std::int64_t> pieces;
  for (std::string_view text : texts)
    while (!text.empty()) {
      const std::size_t length = next_piece_length(text);
      ++pieces[std::string(text.substr(0, length))];
      text.remove_prefix(length);
    }
  std::vector<std::pair<std::vector<TokenId>, std::int64_t>> words;
  for (const auto& [piece, count] : pieces) {
    words.emplace_back(std::vector<TokenId>(), count);
    for (const char c : piece) words.back().first.push_back(ids.at(spell_bytes(std::string(1, c))));
  }
  std::map<std::pair<TokenId, TokenId>, TokenId> merged;
  while (static_cast<std::int64_t>(model.vocab.size()) < options.vocab_size) {
    std::map<std::pair<TokenId, TokenId>, std::int64_t> counts;
    for (const auto& [word, count] : words)
      for (std::size_t i = 0; i + 1 < word.size(); ++i) counts[{word[i], word[i + 1]}] += count;
    std::pair<TokenId, TokenId> best;
    std::int64_t most = 0;
    for (const auto& [pair, count] : counts)  // in the order of the pairs: the first of equal ones stays
      if (count > most) {
        most = count;
        best = pair;
      }
    if (most < options.min_frequency) break;
    if (!merged.contains(best)) {
      const std::string left = model.vocab[static_cast<std::size_t>(best.first)].first;
      const std::string right = model.vocab[static_cast<std::size_t>(best.second)].first;
      model.merges.emplace_back(left, right);
      merged[best] = add(left + right);
    }
    for (auto& entry : words) {
      std::vector<TokenId> out;
      const std::vector<TokenId>& word = entry.first;
      for (std::size_t i = 0; i < word.size(); ++i) {
        const bool is_pair = i + 1 < word.size() && word[i] == best.first && word[i + 1] == best.second;
        out.push_back(is_pair ? merged[best] : word[i]);
        if (is_pair) ++i;
      }
      entry.first = std::move(out);
    }
  }
  return model;
}

std::string corpus(std::size_t bytes) {
  return test::read_file(std::filesystem::path(GPT_SOURCE_DIR) / "tests/golden/training/corpus.txt")
      .substr(0, bytes);
}

// Words of few letters: ties, overlaps, and many pairs that spell the same token.
std::string few_letters(std::uint32_t seed, int words) {
  std::string text;
  for (int w = 0; w < words; ++w) {
    text += ' ';
    for (std::uint32_t n = 0; n < 1 + (seed >> 28); ++n) {
      seed = seed * 1664525u + 1013904223u;
      text += static_cast<char>('a' + (seed >> 24) % 3);
    }
    seed = seed * 1664525u + 1013904223u;
  }
  return text;
}

TEST(TrainByteBpe, EqualsItsDefinition) {
  std::vector<std::string> texts{corpus(20000), "aaaa aaa aa aaaaaaa", "今天天气很好 天气\xFF\xFF\xFF"};
  for (std::uint32_t seed = 1; seed <= 20; ++seed) texts.push_back(few_letters(seed * 7919, 60));
  for (const std::string& text : texts) {
    const std::string_view views[] = {text, "and another text, and another"};
    const BpeTrainingOptions options{.vocab_size = 400, .min_frequency = text.size() > 10000 ? 2 : 1};
    const ByteBpeModel trained = train_byte_bpe(views, options), expected = naive(views, options);
    ASSERT_EQ(trained.merges, expected.merges) << text.substr(0, 100);
    ASSERT_EQ(trained.vocab, expected.vocab) << text.substr(0, 100);
  }
}

TEST(TrainByteBpe, DependsNeitherOnThreadsNorOnTheOrderOfTexts) {
  // Larger than the parts that threads take.
  std::string text;
  while (text.size() < 1500000) text += corpus(200000);
  const std::string_view whole[] = {text, "tail"};
  const std::string_view turned[] = {"tail", text};
  const BpeTrainingOptions options{.vocab_size = 1000};
  Merges expected;
  for (const int threads : {1, 2, 7}) {
    const ThreadLimit limit(threads);
    const Merges merges = train_byte_bpe(whole, options).merges;
    if (expected.empty()) expected = merges;
    EXPECT_EQ(merges, expected);
    EXPECT_EQ(train_byte_bpe(turned, options).merges, expected);
  }
  EXPECT_EQ(expected.size(), 1000u - 257u);
  // The text is the same few times over: so are the merges, but for their least frequency.
  const std::string once = corpus(200000);
  const std::string_view one[] = {once};
  EXPECT_EQ(train_byte_bpe(one, {.vocab_size = 500}).merges,
            Merges(expected.begin(), expected.begin() + 243));
}

TEST(TrainByteBpe, MakesATokenizerThatCompressesAndIsLossless) {
  const std::string text = corpus(100000);
  const std::string_view views[] = {text};
  const ByteBpe tokenizer(train_byte_bpe(views, {.vocab_size = 1000}));
  EXPECT_EQ(tokenizer.vocab_size(), 1000);
  EXPECT_EQ(tokenizer.eos_token_id(), 0);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_LT(tokenizer.encode(text).size() * 2, text.size());
  EXPECT_EQ(tokenizer.encode("<|endoftext|>"), (std::vector<TokenId>{0}));
  const test::TempDir dir;
  tokenizer.save(dir.path());
  for (const bool with_tokenizer_json : {true, false}) {
    if (!with_tokenizer_json) std::filesystem::remove(dir / "tokenizer.json");
    const auto again = load_tokenizer(dir.path());
    EXPECT_EQ(again->encode(text), tokenizer.encode(text));
    EXPECT_EQ(again->eos_token_id(), 0);
  }
}

TEST(TrainByteBpe, StopsWhereNothingIsFrequentEnough) {
  const std::string_view texts[] = {"abab abab xy"};
  const ByteBpeModel model = train_byte_bpe(texts, {.vocab_size = 1000, .special_tokens = {"<a>", "<b>"}});
  EXPECT_EQ(model.merges, (Merges{{"a", "b"}, {"ab", "ab"}}));
  EXPECT_EQ(model.vocab.size(), 260u);
  EXPECT_EQ(model.vocab[0].first, "<a>");
  EXPECT_EQ(model.vocab[2].first, "!");
  EXPECT_EQ(model.eos_token, std::nullopt);
  EXPECT_TRUE(train_byte_bpe({}, {.vocab_size = 300}).merges.empty());
}

TEST(TrainByteBpe, RefusesImpossibleOptions) {
  const auto expect_refused = [](const BpeTrainingOptions& options,
                                 std::initializer_list<std::string_view> words) {
    const std::string_view texts[] = {"text"};
    expect_error<ArgumentError>([&] { train_byte_bpe(texts, options); }, words);
  };
  expect_refused({.vocab_size = 256}, {"vocab_size is 256", "257"});
  expect_refused({.vocab_size = (1 << 21) + 1}, {"vocab_size", "2097152"});
  expect_refused({.min_frequency = 0}, {"min_frequency is 0"});
  expect_refused({.special_tokens = {""}}, {"special token", "empty"});
  expect_refused({.special_tokens = {"a"}}, {"\"a\"", "single byte"});
  expect_refused({.special_tokens = {"<x>", "<x>"}}, {"<x>", "twice"});
  expect_refused({.special_tokens = {"\xFF"}}, {"UTF-8"});
}

TEST(TrainByteBpe, ReportsAndStops) {
  const std::string text = corpus(50000);
  const std::string_view texts[] = {text};
  std::int64_t counted = 0, merged = 0;
  BpeTrainingOptions options{.vocab_size = 500};
  options.on_progress = [&](const BpeTrainingProgress& p) {
    (p.phase == BpeTrainingProgress::Phase::kCounting ? counted : merged) = p.done;
  };
  train_byte_bpe(texts, options);
  EXPECT_EQ(counted, 50000);
  EXPECT_EQ(merged, 500);
  std::stop_source source;
  options.on_progress = [&](const BpeTrainingProgress& p) {
    if (p.phase == BpeTrainingProgress::Phase::kMerging && p.done > 300) source.request_stop();
  };
  options.stop = source.get_token();
  expect_error<CancelledError>([&] { train_byte_bpe(texts, options); }, {"train_byte_bpe"});
}

}  // namespace
}  // namespace gpt
