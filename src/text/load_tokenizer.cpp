#include <array>

#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/tokenizer.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

bool holds(const std::filesystem::path& directory, std::string_view name) {
  std::error_code error;
  // Of the link itself: one that leads nowhere is there, and reading it says what is wrong with it.
  const auto type = std::filesystem::symlink_status(directory / name, error).type();
  return type != std::filesystem::file_type::not_found && type != std::filesystem::file_type::none;
}

[[noreturn]] void fail_without_tokenizer(const std::filesystem::path& directory) {
  for (const std::string_view other : {"vocab.txt", "tokenizer.model", "spiece.model"})
    if (holds(directory, other))
      fail<UnsupportedError>(directory.string(), "holds ", other,
                             ", expected tokenizer.json or vocab.json and merges.txt");
  fail<IoError>(directory.string(), "has no tokenizer: expected tokenizer.json or vocab.json and merges.txt");
}

}  // namespace

bool has_tokenizer(const std::filesystem::path& directory) {
  for (const std::string_view name : {"tokenizer.json", "vocab.json", "merges.txt"})
    if (holds(directory, name)) return true;
  return false;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& directory) {
  if (!has_tokenizer(directory)) fail_without_tokenizer(directory);
  ByteBpeModel model;
  if (const auto path = directory / "tokenizer.json"; holds(directory, "tokenizer.json")) {
    model = parse_tokenizer_json(read_text_file(path), path.string());
  } else {
    const auto vocab = directory / "vocab.json", merges = directory / "merges.txt";
    model = parse_vocab_and_merges(read_text_file(vocab), read_text_file(merges), vocab.string(),
                                   merges.string());
  }
  apply_side_files(model, directory);
  return std::make_shared<ByteBpe>(std::move(model));
}

}  // namespace gpt
