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

std::string field(const Json& row, const char* name) { return string_of(member(row, name, "a row"), name); }

std::string from_hex(const Json& row) {
  const auto digits = field(row, "hex");
  const auto value = [&](char digit) {
    const std::string_view all = "0123456789abcdef";
    const auto i = all.find(digit);
    if (i == std::string_view::npos) throw Unreadable(concat("hex \"", digits, "\" is not in lower case"));
    return static_cast<unsigned>(i);
  };
  if (digits.size() % 2 != 0) throw Unreadable(concat("hex \"", digits, "\" has an odd number of digits"));
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2)
    bytes += static_cast<char>(value(digits[i]) << 4 | value(digits[i + 1]));
  return bytes;
}

std::vector<TokenId> ids_of(const Json& row, const char* name) {
  return token_ids(member(row, name, "a row"), name);
}

bool encode_row(const Tokenizer& tokenizer, const Json& row) {
  const auto text = field(row, "text");
  const auto ids = ids_of(row, "ids");
  return tokenizer.encode(text, kOrdinary) == ids && tokenizer.decode(ids) == text;
}

bool encode_special_row(const Tokenizer& tokenizer, const Json& row) {
  const auto text = field(row, "text");
  return tokenizer.encode(text, kOrdinary) == ids_of(row, "ids_ordinary") &&
         tokenizer.encode(text) == ids_of(row, "ids_special");
}

bool decode_row(const Tokenizer& tokenizer, const Json& row) {
  return tokenizer.decode(ids_of(row, "ids")) == from_hex(row);
}

bool stream_row(const Tokenizer& tokenizer, const Json& row) {
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> chunks, expected;
  for (const Json& chunk : member(row, "chunks", "a row")) expected.push_back(string_of(chunk, "chunks"));
  for (const TokenId id : ids_of(row, "ids")) chunks.push_back(decoder.push(id));
  return chunks == expected && decoder.flush() == field(row, "final");
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
Outcome check_rows(const Tokenizer& tokenizer, const std::vector<Json>& rows, const RowFile& file,
                   const std::string& path) {
  std::int64_t wrong = 0;
  std::string first;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::string thrown;
    try {
      if (file.is_right(tokenizer, rows[i])) continue;
    } catch (const Error& e) {
      thrown = concat(" (", e.what(), ")");
    } catch (const Unreadable& e) {
      throw Unreadable(concat(path, ":", i + 1, ": ", e.what()));
    }
    if (wrong++ == 0)
      first = concat("first wrong row: line ", i + 1, thrown, ": ", rows[i].dump(-1, ' ', true));
  }
  return Outcome::exact(wrong, std::move(first));
}

constexpr std::size_t kCodePoints = 0x110000;

// Calls f for every code point in the ranges [first, last] of a list.
template <class F>
void for_code_points(const Json& document, const char* key, const F& f) {
  const Json& ranges = member(document, key, kClassFile);
  for (const Json& range : ranges) {
    const std::string where = concat(key, ": ", range.dump());
    if (!range.is_array() || range.size() != 2) throw Unreadable(where + " is no range of code points");
    const std::int64_t first = integer_of(range[0], where), last = integer_of(range[1], where);
    if (first < 0 || last < first || last >= static_cast<std::int64_t>(kCodePoints))
      throw Unreadable(where + " is no range of code points");
    for (std::int64_t c = first; c <= last; ++c) f(static_cast<std::size_t>(c));
  }
}

// The error is the number of assigned code points whose class is wrong.
Outcome check_classes(const Json& document) {
  std::vector<CharClass> expected(kCodePoints, CharClass::kOther);
  for (const auto& [key, value] :
       {std::pair{"S", CharClass::kSpace}, {"L", CharClass::kLetter}, {"N", CharClass::kNumber}})
    for_code_points(document, key, [&, value = value](std::size_t c) { expected[c] = value; });
  std::vector<bool> assigned(kCodePoints, true);
  for_code_points(document, "unassigned", [&](std::size_t c) { assigned[c] = false; });

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
  throw Unreadable(folder.string() + " has no vocabulary; --tokenizer DIR names one");
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
    const std::string path = (folder / file.name).string();
    const std::vector<Json> rows = read_rows(path);
    judge(report, name, path, file.name, [&] { return check_rows(*tokenizer, rows, file, path); });
    report_unknown_fields(report, name, file.name, rows, file.fields);
  }
  if (!fs::exists(folder / kClassFile)) return;
  const std::string path = (folder / kClassFile).string();
  const Json classes = read_json(path);
  judge(report, name, path, kClassFile, [&] { return check_classes(classes); });
  report_unknown_keys(report, name, kClassFile, classes, kClassKeys);
}

}  // namespace gpt::golden
