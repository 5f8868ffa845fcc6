#include "gpt/train/text_dataset.h"

#include <algorithm>
#include <string>

#include "core/fingerprint.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "train/cache_file.h"
#include "train/dataset_checks.h"
#include "train/encode_text.h"
#include "train/file_pieces.h"
#include "train/token_cache.h"
#include "train/token_store.h"

namespace gpt {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kText = "TextDataset";

void check(const BlockOptions& options) {
  if (options.block_size < 1)
    fail<ArgumentError>(kText, "block_size is ", options.block_size, ", expected at least 1");
}

template <class E>
void require_sample(std::string_view where, std::int64_t tokens, const BlockOptions& options) {
  const std::int64_t least = options.drop_last ? options.block_size : 1;
  if (tokens <= least) fail<E>(where, "has ", tokens, " tokens, expected more than ", least, " for a sample");
}

std::shared_ptr<const TokenStore> encode_in_memory(std::string_view text, const Tokenizer& tokenizer,
                                                   const EncodeTextOptions& options, std::string_view where) {
  std::vector<TokenId> ids;
  Fingerprint sum;
  encode_text(text, tokenizer, options, where, [&](std::span<const TokenId> some) {
    ids.insert(ids.end(), some.begin(), some.end());
    for (const TokenId id : some) sum.add(id);
  });
  return std::make_shared<const TokenStore>(std::move(ids), sum.value());
}

std::shared_ptr<const TokenStore> encode_through_cache(const MappedFile& file, const Tokenizer& tokenizer,
                                                       const fs::path& cache_dir,
                                                       const EncodeTextOptions& options) {
  const CacheOptions cache{
      .directory = cache_dir,
      .encoding = Fingerprint().add(tokenizer.fingerprint()).add(options.parse_special_tokens).value(),
      .vocab_size = tokenizer.vocab_size(),
      .stop = options.stop};
  return through_cache(file, kTokenCache, cache, tokens_of, [&](CacheWriter& body) {
    TokenCacheWriter writer(body);
    encode_text(file.text(), tokenizer, options, file.path().string(),
                [&](std::span<const TokenId> some) { writer.append(some); });
    writer.finish();
  });
}

std::shared_ptr<const TokenStore> tokens_of_file(const fs::path& path, const Tokenizer& tokenizer,
                                                 const TextDatasetOptions& options) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (text.empty()) fail<FormatError>(path.string(), "is empty, expected text");
  PagesBehind pages(file);
  const std::size_t mark = file.bytes().size() - text.size();
  const auto on_progress = [&](const DatasetProgress& progress) {
    pages.drop_before(mark + static_cast<std::size_t>(progress.done_bytes));
    if (options.on_progress) options.on_progress(progress);
  };
  const EncodeTextOptions encoding{options.parse_special_tokens, on_progress, options.stop};
  try {
    return options.cache_dir.empty() ? encode_in_memory(text, tokenizer, encoding, path.string())
                                     : encode_through_cache(file, tokenizer, options.cache_dir, encoding);
  } catch (const ArgumentError& error) {
    fail<FormatError>(path.string(), "cannot be encoded: ", error.what());
  }
}

}  // namespace

TextDataset TextDataset::from_tokens(std::vector<TokenId> tokens, const BlockOptions& options) {
  check(options);
  Fingerprint sum;
  for (const TokenId token : tokens) {
    if (token < 0) fail<ArgumentError>(kText, "token id ", token, " is negative");
    sum.add(token);
  }
  return with_memory_errors(kText, [&] {
    const auto store = std::make_shared<const TokenStore>(std::move(tokens), sum.value());
    require_sample<ArgumentError>(kText, store->size(), options);
    return TextDataset(store, 0, store->size(), options);
  });
}

TextDataset TextDataset::from_text(std::string_view text, const Tokenizer& tokenizer,
                                   const TextDatasetOptions& options) {
  const BlockOptions blocks{options.block_size, options.drop_last};
  check(blocks);
  if (!options.cache_dir.empty())
    fail<ArgumentError>(kText, "cache_dir is set, but only the tokens of a file are kept on disk");
  return with_memory_errors(kText, [&] {
    const auto store = encode_in_memory(
        text, tokenizer, {options.parse_special_tokens, options.on_progress, options.stop}, kText);
    require_sample<ArgumentError>(kText, store->size(), blocks);
    return TextDataset(store, 0, store->size(), blocks);
  });
}

TextDataset TextDataset::from_file(const fs::path& path, const Tokenizer& tokenizer,
                                   const TextDatasetOptions& options) {
  const BlockOptions blocks{options.block_size, options.drop_last};
  check(blocks);
  return with_memory_errors(path.native(), [&] {
    const auto store = tokens_of_file(path, tokenizer, options);
    require_sample<FormatError>(path.string(), store->size(), blocks);
    return TextDataset(store, 0, store->size(), blocks);
  });
}

std::pair<TextDataset, TextDataset> TextDataset::split(double validation_fraction) const {
  const std::int64_t validation = validation_share(kText, validation_fraction, token_count());
  const std::int64_t middle = end_ - validation;
  require_sample<ArgumentError>(concat(kText, ", training part"), middle - begin_, options_);
  require_sample<ArgumentError>(concat(kText, ", validation part"), validation, options_);
  return {TextDataset(tokens_, begin_, middle, options_), TextDataset(tokens_, middle, end_, options_)};
}

std::int64_t TextDataset::size() const noexcept {
  const std::int64_t predicted = token_count() - 1;
  const bool has_short_one = predicted % options_.block_size != 0 && !options_.drop_last;
  return predicted / options_.block_size + (has_short_one ? 1 : 0);
}

std::int64_t TextDataset::length(std::int64_t index) const {
  require_index(kText, index, size());
  return std::min(options_.block_size, token_count() - 1 - index * options_.block_size) + 1;
}

Sample TextDataset::at(std::int64_t index) const {
  const std::int64_t count = length(index);
  return with_memory_errors(kText, [&] {
    Sample sample;
    sample.ids = tokens_->copy(begin_ + index * options_.block_size, count);
    sample.labels = sample.ids;
    return sample;
  });
}

std::uint64_t TextDataset::fingerprint() const noexcept {
  Fingerprint all;
  all.add("text").add(tokens_->fingerprint()).add(begin_).add(end_);
  return all.add(options_.block_size).add(options_.drop_last).value();
}

}  // namespace gpt
