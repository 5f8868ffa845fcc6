#include "gpt/text/tokenizer.h"

#include <algorithm>
#include <atomic>

#include "core/memory.h"
#include "core/parallel_try.h"
#include "gpt/core/atomic_file.h"
#include "gpt/core/error.h"
#include "text/tokenizer_files.h"

namespace gpt {

Tokenizer::Tokenizer() {
  static std::atomic<std::uint64_t> next{0};
  instance_ = next++;
}

std::size_t Tokenizer::last_cut(std::string_view) const { return 0; }

bool Tokenizer::has(TokenId id) const {
  try {
    bytes_of(id);
    return true;
  } catch (const ArgumentError&) {
    return false;
  }
}

std::vector<TokenId> Tokenizer::encode_prompt(std::string_view text, bool parse_special_tokens) const {
  return with_memory_errors("encode", [&] {
    const EncodeOptions options{.parse_special_tokens = parse_special_tokens, .add_suffix_tokens = false};
    const std::vector<TokenId> prefix = encode("", options);
    std::vector<TokenId> ids = encode(text, options);
    const auto own = std::span(ids).subspan(std::min(prefix.size(), ids.size()));
    if (own.size() >= prefix.size() && std::ranges::equal(own.first(prefix.size()), prefix))
      ids.erase(ids.begin(), ids.begin() + std::ssize(prefix));
    return ids;
  });
}

std::unique_ptr<Detokenizer> Tokenizer::start_decoding() const { return nullptr; }

std::string Tokenizer::decode(std::span<const TokenId> ids, const DecodeOptions& options) const {
  return with_memory_errors("decode", [&] {
    std::string out;
    out.reserve(ids.size() * 4);
    const auto detokenizer = start_decoding();
    for (const TokenId id : ids) {
      const std::string_view bytes = bytes_of(id);
      if (options.skip_special_tokens && is_special(id)) continue;
      if (detokenizer != nullptr)
        detokenizer->push(id, out);
      else
        out += bytes;
    }
    if (detokenizer != nullptr) detokenizer->flush(out);
    return out;
  });
}

namespace {

template <class Result, class Inputs, class Convert>
std::vector<Result> convert_all(std::string_view operation, const Inputs& inputs, Convert&& convert) {
  return with_memory_errors(operation, [&] {
    std::vector<Result> results(inputs.size());
    parallel_try(static_cast<std::int64_t>(inputs.size()), 1, [&](std::int64_t i) {
      const auto at = static_cast<std::size_t>(i);
      results[at] = convert(inputs[at]);
    });
    return results;
  });
}

}  // namespace

std::vector<std::vector<TokenId>> Tokenizer::encode_batch(std::span<const std::string_view> texts,
                                                          const EncodeOptions& options) const {
  return convert_all<std::vector<TokenId>>("encode_batch", texts,
                                           [&](std::string_view text) { return encode(text, options); });
}

std::vector<std::vector<TokenId>> Tokenizer::encode_batch(std::span<const std::string> texts,
                                                          const EncodeOptions& options) const {
  return convert_all<std::vector<TokenId>>("encode_batch", texts,
                                           [&](const std::string& text) { return encode(text, options); });
}

std::vector<std::string> Tokenizer::decode_batch(std::span<const std::vector<TokenId>> rows,
                                                 const DecodeOptions& options) const {
  return convert_all<std::string>("decode_batch", rows,
                                  [&](const std::vector<TokenId>& ids) { return decode(ids, options); });
}

void add_tokenizer_files(std::span<const TokenizerFile> files, const std::filesystem::path& directory,
                         AtomicFiles& written) {
  for (const auto& [name, text] : files) written.add(directory / name).write(text);
  // Left beside the new files, these of another tokenizer would change it, or be read in its place.
  for (const char* side :
       {"added_tokens.json", "special_tokens_map.json", "tokenizer_config.json", "tokenizer.json",
        "vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model"})
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
