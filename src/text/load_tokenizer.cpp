#include <array>

#include "core/file_status.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/tokenizer.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

[[noreturn]] void fail_without_tokenizer(const std::filesystem::path& directory) {
  for (const std::string_view other : {"vocab.txt", "tokenizer.model", "spiece.model"})
    if (is_there(directory / other))
      fail<UnsupportedError>(directory.string(), "holds ", other,
                             ", expected tokenizer.json or vocab.json and merges.txt");
  fail<IoError>(directory.string(), "has no tokenizer: expected tokenizer.json or vocab.json and merges.txt");
}

}  // namespace

bool has_tokenizer(const std::filesystem::path& directory) {
  for (const std::string_view name : {"tokenizer.json", "vocab.json", "merges.txt"})
    if (is_there(directory / name)) return true;
  return false;
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& directory) {
  if (!has_tokenizer(directory)) fail_without_tokenizer(directory);
  ByteBpeModel model;
  if (const auto path = directory / "tokenizer.json"; is_there(path)) {
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
