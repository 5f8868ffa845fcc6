#include "text/added_tokens.h"

#include <algorithm>

#include "gpt/text/utf8.h"
#include "text/char_class.h"

namespace gpt {
namespace {

bool is_word(const Utf8Prefix& c) {
  return c.kind == Utf8Prefix::Kind::kCharacter && is_word_char(c.code_point);
}

bool is_space(const Utf8Prefix& c) {
  return c.kind == Utf8Prefix::Kind::kCharacter &&
         CharClassTable::instance().of(c.code_point) == CharClass::kSpace;
}

// Both add to `looked_at` how many characters they look at.
std::size_t without_trailing_space(std::string_view text, std::size_t& looked_at) {
  for (; !text.empty(); ++looked_at) {
    const Utf8Prefix last = read_last_utf8(text);
    if (!is_space(last)) break;
    text.remove_suffix(last.length);
  }
  return text.size();
}

std::size_t leading_space(std::string_view text, std::size_t& looked_at) {
  const std::size_t size = text.size();
  for (; !text.empty(); ++looked_at) {
    const Utf8Prefix first = read_utf8(text);
    if (!is_space(first)) break;
    text.remove_prefix(first.length);
  }
  return size - text.size();
}

}  // namespace

void AddedTokenFinder::Pass::add(const AddedToken& token) {
  std::uint32_t node = 0;
  for (const char c : token.content) {
    const std::uint64_t edge = std::uint64_t{node} << 8 | static_cast<unsigned char>(c);
    const auto [child, is_new] = child_.try_emplace(edge, static_cast<std::uint32_t>(token_at_.size()));
    if (is_new) token_at_.push_back(-1);
    node = child->second;
  }
  token_at_[node] = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back({*token.id, token.special, token.lstrip, token.rstrip, token.single_word});
  begins_[static_cast<unsigned char>(token.content[0])] = true;
  longest_ = std::max(longest_, token.content.size());
  all_special_ = all_special_ && token.special;
}

// The first place at or after `from` where a token begins, and the longest one there.
AddedTokenFinder::Match AddedTokenFinder::Pass::find(std::string_view text, std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    Match match;
    std::uint32_t node = 0;
    for (std::size_t end = begin; end < text.size(); ++end) {
      const auto child = child_.find(std::uint64_t{node} << 8 | static_cast<unsigned char>(text[end]));
      if (child == child_.end()) break;
      node = child->second;
      if (token_at_[node] >= 0) match = {begin, end + 1, &tokens_[static_cast<std::size_t>(token_at_[node])]};
    }
    if (match.token != nullptr) return match;
  }
  return {};
}

// Follows find_matches in added_vocabulary.rs of huggingface/tokenizers, overlapping strips included.
void AddedTokenFinder::Pass::split(std::string_view text, bool parse_special, std::vector<Part>& out,
                                   std::size_t& stripped) const {
  std::size_t done = 0;       // what lies before is in `out`
  std::size_t space_end = 0;  // from the end of a match before this to here is white space alone
  if (!tokens_.empty() && (parse_special || !all_special_)) {
    for (std::size_t from = 0;;) {
      const Match match = find(text, from);
      if (match.token == nullptr) break;
      from = match.end;
      if (match.token->special && !parse_special) continue;
      std::size_t begin = match.begin, end = match.end;
      if (match.token->single_word && ((begin > 0 && is_word(read_last_utf8(text.substr(0, begin)))) ||
                                       (end < text.size() && is_word(read_utf8(text.substr(end))))))
        continue;
      if (match.token->lstrip && begin > done)
        begin = done + without_trailing_space(text.substr(done, begin - done), stripped);
      if (match.token->rstrip) {
        // The tokens may be white space themselves: the run that they stand in is looked at once.
        if (end >= space_end) space_end = end + leading_space(text.substr(end), stripped);
        end = space_end;
      }
      if (done < begin) out.push_back({text.substr(done, begin - done), -1});
      out.push_back({{}, match.token->id});
      done = end;
    }
  }
  if (done < text.size()) out.push_back({text.substr(done), -1});
}

bool AddedTokenFinder::Pass::touches(std::string_view text, std::size_t at) const {
  for (std::size_t begin = at - std::min(at, longest_); begin <= at; ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    std::uint32_t node = 0;
    for (std::size_t end = begin;; ++end) {
      if (end == text.size()) return true;  // more text may complete it
      const auto child = child_.find(std::uint64_t{node} << 8 | static_cast<unsigned char>(text[end]));
      if (child == child_.end()) break;
      node = child->second;
      if (token_at_[node] >= 0 && end + 1 >= at) return true;
    }
  }
  return false;
}

void AddedTokenFinder::add(const AddedToken& token) {
  (token.normalized ? normalized_ : verbatim_).add(token);
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::split(std::string_view text, bool parse_special,
                                                            std::size_t* stripped) const {
  std::vector<Part> first, out;
  std::size_t looked_at = 0;
  verbatim_.split(text, parse_special, first, looked_at);
  for (const Part& part : first) {
    if (part.id < 0)
      normalized_.split(part.text, parse_special, out, looked_at);
    else
      out.push_back(part);
  }
  if (stripped != nullptr) *stripped += looked_at;
  return out;
}

bool AddedTokenFinder::touches(std::string_view text, std::size_t at) const {
  return verbatim_.touches(text, at) || normalized_.touches(text, at);
}

}  // namespace gpt
