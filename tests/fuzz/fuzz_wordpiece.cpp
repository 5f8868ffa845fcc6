// A vocab.txt and a text, with a line "===" between them: any bytes make a tokenizer or a typed error, and what it encodes is
// decoded the same at once and token by token, and encoded the same in parts.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/utf8.h"
#include "gpt/text/wordpiece.h"

namespace {

void check_wordpiece(const gpt::WordPiece& tokenizer, std::string_view text) {
  const std::vector<gpt::TokenId> ids = tokenizer.encode(text);
  gpt::StreamDecoder decoder(tokenizer);
  std::string joined;
  for (const gpt::TokenId id : ids) joined += decoder.push(id);
  joined += decoder.flush();
  gpt::fuzz::require(joined == gpt::replace_invalid_utf8(tokenizer.decode(ids)));
  const std::size_t cut = tokenizer.last_cut(text);
  std::vector<gpt::TokenId> parts = tokenizer.encode(text.substr(0, cut));
  const std::vector<gpt::TokenId> rest = tokenizer.encode(text.substr(cut));
  parts.insert(parts.end(), rest.begin(), rest.end());
  gpt::fuzz::require(parts == ids);
}

}  // namespace

GPT_FUZZER(wordpiece) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  constexpr std::string_view kBetween = "\n===\n";
  const std::size_t middle = input.find(kBetween);
  const std::string_view vocab = input.substr(0, middle);
  const std::string_view text = middle == input.npos ? vocab : input.substr(middle + kBetween.size());
  for (const bool lower : {true, false}) {
    try {
      gpt::WordPieceModel model = gpt::parse_wordpiece_vocab(vocab);
      model.unk_token = model.vocab.front();
      model.do_lower_case = lower;
      model.clean_up_tokenization_spaces = !lower;
      model.added_tokens = {{.content = model.vocab.back()}};
      check_wordpiece(gpt::WordPiece(std::move(model)), text);
    } catch (const gpt::Error&) {
    }
  }
  return 0;
}
