// A sentencepiece model: any bytes make a tokenizer or a typed error, and libsentencepiece stays inside of its tables. Each input
// is a model; a few texts are encoded with it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/text/sentencepiece.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/utf8.h"

GPT_FUZZER(sentencepiece) {
  constexpr std::string_view kTexts[] = {"", "Hello  world！42 naïve 😀今天天气很好", "a<sep>b ＡＢ！ \xFF"};
  try {
    const auto tokenizer =
        gpt::make_sentencepiece({.model = std::string(reinterpret_cast<const char*>(data), size)});
    for (const std::string_view text : kTexts) {
      const std::vector<gpt::TokenId> ids = tokenizer->encode(text);
      gpt::StreamDecoder decoder(*tokenizer);
      std::string joined;
      for (const gpt::TokenId id : ids) joined += decoder.push(id);
      if (joined + decoder.flush() != gpt::replace_invalid_utf8(tokenizer->decode(ids))) std::abort();
    }
  } catch (const gpt::Error&) {
  }
  return 0;
}
