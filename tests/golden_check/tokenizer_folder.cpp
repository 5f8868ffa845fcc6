// Rows of texts and token ids: README 1.
#include <algorithm>
#include <array>

#include "compare.h"
#include "expected.h"
#include "folders.h"
#include "gpt/text/byte_bpe.h"
#include "gpt/text/stream_decoder.h"
#include "gpt/text/tokenizer.h"
#include "gpt/text/utf8.h"
#include "text/char_class.h"

namespace gpt::golden {

namespace fs = std::filesystem;

namespace {

constexpr EncodeOptions kOrdinary{.parse_special_tokens = false};

std::string from_hex(const Json& row) {
  const auto digits = row.at("hex").get<std::string>();
  const auto value = [&](char digit) {
    const std::string_view all = "0123456789abcdef";
    const auto i = all.find(digit);
    if (i == std::string_view::npos) throw Unreadable(concat("\"", digits, "\" is not in lower-case hex"));
    return static_cast<unsigned>(i);
  };
  if (digits.size() % 2 != 0) throw Unreadable(concat("\"", digits, "\" has an odd number of hex digits"));
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2)
    bytes += static_cast<char>(value(digits[i]) << 4 | value(digits[i + 1]));
  return bytes;
}

std::vector<TokenId> ids_of(const Json& row, const char* field) { return token_ids(row.at(field), field); }

bool encode_row(const Tokenizer& tokenizer, const Json& row) {
  const auto text = row.at("text").get<std::string>();
  const auto ids = ids_of(row, "ids");
  return tokenizer.encode(text, kOrdinary) == ids && tokenizer.decode(ids) == text;
}

bool encode_special_row(const Tokenizer& tokenizer, const Json& row) {
  const auto text = row.at("text").get<std::string>();
  return tokenizer.encode(text, kOrdinary) == ids_of(row, "ids_ordinary") &&
         tokenizer.encode(text) == ids_of(row, "ids_special");
}

bool decode_row(const Tokenizer& tokenizer, const Json& row) {
  return tokenizer.decode(ids_of(row, "ids")) == from_hex(row);
}

bool stream_row(const Tokenizer& tokenizer, const Json& row) {
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> chunks;
  for (const TokenId id : ids_of(row, "ids")) chunks.push_back(decoder.push(id));
  return chunks == row.at("chunks").get<std::vector<std::string>>() &&
         decoder.flush() == row.at("final").get<std::string>();
}

bool invalid_row(const Tokenizer& tokenizer, const Json& row) {
  const std::string bytes = from_hex(row);
  const auto lossless = ids_of(row, "ids_lossless");
  return tokenizer.encode(bytes, kOrdinary) == lossless && tokenizer.decode(lossless) == bytes &&
         tokenizer.encode(replace_invalid_utf8(bytes), kOrdinary) == ids_of(row, "ids_replaced");
}

bool pieces_row(const Tokenizer& tokenizer, const Json& row) {
  return dynamic_cast<const ByteBpe&>(tokenizer).encode_piece(from_hex(row)) == ids_of(row, "ids");
}

struct RowFile {
  const char* name;
  bool (*is_right)(const Tokenizer& tokenizer, const Json& row);
  std::array<std::string_view, 3> fields;  // of a row; "" is none
};
constexpr std::array kRowFiles{
    RowFile{"encode.jsonl", encode_row, {"cat", "text", "ids"}},
    RowFile{"encode_special.jsonl", encode_special_row, {"text", "ids_ordinary", "ids_special"}},
    RowFile{"decode.jsonl", decode_row, {"ids", "hex"}},
    RowFile{"stream_decode.jsonl", stream_row, {"ids", "chunks", "final"}},
    RowFile{"invalid_utf8.jsonl", invalid_row, {"hex", "ids_lossless", "ids_replaced"}},
    RowFile{"pieces.jsonl", pieces_row, {"hex", "ids"}},
};
constexpr std::array<std::string_view, 5> kClassKeys{"S", "L", "N", "unassigned", "unicode_version"};
constexpr const char* kClassFile = "char_classes.json";

// The error is the number of wrong rows. A row that the library throws at is wrong.
Outcome check_rows(const Tokenizer& tokenizer, const std::vector<Json>& rows, const RowFile& file) {
  std::int64_t wrong = 0;
  std::string first;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::string thrown;
    try {
      if (file.is_right(tokenizer, rows[i])) continue;
    } catch (const Error& e) {
      thrown = concat(" (", e.what(), ")");
    }
    if (wrong++ == 0)
      first = concat("first wrong row: line ", i + 1, thrown, ": ", rows[i].dump(-1, ' ', true));
  }
  return Outcome::exact(wrong, std::move(first));
}

void mark(std::vector<CharClass>& classes, const Json& ranges, CharClass value) {
  for (const Json& range : ranges)
    for (auto c = range.at(0).get<std::size_t>(); c <= range.at(1).get<std::size_t>(); ++c)
      classes.at(c) = value;
}

// The error is the number of assigned code points whose class is wrong.
Outcome check_classes(const Json& document) {
  constexpr std::size_t kCodePoints = 0x110000;
  std::vector<CharClass> expected(kCodePoints, CharClass::kOther);
  mark(expected, document.at("S"), CharClass::kSpace);
  mark(expected, document.at("L"), CharClass::kLetter);
  mark(expected, document.at("N"), CharClass::kNumber);
  std::vector<bool> assigned(kCodePoints, true);
  for (const Json& range : document.at("unassigned"))
    for (auto c = range.at(0).get<std::size_t>(); c <= range.at(1).get<std::size_t>(); ++c)
      assigned.at(c) = false;

  const CharClassTable& classes = CharClassTable::instance();
  std::int64_t wrong = 0;
  std::size_t first = 0;
  for (std::size_t c = kCodePoints; c-- > 0;)
    if (assigned[c] && classes.of(static_cast<char32_t>(c)) != expected[c]) {
      ++wrong;
      first = c;
    }
  return Outcome::exact(wrong, concat("first wrong code point: ", first));
}

std::shared_ptr<const Tokenizer> vocabulary(const fs::path& folder, const Settings& settings) {
  if (has_tokenizer(folder)) return load_tokenizer(folder);
  if (settings.tokenizer) return load_tokenizer(*settings.tokenizer);
  throw Unreadable("has no vocabulary; --tokenizer DIR names one");
}

}  // namespace

bool knows_tokenizer_file(std::string_view name) {
  return name == kClassFile ||
         std::ranges::any_of(kRowFiles, [&](const RowFile& file) { return name == file.name; });
}

bool is_tokenizer_folder(const fs::path& folder) {
  return fs::exists(folder / kClassFile) ||
         std::ranges::any_of(kRowFiles, [&](const RowFile& file) { return fs::exists(folder / file.name); });
}

void check_tokenizer_folder(const fs::path& folder, const std::string& name, const Settings& settings,
                            Report& report) {
  const auto tokenizer = vocabulary(folder, settings);
  for (const RowFile& file : kRowFiles) {
    if (!fs::exists(folder / file.name)) continue;
    const std::vector<Json> rows = read_rows(folder / file.name);
    judge(report, name, file.name, [&] { return check_rows(*tokenizer, rows, file); });
    report_unknown_fields(report, name, file.name, rows, file.fields);
  }
  if (!fs::exists(folder / kClassFile)) return;
  const Json classes = read_json(folder / kClassFile);
  judge(report, name, kClassFile, [&] { return check_classes(classes); });
  report_unknown_keys(report, name, kClassFile, classes, kClassKeys);
}

}  // namespace gpt::golden
