// The distinct pieces of texts and how often each occurs.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace gpt {

/// The pieces of GPT-2's pattern with their counts, in the order of their bytes. The views point into the texts. `between` is called by the caller's thread with the bytes
/// counted so far, after every few parts. Texts are divided among threads.
std::vector<std::pair<std::string_view, std::int64_t>> count_pieces(
    std::span<const std::string_view> texts, const std::function<void(std::size_t)>& between);

}  // namespace gpt
