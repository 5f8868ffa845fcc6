// Any bytes come back from decode(encode(...)), whole or as a stream, as pieces and with special tokens as text; cut in
// two where last_cut says, they have the same tokens.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "fuzzer.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/utf8.h"
#include "text/byte_map.h"

namespace {

gpt::ByteBpe overlapping_merges() {
  gpt::ByteBpeModel model;
  const auto add = [&](std::string token) {
    model.vocab.emplace_back(std::move(token), static_cast<gpt::TokenId>(model.vocab.size()));
  };
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    add(gpt::spell_bytes({&c, 1}));
  }
  // Overlapping pairs, a space, the apostrophe, the bytes of characters, and two halves of different ones.
  constexpr std::pair<std::string_view, std::string_view> kMerges[] = {
      {"a", "b"},       {"b", "a"},      {"ab", "ab"},     {"a", "a"},       {"aa", "a"},
      {"abab", "a"},    {" ", "a"},      {" ", " "},       {"  ", "  "},     {"'", "s"},
      {"\n", "\n"},     {"1", "2"},      {"\xE4", "\xB8"}, {"\xB8", "\x96"}, {"\xE4\xB8", "\x96"},
      {"\xF0", "\x9F"}, {"\x80", "\xF0"}};
  for (const auto& [left, right] : kMerges) {
    model.merges.emplace_back(gpt::spell_bytes(left), gpt::spell_bytes(right));
    add(gpt::spell_bytes(std::string(left).append(right)));
  }
  model.added_tokens = {
      {.content = "<s>"}, {.content = "<s>b"}, {.content = "ba", .special = false, .normalized = true}};
  return gpt::ByteBpe(std::move(model));
}

}  // namespace

GPT_FUZZER(bpe_encode) {
  static const gpt::ByteBpe tokenizer = overlapping_merges();
  const std::string text(data, data + size);

  const auto ids = tokenizer.encode(text);
  gpt::fuzz::require(tokenizer.decode(ids) == text);
  gpt::fuzz::require(tokenizer.decode(tokenizer.encode(text, {.parse_special_tokens = false})) == text);
  gpt::fuzz::require(tokenizer.decode(tokenizer.encode_piece(text)) == text);

  for (const std::string_view seen : {std::string_view(text), std::string_view(text).substr(0, size / 2)}) {
    const std::size_t cut = tokenizer.last_cut(seen);
    auto parts = tokenizer.encode(std::string_view(text).substr(0, cut));
    const auto rest = tokenizer.encode(std::string_view(text).substr(cut));
    parts.insert(parts.end(), rest.begin(), rest.end());
    gpt::fuzz::require(parts == ids);
  }

  gpt::StreamDecoder decoder(tokenizer);
  std::string streamed;
  for (const gpt::TokenId id : ids) {
    const std::string chunk = decoder.push(id);
    gpt::fuzz::require(gpt::is_valid_utf8(chunk));
    streamed += chunk;
  }
  streamed += decoder.flush();
  gpt::fuzz::require(streamed == gpt::replace_invalid_utf8(text));
  return 0;
}
