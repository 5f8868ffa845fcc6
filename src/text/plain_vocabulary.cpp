#include "text/plain_vocabulary.h"

#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/text/utf8.h"

namespace gpt {

void fail_with_token_id(std::string_view operation, TokenId id, std::int64_t size) {
  if (id < 0 || id >= size)
    fail<ArgumentError>(operation, "token id ", id, " is out of range, expected 0 to ", size - 1);
  fail<ArgumentError>(operation, "token id ", id, " belongs to no token of the vocabulary");
}

void PlainVocabulary::append(std::string spelling, std::string bytes) {
  ids_.insert_or_assign(spelling, static_cast<TokenId>(tokens_.size()));
  tokens_.push_back({.spelling = std::move(spelling), .bytes = std::move(bytes), .in_use = true});
}

void PlainVocabulary::add(std::vector<AddedToken>& tokens, std::string_view source,
                          AddedTokenFinder& finder) {
  for (AddedToken& token : tokens) {
    add_one(token, source);
    finder.add(token);
  }
}

void PlainVocabulary::add_one(AddedToken& token, std::string_view vocab_source) {
  const std::string_view source = token.source.empty() ? vocab_source : token.source;
  const std::string name = quote(token.content);
  if (token.content.empty()) fail<FormatError>(source, "an added token is the empty string");
  if (token.content.size() > AddedTokenFinder::kMaxLength)
    fail<FormatError>(source, "added token ", name, " has ", token.content.size(),
                      " bytes, expected at most ", AddedTokenFinder::kMaxLength);
  if (!is_valid_utf8(token.content)) fail<FormatError>(source, "added token ", name, " is not valid UTF-8");
  const std::optional<TokenId> known = find(token.content);
  const TokenId id = token.id ? *token.id : known.value_or(static_cast<TokenId>(size()));
  if (id < 0 || id > kMaxId)
    fail<FormatError>(source, "added token ", name, " has the id ", id, ", expected 0 to ", kMaxId);
  if (known && *known != id)
    fail<FormatError>(source, "added token ", name, " has the id ", id, ", but ", *known, " in ",
                      vocab_source);
  if (!known && has(id))
    fail<FormatError>(source, "added token ", name, " has the id ", id, ", which belongs to ",
                      quote(tokens_[static_cast<std::size_t>(id)].spelling));
  token.id = id;
  if (id >= size()) tokens_.resize(static_cast<std::size_t>(id) + 1);
  Token& own = tokens_[static_cast<std::size_t>(id)];
  if (!known) {
    own.spelling = own.bytes = token.content;
    ids_.emplace(token.content, id);
  }
  own.in_use = own.added = true;
  own.special = own.special || token.special;
}

const PlainVocabulary::Token& PlainVocabulary::at(TokenId id, std::string_view operation) const {
  if (!has(id)) fail_with_token_id(operation, id, size());
  return tokens_[static_cast<std::size_t>(id)];
}

std::optional<TokenId> PlainVocabulary::find(std::string_view spelling) const {
  const auto found = ids_.find(spelling);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

void PlainVocabulary::add_to(Fingerprint& fingerprint) const {
  fingerprint.add(tokens_.size());
  for (const Token& token : tokens_) fingerprint.add(token.in_use).add(token.spelling);
}

void add_to(Fingerprint& fingerprint, const std::vector<AddedToken>& tokens) {
  fingerprint.add(tokens.size());
  for (const AddedToken& token : tokens) {
    fingerprint.add(token.content).add(token.id.value_or(-1)).add(token.special);
    fingerprint.add(token.lstrip).add(token.rstrip).add(token.single_word).add(token.normalized);
  }
}

}  // namespace gpt
