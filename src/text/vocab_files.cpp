#include <algorithm>
#include <array>
#include <set>

#include "core/json.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/core/mapped_file.h"
#include "gpt/text/byte_bpe.h"
#include "text/byte_map.h"
#include "text/json_object.h"
#include "text/tokenizer_files.h"

namespace gpt {
namespace {

// Blank lines count for nothing; of comments only the version is known, since "#" also begins merges.
std::vector<std::pair<std::string, std::string>> parse_merges(std::string_view text,
                                                              std::string_view source) {
  std::vector<std::pair<std::string, std::string>> merges;
  text = utf8_text(text, source);
  merges.reserve(static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n')) + 1);
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    auto merge = split_merge(line);
    if (!merge)
      fail<FormatError>(source, "line ", number, " is ", quote(line),
                        ", expected two tokens with one space between them");
    merges.push_back(*std::move(merge));
  }
  return merges;
}

}  // namespace

std::optional<std::pair<std::string, std::string>> split_merge(std::string_view line) {
  const std::size_t space = line.find(' ');
  if (space == line.npos || space == 0 || space + 1 == line.size() || line.find(' ', space + 1) != line.npos)
    return std::nullopt;
  return std::pair(std::string(line.substr(0, space)), std::string(line.substr(space + 1)));
}

std::vector<std::pair<std::string, TokenId>> to_vocab(const json::Value::Object& object,
                                                      std::string_view source) {
  std::vector<std::pair<std::string, TokenId>> vocab;
  vocab.reserve(object.size());
  for (const auto& [token, value] : object) {
    const auto id = to_token_id(value);
    if (!id)
      fail<FormatError>(source, "token ", quote(token), " has the id ", json::describe(value), ", expected ",
                        kTokenIds);
    vocab.emplace_back(token, *id);
  }
  return vocab;
}

void require_merges(const ByteBpeModel& model, std::size_t* compared) {
  if (!model.merges.empty() || model.ignore_merges) return;
  std::size_t looked_at = 0;
  const auto before = [&](std::string_view a, std::string_view b) {
    ++looked_at;
    return a < b;
  };
  std::set<std::string_view, decltype(before)> own(before);  // a file may add as many tokens as it has others
  for (const AddedToken& added : model.added_tokens) own.insert(added.content);
  for (const auto* use :
       {&model.unk_symbol, &model.bos_token, &model.eos_token, &model.unk_token, &model.pad_token})
    if (*use) own.insert(**use);
  std::array<bool, 256> has_byte{};
  std::string bytes;
  const auto bytes_of = [&](std::string_view token) -> std::string_view {
    bytes.clear();
    return append_spelled_bytes(token, bytes) ? bytes : std::string_view();
  };
  for (const auto& [token, id] : model.vocab)
    if (bytes_of(token).size() == 1) has_byte[static_cast<unsigned char>(bytes[0])] = true;
  for (const auto& [token, id] : model.vocab) {
    const std::string_view two = bytes_of(token);
    if (two.size() != 2 || !has_byte[static_cast<unsigned char>(two[0])] ||
        !has_byte[static_cast<unsigned char>(two[1])] || own.contains(token))
      continue;
    fail<FormatError>(model.merges_source, "has no merge, expected those that make ", quote(token),
                      " and its like in ", model.vocab_source, ", unless they are added tokens");
  }
  if (compared != nullptr) *compared += looked_at;
}

ByteBpeModel parse_vocab_and_merges(std::string_view vocab, std::string_view merges,
                                    std::string_view vocab_source, std::string_view merges_source) try {
  ByteBpeModel model;
  model.vocab = to_vocab(json::parse_object(vocab, vocab_source), vocab_source);
  model.merges = parse_merges(merges, merges_source);
  model.vocab_source = vocab_source;
  model.merges_source = merges_source;
  return model;
} catch (...) {
  rethrow_with_memory_errors(vocab_source);
}

}  // namespace gpt
