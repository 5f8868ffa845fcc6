// One line of a JSONL file as a sample.
#pragma once

#include <string_view>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/chat_template.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

/// A sample whose labels are its ids where it is learned.
struct MaskedIds {
  std::vector<TokenId> ids;
  std::vector<bool> learned;  // as many
};

/// The sample of a line, of any length, as gpt/train/jsonl_dataset.h documents it. Throws FormatError naming `where`, the file
/// and line.
MaskedIds read_jsonl_line(std::string_view line, std::string_view where, const Tokenizer& tokenizer,
                          bool parse_special_tokens, const ChatTemplate& chat_template);

/// What a preference says: two answers to the same prompt.
struct PreferenceIds {
  MaskedIds chosen, rejected;
};

/// The pair of a line {"prompt", "chosen", "rejected"}: both as completions of the prompt. Throws likewise.
PreferenceIds read_preference_line(std::string_view line, std::string_view where, const Tokenizer& tokenizer,
                                   bool parse_special_tokens);

/// True when a label that is scored is not kIgnoredLabel: that of an id after the first.
bool has_something_to_learn(const MaskedIds& sample);

}  // namespace gpt
