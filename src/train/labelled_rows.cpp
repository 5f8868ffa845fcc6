#include "gpt/train/labelled_rows.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "core/json.h"
#include "core/memory.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/utf8.h"
#include "train/delimited.h"

namespace gpt {
namespace {

constexpr std::size_t kStopCheckRows = 256;

std::string_view trimmed(std::string_view text) noexcept {
  constexpr std::string_view kBlank = " \t\r\n\f\v";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

std::string lower(std::string_view text) {
  std::string small(text);
  for (char& c : small)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return small;
}

RowFormat format_of(std::string_view name) {
  const std::string small = lower(name);
  if (small.ends_with(".tsv") || small.ends_with(".tab")) return RowFormat::kTsv;
  if (small.ends_with(".jsonl") || small.ends_with(".ndjson") || small.ends_with(".json"))
    return RowFormat::kJsonl;
  return RowFormat::kCsv;
}

/// Throws FormatError, beginning with `where`, for two columns that it could be.
std::optional<std::size_t> place_in(const std::vector<std::string>& header, std::string_view column,
                                    std::string_view where) {
  const std::string_view wanted = trimmed(column);
  for (const bool any_case : {false, true}) {
    std::optional<std::size_t> place;
    for (std::size_t i = 0; i < header.size(); ++i) {
      const std::string_view name = trimmed(header[i]);
      if (any_case ? lower(name) != lower(wanted) : name != wanted) continue;
      if (place) fail<FormatError>(where, "has two columns ", wanted, ", expected one");
      place = i;
    }
    if (place) return place;
  }
  return std::nullopt;
}

/// Collects the rows, and what is wrong with others.
class RowCollector {
 public:
  RowCollector(std::string_view source, const RowOptions& options) : source_(source), options_(options) {}

  /// Has `make` fill a row. Throws what is wrong with it, unless such rows are left out.
  template <class Make>
  void add(std::int64_t line, const Make& make) {
    if (++seen_ % kStopCheckRows == 0 && options_.stop.stop_requested())
      fail<CancelledError>(source_, "reading was stopped after ", seen_, " rows");
    LabelledRow row;
    row.line = line;
    const std::string where = concat(source_, ":", line);
    try {
      make(row, where);
      check(row, where);
    } catch (const FormatError& error) {
      if (!options_.skip_bad_rows) throw;
      if (++result_.bad == 1) result_.first_bad = error.what();
      return;
    }
    result_.rows.push_back(std::move(row));
  }

  void add_label(LabelledRow& row, std::string_view label) const {
    if (options_.label_separator.empty()) {
      row.labels.emplace_back(trimmed(label));
      return;
    }
    while (true) {
      const std::size_t end = std::min(label.find(options_.label_separator), label.size());
      if (const std::string_view one = trimmed(label.substr(0, end)); !one.empty())
        row.labels.emplace_back(one);
      if (end == label.size()) return;
      label.remove_prefix(end + options_.label_separator.size());
    }
  }

  LabelledRows take() {
    if (result_.rows.empty())
      fail<FormatError>(source_, "has no usable row",
                        result_.bad > 0 ? concat("; the first: ", result_.first_bad) : "");
    return std::move(result_);
  }

 private:
  void check(const LabelledRow& row, std::string_view where) const {
    if (!options_.label_column) return;
    for (const std::string& label : row.labels) {
      if (label.empty())
        fail<FormatError>(where, "the label in column ", *options_.label_column, " is empty");
      if (!is_valid_utf8(label)) fail<FormatError>(where, "the label is not UTF-8");
      if (label.find('\n') != label.npos)
        fail<FormatError>(where, "the label has several lines, as where a quote is not closed");
    }
  }

  std::string_view source_;
  const RowOptions& options_;
  LabelledRows result_;
  std::size_t seen_ = 0;
};

struct Columns {
  std::vector<std::string> header;
  std::size_t text = 0;
  std::optional<std::size_t> label = {};
};

/// The columns that are asked for, or a message that says which is missing.
std::optional<Columns> columns_in(DelimitedReader& reader, const RowOptions& options, std::string_view where,
                                  std::string& missing) {
  Columns columns;
  reader.next(columns.header);
  // Spreadsheets end all lines with delimiters where a cell beside the table was ever touched.
  while (columns.header.size() > 1 && trimmed(columns.header.back()).empty()) columns.header.pop_back();
  constexpr std::size_t kMostNamed = 32;  // of what may be no header at all
  std::string known;
  for (std::size_t i = 0; i < std::min(kMostNamed, columns.header.size()); ++i)
    known += concat(i == 0 ? "" : ", ", trimmed(columns.header[i]));
  if (columns.header.size() > kMostNamed) known += ", ...";
  const auto find = [&](const std::string& column) {
    const auto place = place_in(columns.header, column, where);
    if (!place) missing = concat("has no column ", column, known.empty() ? "" : ", but ", known);
    return place;
  };
  const auto text = find(options.text_column);
  if (!text) return std::nullopt;
  columns.text = *text;
  if (!options.label_column) return columns;
  if (!(columns.label = find(*options.label_column))) return std::nullopt;
  if (*columns.label == columns.text)
    fail<FormatError>(where, "column ", trimmed(columns.header[columns.text]),
                      " is to be both the text and the label, expected two columns");
  return columns;
}

/// What may be wrong with a record, for the end of a message.
std::string what_quotes_did(const DelimitedReader& reader) {
  if (reader.last_line() > reader.line())
    return concat(": a quote is open from line ", reader.opened(), " to ", reader.last_line(),
                  ", and may not be closed where it should be");
  if (reader.opened() > 0) return ": a quote is not closed";
  return {};
}

/// Whether every row begins with a name that no other has and that the header knows nothing of, as R writes tables: what follows would be
/// taken for the columns before it.
class RowNames {
 public:
  void see(const std::vector<std::string>& fields, std::size_t expected) {
    if (!all_) return;
    all_ = fields.size() == expected + 1 && names_.insert(fields.front()).second;
    if (!all_) names_.clear();
  }
  bool are_there() const noexcept { return all_ && !names_.empty(); }

 private:
  bool all_ = true;
  std::set<std::string> names_;
};

LabelledRows read_delimited(std::string_view text, std::string_view source, RowFormat format,
                            const RowOptions& options) {
  const std::string first_line = concat(source, ":1");
  std::string missing, first_missing;
  for (const char delimiter : format == RowFormat::kTsv ? std::string_view("\t") : std::string_view(",;\t")) {
    DelimitedReader reader(text, delimiter, format == RowFormat::kTsv);
    const auto columns = columns_in(reader, options, first_line, missing);
    if (!columns) {
      if (first_missing.empty()) first_missing = missing;
      continue;
    }
    RowCollector rows(source, options);
    RowNames names;
    std::vector<std::string> fields;
    while (reader.next(fields)) {
      if (fields.size() == 1 && trimmed(fields[0]).empty()) continue;
      rows.add(reader.line(), [&](LabelledRow& row, std::string_view where) {
        const std::size_t needed = std::max(columns->text, columns->label.value_or(0)) + 1;
        const std::size_t expected = columns->header.size();
        // Delimiters at the end say nothing; others that nobody quoted are of the text, where that is the last.
        while (fields.size() > expected && trimmed(fields.back()).empty()) fields.pop_back();
        if (columns->label) names.see(fields, expected);
        if (fields.size() > expected && columns->text + 1 == expected)
          fields[columns->text] = reader.source(columns->text, fields.size() - 1);
        else if (fields.size() < needed || fields.size() > expected)
          fail<FormatError>(where, "has ", fields.size(), " fields, expected ", expected,
                            what_quotes_did(reader));
        row.text = std::move(fields[columns->text]);
        if (columns->label) rows.add_label(row, fields[*columns->label]);
      });
    }
    if (names.are_there())
      fail<FormatError>(first_line, "every row has ", columns->header.size() + 1,
                        " fields, of which the first is in no other row, expected ", columns->header.size(),
                        ": name the column of the rows' names in the header, or put texts in quotes");
    return rows.take();
  }
  fail<FormatError>(first_line, first_missing);
}

std::string text_of_scalar(const json::Value& value, std::string_view where, std::string_view column) {
  if (const auto* text = value.get_if<std::string>()) return *text;
  if (const auto* truth = value.get_if<bool>()) return *truth ? "true" : "false";
  if (const auto* integer = value.get_if<std::int64_t>()) return concat(*integer);
  if (const auto number = value.to_double()) return concat(*number);
  fail<FormatError>(where, column, value.is_null() ? " is null" : " is a list or an object",
                    ", expected text, a number, true or false");
}

LabelledRows read_json_lines(std::string_view text, std::string_view source, const RowOptions& options) {
  RowCollector rows(source, options);
  std::int64_t number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (trimmed(line).empty()) continue;
    rows.add(number, [&](LabelledRow& row, std::string_view where) {
      const json::Value::Object object = json::parse_object(line, where);
      const auto member = [&](const std::string& key) -> const json::Value& {
        const json::Value* value = json::find(object, key);
        if (value == nullptr) fail<FormatError>(where, "has no ", key);
        return *value;
      };
      const json::Value& said = member(options.text_column);
      if (!said.is<std::string>()) fail<FormatError>(where, options.text_column, " is no text");
      row.text = *said.get_if<std::string>();
      if (!options.label_column) return;
      const json::Value& label = member(*options.label_column);
      if (const auto* list = label.get_if<json::Value::Array>())
        for (const json::Value& one : *list)
          row.labels.emplace_back(trimmed(text_of_scalar(one, where, *options.label_column)));
      else
        rows.add_label(row, text_of_scalar(label, where, *options.label_column));
    });
  }
  return rows.take();
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

}  // namespace

LabelledRows parse_labelled_rows(std::string_view text, std::string_view source, const RowOptions& options) {
  return with_memory_errors(source, [&] {
    text = utf8_text(text, source);
    if (trimmed(text).empty()) fail<FormatError>(source, "is empty");
    const RowFormat format = options.format.value_or(format_of(source));
    return format == RowFormat::kJsonl ? read_json_lines(text, source, options)
                                       : read_delimited(text, source, format, options);
  });
}

LabelledRows read_labelled_rows(const std::filesystem::path& path, const RowOptions& options) {
  const std::string text = read_text_file(path);
  return parse_labelled_rows(text, path.string(), options);
}

std::vector<std::string> labels_of(const std::vector<LabelledRow>& rows) {
  std::set<std::string> all;
  for (const LabelledRow& row : rows) all.insert(row.labels.begin(), row.labels.end());
  std::vector<std::string> labels(all.begin(), all.end());
  if (std::ranges::all_of(labels, [](const std::string& label) { return number_of(label).has_value(); }))
    std::ranges::stable_sort(
        labels, [](const std::string& a, const std::string& b) { return *number_of(a) < *number_of(b); });
  return labels;
}

}  // namespace gpt
