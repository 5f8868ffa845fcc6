// Tidying up the spaces of decoded tokens.
#pragma once

#include <array>
#include <string>
#include <string_view>

namespace gpt {

/// A token as the tokenizers library tidies it up, each for itself (cleanup in decoders/wordpiece.rs): " ." becomes ".".
std::string clean_up_token(std::string_view token);

/// transformers' clean_up_tokenization over a text that comes in parts: ten replacements, one after another, of which each
/// holds back what could still become its match.
class SpaceCleaner {
 public:
  /// Appends to `out` what became certain.
  void push(std::string_view text, std::string& out);
  /// Appends the rest, and is ready for another text.
  void flush(std::string& out);

 private:
  static constexpr std::size_t kStages = 10;
  // `text` through the stages from `first` on.
  void run(std::size_t first, std::string text, std::string& out);

  std::array<std::string, kStages> held_;
};

}  // namespace gpt
