// Encoding in parts gives the tokens of the whole.
#include "train/encode_text.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;
using test::expect_error;

const std::filesystem::path kSource = GPT_SOURCE_DIR;

Ids encode_in_parts(std::string_view text, const Tokenizer& tokenizer, const EncodeTextOptions& options) {
  Ids ids;
  encode_text(text, tokenizer, options, "text",
              [&](std::span<const TokenId> some) { ids.insert(ids.end(), some.begin(), some.end()); });
  return ids;
}

ByteBpe tokenizer_with_special_tokens() {
  ByteBpeModel model = test::small_bpe_model({{" ", " "},
                                              {"  ", "  "},
                                              {"\n", "\n"},
                                              {"'", "l"},
                                              {"'l", "l"},
                                              {"l", "l"},
                                              {"\xE4", "\xB8"},
                                              {"\xE4\xB8", "\x96"},
                                              {"a", "b"},
                                              {" ", "a"}});
  model.added_tokens = {{.content = "<|endoftext|>", .lstrip = true},
                        {.content = "<tool>", .special = false}};
  return ByteBpe(std::move(model));
}

TEST(EncodeText, GivesTheTokensOfTheWholeForPartsOfEverySize) {
  const ByteBpe tokenizer = tokenizer_with_special_tokens();
  const std::string text =
      "we'll  ab\n\n\n   ab'll don''t 12ab3 \t \n <|endoftext|>ab<tool>   <|endoftext|>  \n世世。世 \xE4\xB8 "
      "ab\xF0\x9F"
      "世\xFF'\xFFl  <|endof  <|endoftext|<|endoftext|>      ab\r\nab\u00A0 \u3000ab ";
  for (const bool special : {false, true}) {
    const Ids whole = tokenizer.encode(text, {.parse_special_tokens = special, .add_special_tokens = false});
    for (std::size_t part = 1; part <= text.size() + 1; ++part)
      ASSERT_EQ(encode_in_parts(text, tokenizer, {.parse_special_tokens = special, .part_bytes = part}),
                whole)
          << "parts of " << part << " bytes";
  }
}

TEST(EncodeText, DoesNotDependOnTheNumberOfThreads) {
  const auto tokenizer = load_tokenizer(kSource / "examples/models/demo");
  const std::string text = test::read_file(kSource / "tests/golden/training/corpus.txt");
  const Ids whole = tokenizer->encode(text);
  for (const int threads : {1, 2, 5}) {
    const ThreadLimit limit(threads);
    for (const std::size_t part : {100u, 5000u, 1u << 20})
      EXPECT_EQ(encode_in_parts(text, *tokenizer, {.part_bytes = part}), whole) << threads << ", " << part;
  }
}

/// Counts the bytes that last_cut has looked at and the longest text that was encoded.
class CountingTokenizer final : public Tokenizer {
 public:
  explicit CountingTokenizer(const ByteBpe& real) : real_(real) {}
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options) const override {
    for (std::size_t longest = longest_;
         longest < text.size() && !longest_.compare_exchange_weak(longest, text.size());)
      ;
    return real_.encode(text, options);
  }
  std::size_t last_cut(std::string_view text) const override {
    seen_ += text.size();
    return real_.last_cut(text);
  }
  std::string_view bytes_of(TokenId id) const override { return real_.bytes_of(id); }
  std::string_view token_of(TokenId id) const override { return real_.token_of(id); }
  std::optional<TokenId> id_of(std::string_view token) const override { return real_.id_of(token); }
  std::int64_t vocab_size() const override { return real_.vocab_size(); }
  bool is_special(TokenId id) const override { return real_.is_special(id); }
  std::optional<TokenId> bos_token_id() const override { return {}; }
  std::optional<TokenId> eos_token_id() const override { return {}; }
  std::optional<TokenId> pad_token_id() const override { return {}; }
  std::optional<TokenId> unk_token_id() const override { return {}; }
  std::uint64_t fingerprint() const override { return real_.fingerprint(); }
  std::vector<TokenizerFile> files() const override { return {}; }

  std::size_t longest() const { return longest_; }
  std::size_t seen() const { return seen_; }

 private:
  const ByteBpe& real_;
  mutable std::atomic<std::size_t> longest_{0}, seen_{0};
};

TEST(EncodeText, EncodesNoMoreThanAPartAtOnceWhereThereAreCuts) {
  const ByteBpe real(test::small_bpe_model());
  const CountingTokenizer tokenizer(real);
  std::string text;
  for (int i = 0; i < 1000; ++i) text += "some words ";
  encode_in_parts(text, tokenizer, {.part_bytes = 64});
  EXPECT_LE(tokenizer.longest(), 64u);
  EXPECT_GT(tokenizer.longest(), 48u);
}

TEST(EncodeText, LooksForACutInTimeLinearInTheText) {
  const ByteBpe real(test::small_bpe_model());
  const CountingTokenizer tokenizer(real);
  const std::string text(100'000, 'a');
  EXPECT_EQ(encode_in_parts(text, tokenizer, {.part_bytes = 10}), Ids(text.size(), 'a'));
  EXPECT_EQ(tokenizer.longest(), text.size());
  EXPECT_LE(tokenizer.seen(), 2 * text.size());
}

TEST(EncodeText, LeavesOutTheTokensOfTheTemplate) {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens = {{.content = "<s>"}};
  model.prefix_tokens = {"<s>"};
  const ByteBpe tokenizer(std::move(model));
  EXPECT_EQ(encode_in_parts("a b c", tokenizer, {.part_bytes = 1}), (Ids{'a', ' ', 'b', ' ', 'c'}));
}

TEST(EncodeText, ThrowsTheErrorOfTheFirstPartThatHasOne) {
  ByteBpeModel model = test::small_bpe_model();
  model.vocab.erase(model.vocab.begin() + 'q', model.vocab.begin() + 's');
  const ByteBpe tokenizer(std::move(model));
  for (const int threads : {1, 4}) {
    const ThreadLimit limit(threads);
    expect_error<ArgumentError>([&] { encode_in_parts("a b c q d r", tokenizer, {.part_bytes = 2}); },
                                {"byte 113"});
    expect_error<ArgumentError>([&] { encode_in_parts("a b c r d q", tokenizer, {.part_bytes = 2}); },
                                {"byte 114"});
  }
}

TEST(EncodeText, TellsHowFarItIsAndStops) {
  const ByteBpe tokenizer(test::small_bpe_model());
  const ThreadLimit limit(1);
  std::string text;
  for (int i = 0; i < 100; ++i) text += "word ";
  std::stop_source source;
  std::vector<std::int64_t> done;
  EncodeTextOptions options{.part_bytes = 5};
  options.on_progress = [&](const DatasetProgress& progress) {
    EXPECT_EQ(progress.total_bytes, 500);
    done.push_back(progress.done_bytes);
  };
  encode_in_parts(text, tokenizer, options);
  ASSERT_GT(done.size(), 2u);
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_EQ(done.back(), 500);

  done.clear();
  options.stop = source.get_token();
  options.on_progress = [&](const DatasetProgress& progress) {
    done.push_back(progress.done_bytes);
    source.request_stop();
  };
  expect_error<CancelledError>([&] { encode_in_parts(text, tokenizer, options); }, {"text]", "stopped"});
  EXPECT_EQ(done.size(), 1u);
}

}  // namespace
}  // namespace gpt
