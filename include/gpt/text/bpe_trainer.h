// Learning a byte-level BPE from text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/text/byte_bpe.h"

namespace gpt {

/// How far training is.
struct BpeTrainingProgress {
  enum class Phase : std::uint8_t { kCounting, kMerging } phase;
  std::int64_t done, total;  // bytes of text counted; tokens of the vocabulary, of those wished for
};

struct BpeTrainingOptions {
  /// Tokens at most, the 256 bytes and the special tokens included. Fewer come where the text has no more pairs.
  std::int64_t vocab_size = 30000;
  /// A pair that occurs less often does not merge.
  std::int64_t min_frequency = 2;
  /// They get the first ids, in this order. "<|endoftext|>" becomes bos, eos and unk token, as in GPT-2.
  std::vector<std::string> special_tokens = {"<|endoftext|>"};
  /// Called by the caller's thread now and then; may throw, which ends the training.
  std::function<void(const BpeTrainingProgress&)> on_progress = {};
  std::stop_token stop = {};
};

/// Trains a byte-level BPE (Sennrich et al. 2016, on the pieces of GPT-2's pattern), as ByteLevelBPETokenizer of
/// huggingface/tokenizers does: the 256 bytes get the ids after the special tokens, in the order of their spellings'
/// code points; then the pair of neighbouring symbols that occurs most often in all pieces becomes a token, of equally
/// frequent ones that with the lower left id, then the lower right id, over and over. A pair counts at every place, also where
/// places overlap. Two pairs that spell the same token share its id. The special tokens are ordinary text in the texts.
///
/// Each text is split for itself, and may be of any bytes. The result depends neither on the order of the texts nor on the number
/// of threads. Time is about that of encoding the texts, divided among threads, and of the changes that merges make in the
/// distinct pieces; memory that of the distinct pieces.
///
/// Throws ArgumentError: vocab_size below 256 and the special tokens or above 2^21, min_frequency below 1, a special token that is
/// empty, twice there, not UTF-8, or spells a single byte; CancelledError; MemoryError.
ByteBpeModel train_byte_bpe(std::span<const std::string_view> texts, const BpeTrainingOptions& options = {});

}  // namespace gpt
