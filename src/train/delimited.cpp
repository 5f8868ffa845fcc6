#include "train/delimited.h"

#include <algorithm>

namespace gpt {

bool DelimitedReader::ends_field(std::size_t at) const noexcept {
  return at >= text_.size() || text_[at] == delimiter_ || text_[at] == '\n' || text_[at] == '\r';
}

/// Where the quotes that open here are closed; npos where they are not. Quotes that are not doubled are allowed within a line alone:
/// else a single one that is never closed would take in all rows up to the next.
std::size_t DelimitedReader::closing_quote(std::size_t open) noexcept {
  if (open + 1 < text_.size() && text_[open + 1] == '"' && ends_field(open + 2)) return open + 1;
  if (open < closes_none_before_) return text_.npos;
  bool lone = false;
  std::size_t line_end = text_.size();
  std::size_t at = text_.find('"', open + 1);
  for (; at < text_.size() && !(lone && at > line_end); at = text_.find('"', at + 1)) {
    if (at + 1 < text_.size() && text_[at + 1] == '"') {
      ++at;  // one of the text
      continue;
    }
    if (ends_field(at + 1)) return at;
    if (strict_quotes_) return text_.npos;
    if (!lone) line_end = std::min(text_.find_first_of("\r\n", open), text_.size());
    lone = true;
    if (at > line_end) return text_.npos;
  }
  closes_none_before_ = std::min(at, text_.size());  // or each field would look as far
  return text_.npos;
}

std::string DelimitedReader::field() {
  if (at_ < text_.size() && text_[at_] == '"') {
    if (const std::size_t close = closing_quote(at_); close != text_.npos) {
      std::string value;
      for (std::size_t i = at_ + 1; i < close; ++i) {
        value += text_[i];
        if (text_[i] == '"' && i + 1 < close && text_[i + 1] == '"') ++i;
      }
      const auto lines = std::count(value.begin(), value.end(), '\n');
      if (lines > 0) opened_ = next_line_;
      next_line_ += lines;
      at_ = close + 1;
      return value;
    }
    opened_ = next_line_;
  }
  const std::size_t begin = at_;
  while (!ends_field(at_)) ++at_;
  return std::string(text_.substr(begin, at_ - begin));
}

bool DelimitedReader::next(std::vector<std::string>& fields) {
  fields.clear();
  begins_.clear();
  if (at_ >= text_.size()) return false;
  line_ = last_line_ = next_line_;
  opened_ = 0;
  while (true) {
    begins_.push_back(at_);
    fields.push_back(field());
    last_line_ = next_line_;
    if (at_ >= text_.size()) {
      begins_.push_back(text_.size() + 1);
      return true;
    }
    const char end = text_[at_++];
    if (end == delimiter_) continue;
    begins_.push_back(at_);
    if (end == '\r' && at_ < text_.size() && text_[at_] == '\n') ++at_;
    ++next_line_;
    return true;
  }
}

}  // namespace gpt
