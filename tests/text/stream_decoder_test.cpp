#include "gpt/text/stream_decoder.h"

#include <gtest/gtest.h>

#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/utf8.h"
#include "support/expect_error.h"
#include "text/small_bpe.h"

namespace gpt {
namespace {

ByteBpe bytewise() {
  ByteBpeModel model = test::small_bpe_model();
  model.added_tokens.push_back({.content = "<end>"});  // 256
  return ByteBpe(std::move(model));
}

TEST(StreamDecoder, HoldsBackAnUnfinishedCharacter) {
  const ByteBpe tokenizer = bytewise();
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "😀");
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, ReplacesWhatTurnsOutIllFormed) {
  const ByteBpe tokenizer = bytewise();
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(0xE2), "");
  EXPECT_EQ(decoder.push(0x82), "");
  EXPECT_EQ(decoder.push(0xE2), "\uFFFD");  // one for the two bytes; the new lead is held
  EXPECT_EQ(decoder.push('!'), "\uFFFD!");
  EXPECT_EQ(decoder.push(0xC3), "");
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.push(0xA9), "\uFFFD");  // nothing of the old stream is left to complete
}

TEST(StreamDecoder, SkipsSpecialTokensOnRequest) {
  const ByteBpe tokenizer = bytewise();
  StreamDecoder all(tokenizer), skipping(tokenizer, {.skip_special_tokens = true});
  EXPECT_EQ(all.push(256), "<end>");
  EXPECT_EQ(skipping.push(256), "");
  EXPECT_EQ(skipping.push(0xC3), "");
  EXPECT_EQ(skipping.push(256), "");
  EXPECT_EQ(skipping.push(0xA9), "é");
}

TEST(StreamDecoder, RefusesAnUnknownIdAndStaysAsItWas) {
  const ByteBpe tokenizer = bytewise();
  StreamDecoder decoder(tokenizer);
  EXPECT_EQ(decoder.push(0xC3), "");
  test::expect_error<ArgumentError>([&] { decoder.push(257); }, {"257", "out of range"});
  EXPECT_EQ(decoder.push(0xA9), "é");
}

TEST(StreamDecoder, JoinsToTheWholeDecoding) {
  const ByteBpe tokenizer = bytewise();
  std::string bytes;
  std::uint32_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    state = state * 1664525u + 1013904223u;
    constexpr std::string_view kInteresting = "a\x80\x8F\x90\x9F\xA0\xBF\xC0\xC3\xE0\xE2\xED\xEF\xF0\xF4\xF5";
    bytes += kInteresting[(state >> 16) % kInteresting.size()];
  }
  StreamDecoder decoder(tokenizer);
  std::string joined;
  for (const char c : bytes) {
    const std::string text = decoder.push(static_cast<unsigned char>(c));
    ASSERT_TRUE(is_valid_utf8(text));
    joined += text;
  }
  EXPECT_EQ(joined + decoder.flush(), replace_invalid_utf8(bytes));
}

}  // namespace
}  // namespace gpt
