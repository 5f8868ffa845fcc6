// A byte-level BPE small enough to reason about: all 256 bytes (ids 0..255 in order) and a few merges.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/text/byte_bpe.h"
#include "text/byte_map.h"

namespace gpt::test {

/// Merges are given as bytes; each new token gets the next id from 256 on.
inline ByteBpeModel small_bpe_model(const std::vector<std::pair<std::string, std::string>>& merges = {}) {
  ByteBpeModel model;
  for (int b = 0; b < 256; ++b) {
    const char c = static_cast<char>(b);
    model.vocab.emplace_back(spell_bytes({&c, 1}), b);
  }
  for (const auto& [left, right] : merges) {
    model.merges.emplace_back(spell_bytes(left), spell_bytes(right));
    model.vocab.emplace_back(spell_bytes(left + right), static_cast<TokenId>(model.vocab.size()));
  }
  return model;
}

/// The text of a tokenizer.json for small_bpe_model({{"a", "b"}}), with one part replaced.
inline std::string small_tokenizer_json(std::string_view part = "", std::string_view replacement = "") {
  std::string vocab;
  for (const auto& [token, id] : small_bpe_model({{"a", "b"}}).vocab) {
    if (!vocab.empty()) vocab += ", ";
    const bool escape = token == "\"" || token == "\\";
    vocab += concat("\"", escape ? "\\" : "", token, "\": ", id);
  }
  std::string text = R"({
    "version": "1.0", "truncation": null, "padding": null,
    "added_tokens": [{"id": 257, "content": "<end>", "special": true, "lstrip": false, "rstrip": false,
                      "single_word": false, "normalized": false}],
    "normalizer": null,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
              "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
              "vocab": {)" +
                     vocab + R"(}, "merges": ["a b"]}})";
  if (part.empty()) return text;
  const std::size_t at = text.find(part);
  if (at == text.npos) throw std::logic_error(concat("no such part: ", part));
  return text.replace(at, part.size(), replacement);
}

}  // namespace gpt::test
