#include "gpt/text/stream_decoder.h"

#include "core/memory.h"
#include "gpt/text/utf8.h"

namespace gpt {
namespace {

// Bytes at the end of `text` that a following byte could still complete to a character.
std::size_t incomplete_tail(std::string_view text) {
  for (std::size_t length = 1; length <= 3 && length <= text.size(); ++length) {
    const std::string_view tail = text.substr(text.size() - length);
    if ((static_cast<unsigned char>(tail[0]) & 0xC0) == 0x80)
      continue;  // inside a sequence: look further left
    return read_utf8(tail).kind == Utf8Prefix::Kind::kIncomplete ? length : 0;
  }
  return 0;
}

}  // namespace

std::string StreamDecoder::push(TokenId id) try {
  const std::string_view bytes = tokenizer_->bytes_of(id);  // first of all the check of the id
  if (options_.skip_special_tokens && tokenizer_->is_special(id)) return {};
  if (detokenizer_ != nullptr)
    detokenizer_->push(id, pending_);
  else
    pending_ += bytes;
  return take();
} catch (...) {
  rethrow_with_memory_errors("decode");
}

void StreamDecoder::skip(TokenId id) {
  if (detokenizer_ != nullptr) push(id);
}

std::string StreamDecoder::take() {
  const std::size_t complete = pending_.size() - incomplete_tail(pending_);
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return text;
}

std::string StreamDecoder::flush() try {
  if (detokenizer_ != nullptr) detokenizer_->flush(pending_);
  std::string text = replace_invalid_utf8(pending_);
  pending_.clear();
  return text;
} catch (...) {
  rethrow_with_memory_errors("decode");
}

}  // namespace gpt
