// Notices when a text that grows token by token contains one of several strings.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace gpt::generate {

/// As transformers' StopStringCriteria: a string counts when its last byte lies in the newest token; it may
/// have begun in any earlier one, the prompt's included.
class StopStringMatcher {
 public:
  /// `strings` must outlive the matcher.
  explicit StopStringMatcher(const std::vector<std::string>& strings) noexcept : strings_(&strings) {
    for (const std::string& text : strings) longest_ = std::max(longest_, text.size());
  }

  /// Appends one token's bytes; true when a string ends in them.
  bool push(std::string_view bytes) {
    if (longest_ == 0) return false;
    const std::size_t before = tail_.size();
    tail_ += bytes;
    const bool found = std::any_of(strings_->begin(), strings_->end(), [&](const std::string& text) {
      return tail_.find(text, before < text.size() ? 0 : before - text.size() + 1) != std::string::npos;
    });
    if (tail_.size() >= longest_) tail_.erase(0, tail_.size() - (longest_ - 1));
    return found;
  }

 private:
  const std::vector<std::string>* strings_;
  std::size_t longest_ = 0;
  std::string tail_;  // the last longest_ - 1 bytes: all that a coming match can still need
};

}  // namespace gpt::generate
