#include "gpt/text/tokenizer.h"

#include "core/memory.h"
#include "gpt/core/atomic_file.h"

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

void Tokenizer::save(const std::filesystem::path& directory) const {
  with_memory_errors(directory.string(), [&] {
    AtomicFiles written;
    for (const auto& [name, text] : files()) written.add(directory / name).write(text);
    written.commit();
  });
}

}  // namespace gpt
