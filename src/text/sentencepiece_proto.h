// The settings of a sentencepiece model that libsentencepiece does not tell.
#pragma once

#include <string_view>

namespace gpt {

/// Fields of ModelProto (sentencepiece_model.proto), with its defaults.
struct SentencePieceSettings {
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool treat_whitespace_as_suffix = false;
  bool has_denormalizer = false;
  bool is_unigram = true;  // not BPE, words or characters
};

/// Reads them from the bytes of a model, and checks what libsentencepiece believes unchecked, so that a damaged file cannot make it
/// read memory that is not its own: the fields' encoding, scores that are numbers, the tables of its normalizer. Throws
/// FormatError naming the source.
SentencePieceSettings read_sentencepiece_settings(std::string_view model, std::string_view source);

}  // namespace gpt
