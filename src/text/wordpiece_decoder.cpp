#include "text/wordpiece_decoder.h"

#include <algorithm>
#include <utility>

namespace gpt {
namespace {

struct Replacement {
  std::string_view from, to;
};
constexpr std::array<Replacement, 11> kInToken{{{" .", "."},
                                                {" ?", "?"},
                                                {" !", "!"},
                                                {" ,", ","},
                                                {" ' ", "'"},
                                                {" n't", "n't"},
                                                {" 'm", "'m"},
                                                {" do not", " don't"},
                                                {" 's", "'s"},
                                                {" 've", "'ve"},
                                                {" 're", "'re"}}};
constexpr std::array<Replacement, 10> kInText{{{" .", "."},
                                               {" ?", "?"},
                                               {" !", "!"},
                                               {" ,", ","},
                                               {" ' ", "'"},
                                               {" n't", "n't"},
                                               {" 'm", "'m"},
                                               {" 's", "'s"},
                                               {" 've", "'ve"},
                                               {" 're", "'re"}}};

// Replaces in `text` from left to right, and returns where the last match ends, in the result.
std::size_t replace_all(std::string& text, const Replacement& how) {
  std::string out;
  std::size_t read = 0, done = 0;
  for (std::size_t at = text.find(how.from); at != text.npos; at = text.find(how.from, read)) {
    out.append(text, read, at - read).append(how.to);
    read = at + how.from.size();
    done = out.size();
  }
  if (read > 0) text = out.append(text, read);
  return done;
}

// The length of the longest end of `text` that begins a match without being one.
std::size_t unfinished(std::string_view text, std::string_view match) {
  for (std::size_t length = std::min(text.size(), match.size() - 1); length > 0; --length)
    if (text.ends_with(match.substr(0, length))) return length;
  return 0;
}

}  // namespace

std::string clean_up_token(std::string_view token) {
  std::string text(token);
  for (const Replacement& how : kInToken) replace_all(text, how);
  return text;
}

void SpaceCleaner::run(std::size_t first, std::string text, std::string& out) {
  for (std::size_t i = first; i < kStages && !text.empty(); ++i) {
    text.insert(0, held_[i]);
    const std::size_t done = replace_all(text, kInText[i]);
    const std::size_t held = unfinished(std::string_view(text).substr(done), kInText[i].from);
    held_[i] = text.substr(text.size() - held);
    text.erase(text.size() - held);
  }
  out += text;
}

void SpaceCleaner::push(std::string_view text, std::string& out) { run(0, std::string(text), out); }

void SpaceCleaner::flush(std::string& out) {
  // What a stage holds is no match of its own, but the later ones have not seen it.
  for (std::size_t i = 0; i < kStages; ++i) run(i + 1, std::exchange(held_[i], {}), out);
}

}  // namespace gpt
