// What the fuzzers of grammars do with one that is well-formed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gpt/core/error.h"
#include "gpt/generate/grammar.h"
#include "gpt/text/byte_bpe.h"
#include "text/byte_map.h"

namespace gpt::fuzz {

inline const ByteBpe& vocabulary() {
  static const ByteBpe tokenizer = [] {
    ByteBpeModel model;
    TokenId id = 0;
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      model.vocab.emplace_back(spell_bytes({&c, 1}), id++);
    }
    for (const char* text : {"ab", "aa", "((", "))", "\"}", "{\"", "\":", "12", "true", "\", \""})
      model.vocab.emplace_back(spell_bytes(text), id++);
    model.added_tokens = {{.content = "<end>"}};
    model.eos_token = "<end>";
    return ByteBpe(std::move(model));
  }();
  return tokenizer;
}

/// Takes the tokens that are admitted, by the bytes of the input, and holds the text against the grammar: one that has so many
/// tokens as it may need is complete.
inline void check_masks(const Grammar& grammar, const std::string& choices) {
  const ByteBpe& tokenizer = vocabulary();
  std::shared_ptr<const CompiledGrammar> compiled;
  try {
    compiled = std::make_shared<const CompiledGrammar>(grammar, tokenizer);
  } catch (const ArgumentError&) {
    return;  // no text of it can be written
  }
  const TokenId end = *tokenizer.eos_token_id();
  const GrammarConstrained processor(compiled, tokenizer, {end});
  const auto room = static_cast<std::size_t>(compiled->least_tokens()) + 4;
  if (room > 200) return;
  std::vector<TokenId> history{end};
  std::string text;
  ProcessorScratch scratch;
  for (std::size_t i = 0; i < room; ++i) {
    std::vector<double> scores(static_cast<std::size_t>(tokenizer.vocab_size()), 0.0);
    try {
      processor.process(scores, {.history = history, .prompt_length = 1, .max_length = room + 1}, scratch);
    } catch (const ArgumentError& error) {  // a mask leaves at least one token, which leads to another
      if (std::string(error.what()).find("too ambiguous") == std::string::npos) __builtin_trap();
      return;
    }
    std::vector<TokenId> admitted;
    for (std::size_t id = 0; id < scores.size(); ++id)
      if (scores[id] == 0.0) admitted.push_back(static_cast<TokenId>(id));
    const std::size_t choice = choices.empty() ? i : static_cast<unsigned char>(choices[i % choices.size()]);
    const TokenId id = admitted[choice % admitted.size()];
    if (id == end) break;
    history.push_back(id);
    text += tokenizer.bytes_of(id);
  }
  if (!grammar.accepts(text)) __builtin_trap();
}

/// The same of a grammar that `make` makes of a text. Whatever else is wrong with it is one of three errors.
template <class Make>
int check_grammar(const std::uint8_t* data, std::size_t size, Make&& make) {
  const std::string text(data, data + size);
  try {
    check_masks(make(text), text);
  } catch (const FormatError&) {
  } catch (const UnsupportedError&) {
  } catch (const ArgumentError&) {
  }
  return 0;
}

}  // namespace gpt::fuzz
