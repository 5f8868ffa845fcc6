// Any text either is a tokenizer, which then encodes, decodes and describes itself without harm, or gives a FormatError or
// an UnsupportedError. A text with a NUL byte is vocab.json and merges.txt, one before and one after it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"

namespace {

gpt::ByteBpeModel parse_model(std::string_view text) {
  const std::size_t nul = text.find('\0');
  if (nul == text.npos) return gpt::parse_tokenizer_json(text, "fuzz");
  return gpt::parse_vocab_and_merges(text.substr(0, nul), text.substr(nul + 1));
}

void use(const gpt::ByteBpe& tokenizer) {
  const gpt::ByteBpeModel model = tokenizer.model();
  for (const auto& [token, id] : model.vocab)
    if (tokenizer.token_of(id) != token || tokenizer.id_of(token) != id) __builtin_trap();
  try {
    static_cast<void>(tokenizer.decode(tokenizer.encode("It's 42 <|endoftext|> ab\n na\xC3\xAFve \xFF")));
  } catch (const gpt::ArgumentError&) {  // a byte that the vocabulary lacks
  }
}

}  // namespace

GPT_FUZZER(tokenizer_json) {
  const std::string text(data, data + size);
  try {
    use(gpt::ByteBpe(parse_model(text)));
  } catch (const gpt::FormatError&) {
  } catch (const gpt::UnsupportedError&) {
  }
  return 0;
}
