// Decoding as a stream of tokens does.
#pragma once

#include <span>
#include <string>

#include "gpt/text/stream_decoder.h"
#include "gpt/text/tokenizer.h"

namespace gpt::test {

/// Decodes one token at a time.
inline std::string streamed(const Tokenizer& tokenizer, std::span<const TokenId> ids) {
  StreamDecoder decoder(tokenizer);
  std::string text;
  for (const TokenId id : ids) text += decoder.push(id);
  return text + decoder.flush();
}

}  // namespace gpt::test
