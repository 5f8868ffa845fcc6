// Text as BERT's tokenizer prepares it: normalized, and cut into words.
#pragma once

#include <string>
#include <string_view>

namespace gpt {

struct BertNormalization {
  bool lowercase = true;
  bool strip_accents = true;
  bool separate_ideographs = true;
};

/// The text as gpt/text/wordpiece.h says, all white space as U+0020. (BertNormalizer of huggingface/tokenizers.)
std::string normalize_for_bert(std::string_view text, const BertNormalization& how);

/// Removes from the start of a normalized text its white space and the first word after it, which it returns; "" at the end.
std::string_view take_bert_word(std::string_view& text);

}  // namespace gpt
