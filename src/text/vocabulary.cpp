#include "text/vocabulary.h"

#include <algorithm>

#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/text/utf8.h"
#include "text/added_tokens.h"
#include "text/byte_map.h"
#include "text/merge_table.h"

namespace gpt {

Vocabulary::Vocabulary(ByteBpeModel& model) : ids_(model.vocab.size() + model.added_tokens.size()) {
  reserve(model);
  for (const auto& [token, id] : model.vocab) add_from_vocab(token, id, model.vocab_source);
  for (AddedToken& token : model.added_tokens) add_added(token, model.vocab_source);
}

void Vocabulary::reserve(const ByteBpeModel& model) {
  std::size_t bytes = 0;
  TokenId last = -1;
  for (const auto& [token, id] : model.vocab) {
    if (id < 0 || id > MergeTable::kMaxId)
      fail<FormatError>(model.vocab_source, "token ", quote(token), " has the id ", id, ", expected 0 to ",
                        MergeTable::kMaxId);
    last = std::max(last, id);
    bytes += 2 * token.size();  // the spelling, and at most as many bytes
  }
  for (const AddedToken& token : model.added_tokens) bytes += 2 * token.content.size();
  text_.reserve(bytes);
  entries_.resize(static_cast<std::size_t>(last + 1));
  flags_.resize(entries_.size());
}

std::string_view Vocabulary::store(std::string_view text) {
  const std::size_t begin = text_.size();
  text_ += text;
  return {text_.data() + begin, text.size()};
}

void Vocabulary::set(TokenId id, Entry entry, unsigned flags) {
  entries_[static_cast<std::size_t>(id)] = entry;
  flags_[static_cast<std::size_t>(id)] = static_cast<std::uint8_t>(flags);
}

void Vocabulary::add_from_vocab(const std::string& token, TokenId id, std::string_view source) {
  if (has(id))
    fail<FormatError>(source, "tokens ", quote(spelling(id)), " and ", quote(token), " have the same id ",
                      id);
  const std::string_view spelling = store(token);
  if (!ids_.insert(spelling, id)) fail<FormatError>(source, "token ", quote(token), " occurs twice");
  const std::size_t begin = text_.size();
  const bool spells_bytes = append_spelled_bytes(token, text_);
  if (!spells_bytes && !is_valid_utf8(token))
    fail<FormatError>(source, "token ", quote(token), " is not valid UTF-8");
  set(id, {spelling, {text_.data() + begin, text_.size() - begin}},
      kInVocab | (spells_bytes ? kSpellsBytes : 0u));
}

void Vocabulary::add_added(AddedToken& token, std::string_view vocab_source) {
  const std::string_view source = token.source.empty() ? vocab_source : token.source;
  const std::string name = quote(token.content);
  if (token.content.empty()) fail<FormatError>(source, "an added token is the empty string");
  if (token.content.size() > AddedTokenFinder::kMaxLength)
    fail<FormatError>(source, "added token ", name, " has ", token.content.size(),
                      " bytes, expected at most ", AddedTokenFinder::kMaxLength);
  if (!is_valid_utf8(token.content)) fail<FormatError>(source, "added token ", name, " is not valid UTF-8");
  const TokenId known = find(token.content);
  const TokenId id = known >= 0 && !token.id ? known : token.id.value_or(static_cast<TokenId>(size()));
  if (id < 0 || id > MergeTable::kMaxId)
    fail<FormatError>(source, "added token ", name, " has the id ", id, ", expected 0 to ",
                      MergeTable::kMaxId);
  if (known >= 0 && known != id)
    fail<FormatError>(source, "added token ", name, " has the id ", id, ", but ", known, " in ",
                      vocab_source);
  if (known < 0 && has(id))
    fail<FormatError>(source, "added token ", name, " has the id ", id, ", which belongs to ",
                      quote(spelling(id)));
  token.id = id;

  if (id >= size()) {
    entries_.resize(static_cast<std::size_t>(id) + 1);
    flags_.resize(entries_.size());
  }
  unsigned flags = flags_[static_cast<std::size_t>(id)] | (token.special ? kSpecial : 0u);
  // It is found in the text as it is written, so that is what it stands for.
  const std::string_view content = store(token.content);
  if (known < 0)
    ids_.insert(content, id);
  else if (bytes(id) != content)
    flags &= ~kSpellsBytes;
  set(id, {known >= 0 ? spelling(id) : content, content}, flags);
}

}  // namespace gpt
