#include "train/token_cache.h"

#include <cstddef>

namespace gpt {
namespace {

struct TokenFooter {
  std::uint64_t count = 0;
  std::uint64_t fingerprint = 0;
};
static_assert(sizeof(TokenFooter) == 16);

}  // namespace

std::shared_ptr<const TokenStore> tokens_of(const CacheBody& body) {
  if (body.bytes.size() < sizeof(TokenFooter)) return nullptr;
  const std::uint64_t room = body.bytes.size() - sizeof(TokenFooter);
  const auto footer = value_at<TokenFooter>(body.bytes.data() + room);
  if (footer.count > room) return nullptr;  // before it is multiplied
  const std::uint64_t size = footer.count * body.width;
  if (whole_words(size) != room) return nullptr;
  return std::make_shared<const TokenStore>(body.owner, body.bytes.first(size), body.width,
                                            footer.fingerprint);
}

void TokenCacheWriter::append(std::span<const TokenId> tokens) {
  count_ += tokens.size();
  for (const TokenId token : tokens) fingerprint_.add(token);
  if (file_.width() == sizeof(TokenId)) return file_.write(std::as_bytes(tokens));
  narrowed_.clear();
  for (const TokenId token : tokens) narrowed_.push_back(static_cast<std::uint16_t>(token));
  file_.write(std::as_bytes(std::span(narrowed_)));
}

void TokenCacheWriter::finish() {
  file_.fill_word();
  file_.write(bytes_of(TokenFooter{count_, fingerprint_.value()}));
}

}  // namespace gpt
