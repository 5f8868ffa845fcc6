#include "gpt/text/tokenizer.h"

#include <algorithm>

#include "core/memory.h"
#include "gpt/core/atomic_file.h"
#include "text/tokenizer_files.h"

namespace gpt {

std::size_t Tokenizer::last_cut(std::string_view) const { return 0; }

std::string Tokenizer::decode(std::span<const TokenId> ids, const DecodeOptions& options) const {
  return with_memory_errors("decode", [&] {
    std::string out;
    out.reserve(ids.size() * 4);
    for (const TokenId id : ids)
      if (const std::string_view bytes = bytes_of(id); !options.skip_special_tokens || !is_special(id))
        out += bytes;
    return out;
  });
}

void add_tokenizer_files(std::span<const TokenizerFile> files, const std::filesystem::path& directory,
                         AtomicFiles& written) {
  for (const auto& [name, text] : files) written.add(directory / name).write(text);
  // Left beside the new files, these of another tokenizer would change it.
  for (const char* side : {"added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"})
    if (std::ranges::none_of(files, [&](const TokenizerFile& file) { return file.name == side; }))
      written.remove(directory / side);
}

void Tokenizer::save(const std::filesystem::path& directory) const {
  with_memory_errors(directory.native(), [&] {
    AtomicFiles written;
    add_tokenizer_files(files(), directory, written);
    written.commit();
  });
}

}  // namespace gpt
