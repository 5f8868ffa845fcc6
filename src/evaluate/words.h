// White space and n-grams.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gpt/text/utf8.h"

namespace gpt::evaluate {

/// True for what Python's str.split() and str.strip() take for white space.
bool is_space(const Utf8Prefix& c);

std::string_view without_space_at_start(std::string_view text);
std::string_view without_space_at_end(std::string_view text);

/// The parts between white space.
std::vector<std::string> split_at_space(std::string_view text);

using NGram = std::span<const std::string>;

/// Compares words.
struct NGramLess {
  bool operator()(NGram a, NGram b) const noexcept;
};

/// How often each n-gram occurs. The words must outlive it.
using NGramCounts = std::map<NGram, std::int64_t, NGramLess>;

/// Those of n words; none when there are fewer words.
NGramCounts count_ngrams(std::span<const std::string> words, std::size_t n);

/// How many n-grams of n there are among `words` words.
inline std::int64_t ngrams_of(std::size_t words, std::size_t n) noexcept {
  return words < n ? 0 : static_cast<std::int64_t>(words - n + 1);
}

}  // namespace gpt::evaluate
