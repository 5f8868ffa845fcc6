// encode_batch and decode_batch.
#include <gtest/gtest.h>

#include "gpt/core/error.h"
#include "gpt/core/parallel.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/wordpiece.h"
#include "support/expect_error.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;

std::vector<std::string> some_texts() {
  std::vector<std::string> texts{"", "ab", "<end>"};
  for (int i = 0; i < 200; ++i) texts.push_back(concat("ab ", i, " \xE4\xBD\xA0 <end>ab"));
  return texts;
}

TEST(EncodeBatch, GivesWhatOneByOneGives) {
  ByteBpeModel bpe = test::small_bpe_model({{"a", "b"}});
  bpe.added_tokens.push_back({.content = "<end>"});
  WordPieceModel words;
  words.vocab = {"[UNK]", "ab", "<", ">", "1", "##1"};
  words.clean_up_tokenization_spaces = true;
  const ByteBpe first(std::move(bpe));
  const WordPiece second(std::move(words));
  const std::vector<std::string> texts = some_texts();
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  for (const Tokenizer* tokenizer :
       {static_cast<const Tokenizer*>(&first), static_cast<const Tokenizer*>(&second)}) {
    for (const int threads : {1, 2, 5}) {
      const ThreadLimit limit(threads);
      const auto rows = tokenizer->encode_batch(texts, {.parse_special_tokens = false});
      EXPECT_EQ(tokenizer->encode_batch(views, {.parse_special_tokens = false}), rows);
      const auto decoded = tokenizer->decode_batch(rows, {.skip_special_tokens = true});
      ASSERT_EQ(rows.size(), texts.size());
      ASSERT_EQ(decoded.size(), texts.size());
      for (std::size_t i = 0; i < texts.size(); ++i) {
        ASSERT_EQ(rows[i], tokenizer->encode(texts[i], {.parse_special_tokens = false}));
        ASSERT_EQ(decoded[i], tokenizer->decode(rows[i], {.skip_special_tokens = true}));
      }
    }
  }
  EXPECT_TRUE(first.encode_batch(std::span<const std::string>()).empty());
}

TEST(EncodeBatch, ThrowsForTheFirstRowThatItCannotTake) {
  const ByteBpe tokenizer(test::small_bpe_model());
  const std::vector<Ids> rows{{1}, {700}, {900}};
  test::expect_error<ArgumentError>([&] { tokenizer.decode_batch(rows); }, {"700"});
}

}  // namespace
}  // namespace gpt
