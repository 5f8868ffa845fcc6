// Any text is labelled rows of each format, or gives a FormatError; and what was read is read again when it is written with quotes.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuzzer.h"
#include "gpt/core/error.h"
#include "gpt/text/utf8.h"
#include "gpt/train/labelled_rows.h"

namespace {

using gpt::LabelledRow;
using gpt::LabelledRows;
using gpt::RowFormat;
using gpt::RowOptions;
using gpt::fuzz::require;

std::string in_quotes(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
  return quoted + '"';
}

/// As CSV; rows of one label each.
std::string written(const std::vector<LabelledRow>& rows) {
  std::string text = "text,label\n";
  for (const LabelledRow& row : rows)
    text += in_quotes(row.text) + ',' + in_quotes(row.labels.front()) + "\r\n";
  return text;
}

void check(const LabelledRows& found, std::string_view text, const RowOptions& options) {
  require(!found.rows.empty());
  std::int64_t line = 0;
  for (const LabelledRow& row : found.rows) {
    require(row.line > line && row.line <= static_cast<std::int64_t>(text.size()) + 1);
    line = row.line;
    if (!options.label_column) require(row.labels.empty());
    if (options.label_separator.empty() && options.label_column && options.format != RowFormat::kJsonl)
      require(row.labels.size() == 1);
    for (const std::string& label : row.labels) require(!label.empty() && gpt::is_valid_utf8(label));
  }
  require((found.bad == 0) == found.first_bad.empty());
}

}  // namespace

GPT_FUZZER(labelled_rows) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const RowFormat format : {RowFormat::kCsv, RowFormat::kTsv, RowFormat::kJsonl})
    for (const bool several : {false, true}) {
      RowOptions options{.format = format};
      if (several) options.label_separator = ";";
      std::vector<std::string> labels;
      try {
        const LabelledRows strict = gpt::parse_labelled_rows(text, "fuzz", options);
        check(strict, text, options);
        require(strict.bad == 0);
        labels = gpt::labels_of(strict.rows);
        if (several || format == RowFormat::kJsonl) continue;
        const LabelledRows again =
            gpt::parse_labelled_rows(written(strict.rows), "fuzz", {.format = RowFormat::kCsv});
        require(again.rows.size() == strict.rows.size());
        for (std::size_t i = 0; i < again.rows.size(); ++i)
          require(again.rows[i].text == strict.rows[i].text && again.rows[i].labels == strict.rows[i].labels);
      } catch (const gpt::FormatError&) {
      }
      options.skip_bad_rows = true;
      try {
        const LabelledRows lenient = gpt::parse_labelled_rows(text, "fuzz", options);
        check(lenient, text, options);
        if (lenient.bad == 0) require(gpt::labels_of(lenient.rows) == labels);
      } catch (const gpt::FormatError&) {
        require(labels.empty());
      }
      options.label_column.reset();
      try {
        check(gpt::parse_labelled_rows(text, "fuzz", options), text, options);
      } catch (const gpt::FormatError&) {
      }
    }
  return 0;
}
