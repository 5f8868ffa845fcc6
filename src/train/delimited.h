// Records of fields between delimiters, with quotes: RFC 4180, and what people write in its place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gpt {

/// The records of a text one after another; see gpt/train/labelled_rows.h for what a field may be.
class DelimitedReader {
 public:
  /// `strict_quotes`: a quote inside a field in quotes must be doubled; a field with another is taken as it stands. So texts that merely
  /// begin with a quote stay whole where nothing is ever put in quotes, as in many files with tabs.
  DelimitedReader(std::string_view text, char delimiter, bool strict_quotes)
      : text_(text), delimiter_(delimiter), strict_quotes_(strict_quotes) {}

  /// The fields of the next record; false at the end.
  bool next(std::vector<std::string>& fields);
  /// What stands in the text for these fields of the last record, quotes, delimiters and all.
  std::string_view source(std::size_t first, std::size_t last) const noexcept {
    return text_.substr(begins_[first], begins_[last + 1] - 1 - begins_[first]);
  }
  /// The line that the last record began on, from 1.
  std::int64_t line() const noexcept { return line_; }
  /// The line that it ended on.
  std::int64_t last_line() const noexcept { return last_line_; }
  /// The line on which quotes opened, in the last record, that were closed on another line, or never; 0: there were none.
  std::int64_t opened() const noexcept { return opened_; }

 private:
  bool ends_field(std::size_t at) const noexcept;
  std::size_t closing_quote(std::size_t open) noexcept;
  std::string field();

  std::string_view text_;
  char delimiter_;
  bool strict_quotes_;
  std::size_t at_ = 0;
  std::int64_t line_ = 0, last_line_ = 0, next_line_ = 1, opened_ = 0;
  std::size_t closes_none_before_ = 0;
  std::vector<std::size_t> begins_;  // of the fields of the last record, and where one more would begin
};

}  // namespace gpt
