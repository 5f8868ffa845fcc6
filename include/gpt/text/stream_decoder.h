// Text from tokens as they come, a character at a time.
#pragma once

#include <memory>
#include <string>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"

namespace gpt {

/// Turns a stream of tokens into valid UTF-8 and never emits half a character: a so far valid but incomplete
/// sequence is held back until the tokens that complete it come. Each maximal subpart of an ill-formed
/// sequence becomes one U+FFFD. All returned texts joined equal replace_invalid_utf8(tokenizer.decode(ids)).
/// The tokenizer must outlive the decoder.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, const DecodeOptions& options = {})
      : tokenizer_(&tokenizer), detokenizer_(tokenizer.start_decoding()), options_(options) {}

  /// The text that became certain with this token. Throws ArgumentError naming an id that the vocabulary does
  /// not have; the decoder is then as before.
  std::string push(TokenId id);

  /// Takes a token whose text is known already, as those of a prompt: what comes later is text behind it. Does nothing where
  /// text is no more than the tokens' bytes joined. Throws as push.
  void skip(TokenId id);

  /// What was held back: "" or one U+FFFD, and before it what a Detokenizer held back. The decoder is ready for another stream.
  std::string flush();

 private:
  std::string take();  // of pending_, all but an incomplete character at the end

  const Tokenizer* tokenizer_;
  std::unique_ptr<Detokenizer> detokenizer_;  // null: the bytes of the tokens joined
  DecodeOptions options_;
  std::string pending_;  // at most 3 bytes between calls
};

}  // namespace gpt
