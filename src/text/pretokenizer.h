// GPT-2's pattern, as a scanner.
#pragma once

#include <cstddef>
#include <string_view>

namespace gpt {

/// The length of the first match of
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
/// at the start of `text`, which must not be empty: at least 1. A byte outside a well-formed UTF-8 sequence
/// is a character of no class.
std::size_t next_piece_length(std::string_view text);

}  // namespace gpt
