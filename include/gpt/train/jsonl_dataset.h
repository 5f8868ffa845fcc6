// Samples for supervised fine-tuning, one JSON object a line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <stop_token>
#include <string>
#include <utility>

#include "gpt/text/chat_template.h"
#include "gpt/text/tokenizer.h"
#include "gpt/train/dataset.h"

namespace gpt {

/// What becomes of a sample of more than max_length ids.
enum class Overlong : std::uint8_t {
  kTruncate,  // its first max_length ids stay; when none of them is learned, it is left out as with kDrop
  kDrop,
  kError,
};

struct JsonlDatasetOptions {
  /// The most ids of a sample, at least 2 (TRL's SFTConfig.max_length). A network of n_positions takes n_positions + 1.
  std::int64_t max_length = 1024;
  Overlong overlong = Overlong::kTruncate;
  /// Every occurrence of a special token becomes its id, as in transformers and in a prompt for generation; false takes it
  /// for ordinary text, which is safer where others wrote the text.
  bool parse_special_tokens = true;
  /// The form in which "messages" become text.
  ChatTemplate chat_template = {};
  /// Leaves out and counts the lines that are not as documented; else the first of them is an error.
  bool skip_bad_lines = false;
  /// Where the samples are kept, as TextDatasetOptions::cache_dir keeps tokens: so that the lines are encoded once and need not
  /// fit into memory. Empty: they are kept in memory, a little more than 2 bytes a token, or 4 with a vocabulary of more than 65536.
  std::filesystem::path cache_dir = {};
  DatasetProgressCallback on_progress = {};
  std::stop_token stop = {};  // checked after every few hundred lines, and 256 KiB that are only read
};

/// What became of the lines of a file.
struct JsonlCounts {
  std::int64_t lines = 0;      // that are not blank
  std::int64_t bad = 0;        // left out by skip_bad_lines
  std::int64_t dropped = 0;    // left out because they were too long
  std::int64_t truncated = 0;  // used, but for their end
  std::string first_bad =
      {};  // what is wrong with the first bad line, with its number; empty when there is none
};

/// The samples of a file of lines in UTF-8, each blank or one of these JSON objects (TRL's formats of data sets; other
/// members are ignored):
///   {"prompt": "…", "completion": "…"}   the completion is learned
///   {"messages": [{"role": "system" | "user" | "assistant", "content": "…"}, …]}   what the assistant says is learned
///   {"text": "…"}   all is learned
/// What is learned has its ids as labels, the rest kIgnoredLabel. The eos token, when the tokenizer has one, is put after a
/// completion, a text and, where the chat template says so, a message, unless it is there, and learned with it.
///
/// A prompt is encoded like one for generation, and the completion for itself: its first token never reaches back into
/// the prompt. Messages become the text of JsonlDatasetOptions::chat_template, of which each part (ChatPart) is encoded for
/// itself. With the default template, zephyr, each is this, without the blanks, where <eos> is the eos token, if there is one:
///   <|role|>\n content <eos> \n
/// so that the prompt "<|user|>\nHello<eos>\n<|assistant|>\n" (ChatTemplate::prompt) asks a tuned network for an answer. A sample
/// ends with its last answer. Without an eos token the text after an answer is learned, as its end. A prompt, a text and the
/// first message begin with the tokens that the tokenizer's template puts there, unless they do so themselves; those that it puts
/// behind a text stand, learned, at the end of the sample, where no eos token does.
///
/// The samples are the same, in the same order, wherever they are kept. Copying shares them.
class JsonlDataset final : public Dataset {
 public:
  /// Reads the file line by line, mapped into memory; it must not be cut short by others meanwhile.
  ///
  /// With a cache_dir the samples are read from <cache_dir>/<name of the file>-<16 hexadecimal digits>.samples, mapped, where the
  /// digits stand for the file's path, the tokenizer and the options. That file is made again when it is missing or damaged, or
  /// when the lines are not those it was made from: their content decides, not the date. Processes in which that path has
  /// different contents (in containers, say) take the file from each other, and are none the worse for it. While it is made,
  /// memory is needed for some lines of each thread and 8 bytes a sample. It is replaced atomically; what goes wrong (a full
  /// disk, a stop, a bad line) leaves what was there, and no directory that was not.
  ///
  /// Throws IoError naming the file, or the cache that cannot be written; FormatError naming file and line: not valid JSON, a member that is missing or of
  /// another type or role, an empty text, completion or answer, nothing to learn, fewer than 2 ids, text that the
  /// vocabulary cannot express, a sample that is too long with Overlong::kError; FormatError naming the file when
  /// it has no usable line; ArgumentError for a max_length below 2; CancelledError.
  static JsonlDataset from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                const JsonlDatasetOptions& options = {});

  /// Training and validation data: the last floor(validation_fraction * size()) samples, and those before. counts() stay
  /// those of the file. Throws ArgumentError when the fraction is not between 0 and 1, or one side has no sample.
  std::pair<JsonlDataset, JsonlDataset> split(double validation_fraction) const;

  const JsonlCounts& counts() const noexcept;

  std::int64_t size() const noexcept override { return end_ - begin_; }
  Sample at(std::int64_t index) const override;
  std::int64_t length(std::int64_t index) const override;
  std::uint64_t fingerprint() const noexcept override;

 private:
  struct Data;
  JsonlDataset(std::shared_ptr<const Data> data, std::int64_t begin, std::int64_t end) noexcept
      : data_(std::move(data)), begin_(begin), end_(end) {}

  std::shared_ptr<const Data> data_;
  std::int64_t begin_, end_;  // of its samples
};

}  // namespace gpt
