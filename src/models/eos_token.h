// Tokens that should end a text and cannot.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "gpt/core/error.h"
#include "gpt/core/token.h"
#include "gpt/io/hf_config.h"

namespace gpt {

/// Warns of the first of a file's eos_token_id that no network of `vocab_size` tokens generates. Not an error: transformers
/// ignores it, and writes its default, 50256, into the config.json of networks that have fewer tokens. bos_token_id and
/// pad_token_id are not used, and a pad token beyond the vocabulary is usual.
inline void warn_of_unreachable_eos(const HfConfig& file, std::span<const TokenId> ids,
                                    std::int64_t vocab_size,
                                    const std::function<void(std::string_view)>& on_warning) {
  const auto outside =
      std::find_if(ids.begin(), ids.end(), [&](TokenId id) { return id < 0 || id >= vocab_size; });
  if (on_warning && outside != ids.end())
    on_warning(concat("[", file.source(), "] eos_token_id ", *outside, " is outside the vocabulary [0, ",
                      vocab_size, ") and never ends a text"));
}

}  // namespace gpt
