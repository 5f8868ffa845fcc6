#include "corpus.h"

#include <algorithm>
#include <cmath>

#include "compare.h"
#include "network_run.h"
#include "tolerances.h"

namespace gpt::golden {

Corpus read_corpus(const std::filesystem::path& file, const Tokenizer& tokenizer) {
  const std::string text = read_text(file);
  const auto begins_character = [](char c) { return (static_cast<unsigned char>(c) & 0xc0u) != 0x80u; };
  const auto characters = std::ranges::count_if(text, begins_character);
  auto remaining = static_cast<std::ptrdiff_t>(static_cast<double>(characters) * 0.9);
  const auto cut =
      std::ranges::find_if(text, [&](char c) { return begins_character(c) && remaining-- == 0; });
  const std::string_view all = text;
  const auto bytes = static_cast<std::size_t>(cut - text.begin());
  const EncodeOptions ordinary{.parse_special_tokens = false};
  return {tokenizer.encode(all.substr(0, bytes), ordinary), tokenizer.encode(all.substr(bytes), ordinary)};
}

double mean_window_loss(const Gpt2& network, std::span<const TokenId> tokens, std::size_t window,
                        std::size_t count) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i)
    sum += window_loss(network, tokens.subspan(i * window, window + 1)).mean();
  return sum / static_cast<double>(count);
}

std::vector<Rule> validation_rules(const Model& model, const std::filesystem::path& corpus) {
  const auto tokens = [&model, corpus] { return read_corpus(corpus, model.tokenizer()).validation; };
  return {
      {"val_tokens",
       [tokens](const Entry& entry) {
         return compare_real(static_cast<double>(tokens().size()), number_of(*entry.value, entry.name), 0);
       }},
      {"val_loss",
       [tokens, &model](const Entry& entry) {
         const auto expected = number_of(*entry.value, entry.name);
         const std::int64_t stated = integer_of(member(*entry.parent, "window", "val.json"), "window");
         const std::size_t window = stated < 0 ? 0 : static_cast<std::size_t>(stated);
         const std::vector<TokenId> all = tokens();
         if (window == 0 || all.size() <= window)
           throw Unreadable(concat("a window of ", stated, " tokens in val.json"));
         return compare_real(mean_window_loss(model.network(), all, window, (all.size() - 1) / window),
                             expected, kLossTolerance * std::max(1.0, std::abs(expected)));
       }},
  };
}

}  // namespace gpt::golden
