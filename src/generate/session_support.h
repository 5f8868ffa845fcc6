// What the loops around the network share: sizes, checks, times.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "gpt/core/error.h"
#include "gpt/core/token.h"
#include "gpt/models/gpt2_config.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/tokenizer.h"

namespace gpt::generate {

/// Tokens per forward pass: enough to keep the matrix products busy, and a bound on the memory for
/// intermediate results. Results do not depend on it.
inline constexpr std::int64_t kTokensPerPass = 512;

inline double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Throws ArgumentError when the prompt is empty or holds a token outside the vocabulary; `where` says which one of several it is.
inline void check_prompt(std::span<const TokenId> prompt, const Gpt2Config& config,
                         std::string_view where = "") {
  const std::int64_t vocab_size = config.vocab_size;
  if (prompt.empty())
    fail<ArgumentError>("generate", "the prompt", where, " is empty: there is no token to continue from",
                        config.bos_token_id >= 0 && config.bos_token_id < vocab_size
                            ? concat("; start from bos_token_id = ", *config.bos_token_id)
                            : "");
  for (std::size_t i = 0; i < prompt.size(); ++i) {
    if (prompt[i] < 0 || prompt[i] >= vocab_size)
      fail<ArgumentError>("generate", "token id ", prompt[i], " at index ", i, " of the prompt", where,
                          " is outside the vocabulary [0, ", vocab_size, ")");
  }
}

/// A model may have more embeddings than its tokenizer has tokens; such an id stands for no text.
template <class Function>
auto text_or_nothing(Function&& text_of_token) -> decltype(text_of_token()) {
  try {
    return text_of_token();
  } catch (const ArgumentError&) {
    return {};
  }
}

/// Calls what runs a network and nothing of the caller's, so that a CancelledError is that of the stop token: false then.
template <class Function>
bool unless_stopped(Function&& pass) {
  try {
    pass();
    return true;
  } catch (const CancelledError&) {
    return false;
  }
}

/// What makes the text of new tokens behind a prompt.
inline StreamDecoder decoder_behind(const Tokenizer& tokenizer, std::span<const TokenId> prompt) {
  StreamDecoder decoder(tokenizer, DecodeOptions{.skip_special_tokens = true});
  for (const TokenId id : prompt)
    if (tokenizer.has(id)) decoder.skip(id);
  return decoder;
}

}  // namespace gpt::generate
