#include "train/encode_text.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/parallel_try.h"
#include "gpt/core/error.h"
#include "gpt/core/parallel.h"

namespace gpt {
namespace {

// The size of the next part of a text that begins with a part. Looking twice as far each time keeps the search linear
// where there is no cut for long.
std::size_t next_part_size(std::string_view text, const Tokenizer& tokenizer, std::size_t part_bytes) {
  for (std::size_t seen = part_bytes; seen < text.size(); seen *= 2)
    if (const std::size_t cut = tokenizer.last_cut(text.substr(0, seen)); cut > 0) return cut;
  return text.size();
}

}  // namespace

void encode_text(std::string_view text, const Tokenizer& tokenizer, const EncodeTextOptions& options,
                 std::string_view where, const std::function<void(std::span<const TokenId>)>& sink) {
  constexpr int kPartsPerThread = 8;  // parts take unequal times
  const auto total = static_cast<std::int64_t>(text.size());
  std::vector<std::string_view> parts;
  std::vector<std::vector<TokenId>> ids;
  std::size_t done = 0;
  while (done < text.size()) {
    if (options.stop.stop_requested()) fail<CancelledError>(where, "encoding stopped");
    parts.clear();
    for (int i = 0; i < kPartsPerThread * num_threads() && done < text.size(); ++i) {
      const std::string_view rest = text.substr(done);
      parts.push_back(rest.substr(0, next_part_size(rest, tokenizer, options.part_bytes)));
      done += parts.back().size();
    }
    ids.assign(parts.size(), {});
    parallel_try(static_cast<std::int64_t>(parts.size()), 1, [&](std::int64_t i) {
      const auto part = static_cast<std::size_t>(i);
      ids[part] = tokenizer.encode(
          parts[part], {.parse_special_tokens = options.parse_special_tokens, .add_special_tokens = false});
    });
    for (const std::vector<TokenId>& some : ids) sink(some);
    if (options.on_progress) options.on_progress({static_cast<std::int64_t>(done), total});
  }
}

}  // namespace gpt
