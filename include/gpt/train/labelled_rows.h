// Texts with labels, as people keep them: CSV, TSV, and JSON lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace gpt {

enum class RowFormat : std::uint8_t {
  kCsv,  // RFC 4180 with a header; the delimiter is the comma, or the semicolon or tab where that finds the columns and it does not
  kTsv,  // the same with tabs
  kJsonl,  // one JSON object a line
};

struct LabelledRow {
  std::string text;  // any bytes
  std::vector<std::string>
      labels;  // one, unless there is a label_separator or a JSON list; none where no label is asked for
  std::int64_t line = 0;  // where it begins, from 1
};

struct RowOptions {
  std::string text_column = "text";
  std::optional<std::string> label_column = "label";  // unset: texts alone
  /// Cuts a label into several, each without blanks around it, and lets it be empty. Empty: it is one.
  std::string label_separator = {};
  std::optional<RowFormat> format = {};  // unset: by the end of the file's name; kCsv for others
  /// Leaves out and counts the rows that are not as documented; else the first of them is an error.
  bool skip_bad_rows = false;
  std::stop_token stop = {};  // checked after every few hundred rows
};

struct LabelledRows {
  std::vector<LabelledRow> rows;
  std::int64_t bad = 0;   // left out by skip_bad_rows
  std::string first_bad;  // what is wrong with the first of them, with its line; empty when there is none
};

/// The rows of a file. A byte order mark at its beginning, blanks around labels and column names, blank lines, and CR, LF or CRLF as the
/// ends of lines are all the same. A field in quotes may hold delimiters and lines; a quote in it is doubled or, where the field is of one
/// line, followed by anything but a delimiter or the end of the line. A field that begins with a quote and is not of this form is taken
/// as it stands, up to the next delimiter. Empty fields at the end of a row, and of the header, are nothing; others behind those of the
/// header are the rest of a text that nobody quoted, where the text is the last column, and it is taken as it stands. Columns are found by
/// their names, or else by their names in any case (ASCII). In JSON a label is text, a number, true or false, or a list of these.
///
/// Throws IoError; FormatError naming file and line: no such column (with those that there are), two of that name, one that is both the text's
/// and the label's, a row with too few or too many fields, a label that is missing, empty, null, of several lines or not UTF-8, what is not JSON or has no text; in every row one field more than in the header, of
/// which the first is in no other row (rows' names, with which other fields would be taken for labels); a file in UTF-16, or without a
/// usable row; CancelledError.
LabelledRows read_labelled_rows(const std::filesystem::path& path, const RowOptions& options = {});

/// The same of text in memory, which `source` names in errors.
LabelledRows parse_labelled_rows(std::string_view text, std::string_view source,
                                 const RowOptions& options = {});

/// The labels of rows, each once, sorted as numbers where all are, else by their bytes.
std::vector<std::string> labels_of(const std::vector<LabelledRow>& rows);

}  // namespace gpt
