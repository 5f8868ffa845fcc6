// The vectors of goldens/README.md, section 1.
#include <gtest/gtest.h>

#include "gpt/core/mapped_file.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/utf8.h"
#include "support/json.h"
#include "text/golden_files.h"

namespace gpt {
namespace {

using Ids = std::vector<TokenId>;

// Runs `check(tokenizer, row)` on every row of a file in every folder.
template <class Check>
void for_each_row(const char* file, Check check) {
  for (const auto& golden : test::tokenizer_goldens()) {
    const auto tokenizer = load_tokenizer(golden.tokenizer);
    for (const auto& row : test::read_rows(golden.path / file)) {
      check(dynamic_cast<const ByteBpe&>(*tokenizer), row);
      if (testing::Test::HasFailure()) FAIL() << golden.path << ", " << file << ": " << test::dump_json(row);
    }
  }
}

TEST(TokenizerGoldens, EncodeAndDecodeText) {
  for_each_row("encode.jsonl", [](const ByteBpe& tokenizer, const test::Json& row) {
    const std::string text = row.at("text");
    const Ids ids = tokenizer.encode(text, {.parse_special_tokens = false});
    EXPECT_EQ(ids, row.at("ids").get<Ids>());
    EXPECT_EQ(tokenizer.decode(ids), text);
  });
}

TEST(TokenizerGoldens, EncodeSpecialTokens) {
  for_each_row("encode_special.jsonl", [](const ByteBpe& tokenizer, const test::Json& row) {
    const std::string text = row.at("text");
    EXPECT_EQ(tokenizer.encode(text), row.at("ids_special").get<Ids>());
    EXPECT_EQ(tokenizer.encode(text, {.parse_special_tokens = false}), row.at("ids_ordinary").get<Ids>());
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  });
}

TEST(TokenizerGoldens, DecodeToBytes) {
  for_each_row("decode.jsonl", [](const ByteBpe& tokenizer, const test::Json& row) {
    EXPECT_EQ(tokenizer.decode(row.at("ids").get<Ids>()), test::from_hex(row.at("hex")));
  });
}

TEST(TokenizerGoldens, StreamDecode) {
  for_each_row("stream_decode.jsonl", [](const ByteBpe& tokenizer, const test::Json& row) {
    const Ids ids = row.at("ids");
    const auto chunks = row.at("chunks").get<std::vector<std::string>>();
    StreamDecoder decoder(tokenizer);
    ASSERT_EQ(ids.size(), chunks.size());
    for (std::size_t i = 0; i < ids.size(); ++i) EXPECT_EQ(decoder.push(ids[i]), chunks[i]) << "token " << i;
    EXPECT_EQ(decoder.flush(), row.at("final"));
  });
}

TEST(TokenizerGoldens, InvalidUtf8UnderBothPolicies) {
  for_each_row("invalid_utf8.jsonl", [](const ByteBpe& tokenizer, const test::Json& row) {
    const std::string bytes = test::from_hex(row.at("hex"));
    const Ids ids = tokenizer.encode(bytes);
    EXPECT_EQ(ids, row.at("ids_lossless").get<Ids>());
    EXPECT_EQ(tokenizer.decode(ids), bytes);
    EXPECT_EQ(tokenizer.encode(replace_invalid_utf8(bytes)), row.at("ids_replaced").get<Ids>());
  });
}

TEST(TokenizerGoldens, SinglePieces) {
  for_each_row("pieces.jsonl", [](const ByteBpe& tokenizer, const test::Json& row) {
    EXPECT_EQ(tokenizer.encode_piece(test::from_hex(row.at("hex"))), row.at("ids").get<Ids>());
  });
}

TEST(TokenizerGoldens, SharedVectors) {
  if (test::tokenizer_goldens().size() < 2)
    GTEST_SKIP() << "GPT_GOLDENS names no folder with tokenizer vectors";
}

}  // namespace
}  // namespace gpt
