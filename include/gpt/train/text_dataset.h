// Samples cut from one long text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt/core/token.h"
#include "gpt/text/tokenizer.h"
#include "gpt/train/dataset.h"

namespace gpt {

class TokenStore;

/// How a row of tokens is cut into samples.
struct BlockOptions {
  /// Tokens fed to the network for one sample, at least 1. A sample has block_size + 1 ids, and the next one begins
  /// block_size later: every token but the first is predicted exactly once.
  std::int64_t block_size = 1024;
  /// Leaves out the last sample when it is shorter (as run_clm.py of transformers does); else it is kept.
  bool drop_last = false;
};

struct TextDatasetOptions {
  std::int64_t block_size = 1024;  // as in BlockOptions
  bool drop_last = false;          // as in BlockOptions
  /// Every occurrence of a special token, such as <|endoftext|>, becomes its id; false takes it for ordinary text.
  bool parse_special_tokens = false;
  /// Where from_file keeps the tokens, so that a text is encoded once and need not fit into memory; made when it does not
  /// exist. Empty: they are kept in memory, 4 bytes a token.
  std::filesystem::path cache_dir = {};
  DatasetProgressCallback on_progress = {};
  std::stop_token stop = {};  // checked about every 4 MiB of text, and 256 KiB that are only read
};

/// Blocks of one stream of tokens. All labels are the ids themselves. A text is encoded as one stream, without the tokens
/// that the tokenizer's template puts around a text; in parts (see Tokenizer::last_cut) and on num_threads() threads, which
/// give the tokens of the whole.
/// Copying shares the tokens.
class TextDataset final : public Dataset {
 public:
  /// Throws ArgumentError: block_size below 1, a negative id, too few tokens for one sample.
  static TextDataset from_tokens(std::vector<TokenId> tokens, const BlockOptions& options = {});

  /// Throws ArgumentError as from_tokens, for a cache_dir, and when the vocabulary cannot express the text; CancelledError.
  static TextDataset from_text(std::string_view text, const Tokenizer& tokenizer,
                               const TextDatasetOptions& options = {});

  /// The text of a file, which is mapped into memory and must not be cut short by others meanwhile.
  ///
  /// With a cache_dir the tokens are read from <cache_dir>/<name of the file>-<16 hexadecimal digits>.tokens, where the
  /// digits stand for the file's path, the tokenizer and parse_special_tokens. That file is made again when it is missing
  /// or damaged, or when the text is not the one it was made from: the content of the text decides, not its date. Processes
  /// in which that path has different contents (in containers, say) take the file from each other, and are none the worse for
  /// it. It is replaced atomically; what goes wrong (a full disk, a stop) leaves what was there, and no directory that was not.
  ///
  /// Throws IoError naming the file (missing, a directory, not readable, changed meanwhile) or the cache that cannot be
  /// written; FormatError naming the file (empty, not expressible in the vocabulary, too short for one sample);
  /// ArgumentError for a block_size below 1; CancelledError.
  static TextDataset from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                               const TextDatasetOptions& options = {});

  /// Training and validation data: the last floor(validation_fraction * token_count()) tokens, and those before. Throws
  /// ArgumentError when the fraction is not between 0 and 1, or one side is too short for a sample.
  std::pair<TextDataset, TextDataset> split(double validation_fraction) const;

  /// Tokens in all, those of a sample that was dropped included.
  std::int64_t token_count() const noexcept { return end_ - begin_; }

  std::int64_t size() const noexcept override;
  Sample at(std::int64_t index) const override;
  std::int64_t length(std::int64_t index) const override;
  std::uint64_t fingerprint() const noexcept override;

 private:
  TextDataset(std::shared_ptr<const TokenStore> tokens, std::int64_t begin, std::int64_t end,
              const BlockOptions& options) noexcept
      : tokens_(std::move(tokens)), begin_(begin), end_(end), options_(options) {}

  std::shared_ptr<const TokenStore> tokens_;
  std::int64_t begin_, end_;  // of its tokens
  BlockOptions options_;
};

}  // namespace gpt
