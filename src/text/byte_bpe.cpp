#include "gpt/text/byte_bpe.h"

#include <algorithm>
#include <bit>

#include "core/fingerprint.h"
#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "text/added_tokens.h"
#include "text/byte_map.h"
#include "text/merge_table.h"
#include "text/pretokenizer.h"
#include "text/token_table.h"
#include "text/vocabulary.h"

namespace gpt {
namespace {

[[noreturn]] void fail_with_id(std::string_view operation, TokenId id, std::int64_t size) {
  if (id < 0 || id >= size)
    fail<ArgumentError>(operation, "token id ", id, " is out of range, expected 0 to ", size - 1);
  fail<ArgumentError>(operation, "token id ", id, " belongs to no token of the vocabulary");
}

/// The pieces that lately had to be merged, and where in the output their ids are: a long text has few others. Pieces must
/// outlive it, and the output may only grow.
class MergedPieces {
 public:
  /// For a text of `bytes`; a short one is not worth it.
  explicit MergedPieces(std::size_t bytes)
      : slots_(bytes < kWorthIt ? 0 : std::bit_ceil(std::min(bytes / 16, kMostSlots))) {}

  /// Appends the ids of a piece if they are known.
  bool append(std::string_view piece, std::vector<TokenId>& out) {
    if (slots_.empty()) return false;
    slot_ = &slots_[TokenTable::hash_of(piece) & (slots_.size() - 1)];
    if (slot_->piece != piece) return false;
    const std::size_t size = out.size();
    out.resize(size + slot_->count);
    std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(slot_->begin), slot_->count,
                out.begin() + static_cast<std::ptrdiff_t>(size));
    return true;
  }

  /// Remembers that the ids of the piece that append() was just asked for are those of `out` from `begin` on.
  void remember(std::string_view piece, const std::vector<TokenId>& out, std::size_t begin) noexcept {
    if (!slots_.empty()) *slot_ = {piece, begin, out.size() - begin};
  }

 private:
  static constexpr std::size_t kWorthIt = 4096, kMostSlots = 4096;
  struct Slot {
    std::string_view piece;  // never empty in use
    std::size_t begin = 0, count = 0;
  };
  std::vector<Slot> slots_;
  Slot* slot_ = nullptr;
};

}  // namespace

class ByteBpe::Impl {
 public:
  explicit Impl(ByteBpeModel model);

  void encode_text(std::string_view text, const EncodeOptions& options, std::vector<TokenId>& out) const;
  /// Appends the symbols of the bytes and merges them.
  void merge_bytes(std::string_view bytes, std::vector<TokenId>& out) const;
  TokenId require(TokenId id, std::string_view operation) const {
    if (!vocabulary_.has(id)) fail_with_id(operation, id, vocabulary_.size());
    return id;
  }
  std::size_t last_cut(std::string_view text) const;
  ByteBpeModel model() const;

  const Vocabulary& vocabulary() const noexcept { return vocabulary_; }
  std::optional<TokenId> id_of(const std::optional<std::string>& token, std::string_view key) const;

  std::optional<TokenId> bos, eos, pad, unk;

 private:
  void add_merges(const std::vector<std::pair<std::string, std::string>>& merges);
  void set_byte_symbols();
  void add_whole_pieces();
  std::vector<TokenId> ids_of(const std::vector<std::string>& tokens, std::string_view key) const;
  void encode_stretch(std::string_view text, std::vector<TokenId>& out) const;
  void encode_piece(std::string_view piece, MergedPieces& merged, std::vector<TokenId>& out) const;

  ByteBpeModel rest_;  // without vocab and merges, which the tables below hold
  Vocabulary vocabulary_;
  MergeTable merge_table_;
  std::vector<std::pair<TokenId, TokenId>> merges_;
  std::array<TokenId, 256> byte_symbol_{};  // -1: neither the byte nor an unk symbol is in the vocabulary
  TokenTable whole_pieces_;                 // tokens that BPE makes of their own bytes
  std::size_t longest_whole_piece_ = 0;
  AddedTokenFinder finder_;
  std::vector<TokenId> prefix_, suffix_;
};

ByteBpe::Impl::Impl(ByteBpeModel model)
    : rest_(std::move(model)),
      vocabulary_(rest_),
      merge_table_(rest_.merges.size()),
      whole_pieces_(rest_.vocab.size()) {
  set_byte_symbols();
  add_merges(rest_.merges);
  add_whole_pieces();
  for (const AddedToken& token : rest_.added_tokens) finder_.add(token);
  bos = id_of(rest_.bos_token, "bos_token");
  eos = id_of(rest_.eos_token, "eos_token");
  pad = id_of(rest_.pad_token, "pad_token");
  unk = id_of(rest_.unk_token, "unk_token");
  prefix_ = ids_of(rest_.prefix_tokens, "prefix_tokens");
  suffix_ = ids_of(rest_.suffix_tokens, "suffix_tokens");
  rest_.vocab = {};
  rest_.merges = {};
}

std::optional<TokenId> ByteBpe::Impl::id_of(const std::optional<std::string>& token,
                                            std::string_view key) const {
  if (!token) return std::nullopt;
  const TokenId id = vocabulary_.find(*token);
  if (id < 0) fail<FormatError>(key, quote(*token), " is neither in the vocabulary nor an added token");
  return id;
}

std::vector<TokenId> ByteBpe::Impl::ids_of(const std::vector<std::string>& tokens,
                                           std::string_view key) const {
  std::vector<TokenId> ids;
  for (const std::string& token : tokens) ids.push_back(*id_of(token, key));
  return ids;
}

void ByteBpe::Impl::set_byte_symbols() {
  const TokenId unk_symbol = rest_.unk_symbol ? vocabulary_.find_in_vocab(*rest_.unk_symbol) : -1;
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    const TokenId id = vocabulary_.find_in_vocab(spell_bytes({&c, 1}));
    byte_symbol_[byte] = id >= 0 ? id : unk_symbol;
    if (byte_symbol_[byte] < 0 && rest_.unk_symbol)
      fail<FormatError>(rest_.vocab_source, "lacks the unk_token ", quote(*rest_.unk_symbol));
  }
}

void ByteBpe::Impl::add_merges(const std::vector<std::pair<std::string, std::string>>& merges) {
  if (merges.size() >= MergeTable::kNone)
    fail<FormatError>(rest_.merges_source, "has ", merges.size(), " merges, expected fewer than ",
                      MergeTable::kNone);
  merges_.reserve(merges.size());
  std::string joined;
  for (const auto& merge : merges) {
    const std::string &left = merge.first,
                      &right = merge.second;  // lambdas cannot capture structured bindings
    const auto find = [&](const std::string& token) {
      const TokenId id = vocabulary_.find_in_vocab(token);
      if (id < 0)
        fail<FormatError>(rest_.merges_source, "merge ", merges_.size() + 1, " of ", quote(left), " and ",
                          quote(right), ": ", quote(token), " is not in ", rest_.vocab_source);
      return id;
    };
    joined.assign(left).append(right);
    const TokenId left_id = find(left), right_id = find(right), joined_id = find(joined);
    merge_table_.add(left_id, right_id, joined_id);
    merges_.emplace_back(left_id, right_id);
  }
}

// Most pieces of a text are tokens: one look-up finds them. Only tokens to which BPE leads may be found so.
void ByteBpe::Impl::add_whole_pieces() {
  std::vector<TokenId> ids;
  for (const auto& [token, id] : rest_.vocab) {
    if (token.empty() || !vocabulary_.is(id, Vocabulary::kSpellsBytes)) continue;
    const std::string_view bytes = vocabulary_.bytes(id);
    if (!rest_.ignore_merges) {
      const auto lacks_symbol = [&](char c) { return byte_symbol_[static_cast<unsigned char>(c)] < 0; };
      if (std::any_of(bytes.begin(), bytes.end(), lacks_symbol)) continue;
      ids.clear();
      merge_bytes(bytes, ids);
      if (ids.size() != 1 || ids[0] != id) continue;
    }
    whole_pieces_.insert(bytes, id);
    longest_whole_piece_ = std::max(longest_whole_piece_, bytes.size());
  }
}

void ByteBpe::Impl::merge_bytes(std::string_view bytes, std::vector<TokenId>& out) const {
  const std::size_t begin = out.size();
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    const TokenId id = byte_symbol_[byte];
    if (id < 0) {
      fail<ArgumentError>("encode", "the vocabulary has no token for the byte ", unsigned{byte},
                          " of the text and no unk_token");
    }
    out.push_back(id);
  }
  merge_table_.apply(out, begin);
}

void ByteBpe::Impl::encode_piece(std::string_view piece, MergedPieces& merged,
                                 std::vector<TokenId>& out) const {
  if (piece.size() <= longest_whole_piece_) {
    if (const TokenId id = whole_pieces_.find(piece); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  if (merged.append(piece, out)) return;
  const std::size_t begin = out.size();
  merge_bytes(piece, out);
  merged.remember(piece, out, begin);
}

void ByteBpe::Impl::encode_stretch(std::string_view text, std::vector<TokenId>& out) const {
  std::string prefixed;
  if (rest_.add_prefix_space && text[0] != ' ') {
    prefixed.reserve(text.size() + 1);
    prefixed.append(" ").append(text);
    text = prefixed;
  }
  MergedPieces merged(rest_.use_regex ? text.size() : 0);
  if (!rest_.use_regex) return encode_piece(text, merged, out);
  while (!text.empty()) {
    const std::size_t length = next_piece_length(text);
    encode_piece(text.substr(0, length), merged, out);
    text.remove_prefix(length);
  }
}

void ByteBpe::Impl::encode_text(std::string_view text, const EncodeOptions& options,
                                std::vector<TokenId>& out) const {
  out.reserve(text.size() / 4 + prefix_.size() + suffix_.size());
  if (options.add_special_tokens) out = prefix_;
  for (const auto& part : finder_.split(text, options.parse_special_tokens)) {
    if (part.id >= 0)
      out.push_back(part.id);
    else
      encode_stretch(part.text, out);
  }
  if (options.add_special_tokens && options.add_suffix_tokens)
    out.insert(out.end(), suffix_.begin(), suffix_.end());
}

std::size_t ByteBpe::Impl::last_cut(std::string_view text) const {
  if (!rest_.use_regex || text.empty()) return 0;
  for (std::size_t at = text.size() - 1; at > 0; --at) {
    if (rest_.add_prefix_space && text[at] != ' ') continue;  // the second part would get a space of its own
    if (is_certain_cut(text, at) && !finder_.touches(text, at)) return at;
  }
  return 0;
}

ByteBpeModel ByteBpe::Impl::model() const {
  ByteBpeModel model = rest_;
  for (TokenId id = 0; id < vocabulary_.size(); ++id)
    if (vocabulary_.has(id) && vocabulary_.is(id, Vocabulary::kInVocab))
      model.vocab.emplace_back(vocabulary_.spelling(id), id);
  for (const auto& [left, right] : merges_)
    model.merges.emplace_back(vocabulary_.spelling(left), vocabulary_.spelling(right));
  return model;
}

ByteBpe::ByteBpe(ByteBpeModel model)
    : impl_(with_memory_errors("tokenizer", [&] { return std::make_unique<const Impl>(std::move(model)); })) {
}
ByteBpe::~ByteBpe() = default;

std::vector<TokenId> ByteBpe::encode(std::string_view text, const EncodeOptions& options) const {
  return with_memory_errors("encode", [&] {
    std::vector<TokenId> ids;
    impl_->encode_text(text, options, ids);
    return ids;
  });
}

std::size_t ByteBpe::last_cut(std::string_view text) const { return impl_->last_cut(text); }

std::vector<TokenId> ByteBpe::encode_piece(std::string_view bytes) const {
  return with_memory_errors("encode", [&] {
    std::vector<TokenId> ids;
    impl_->merge_bytes(bytes, ids);
    return ids;
  });
}

bool ByteBpe::has(TokenId id) const { return impl_->vocabulary().has(id); }
std::string_view ByteBpe::bytes_of(TokenId id) const {
  return impl_->vocabulary().bytes(impl_->require(id, "decode"));
}
std::string_view ByteBpe::token_of(TokenId id) const {
  return impl_->vocabulary().spelling(impl_->require(id, "token_of"));
}
std::optional<TokenId> ByteBpe::id_of(std::string_view token) const {
  const TokenId id = impl_->vocabulary().find(token);
  return id >= 0 ? std::optional(id) : std::nullopt;
}
std::int64_t ByteBpe::vocab_size() const { return impl_->vocabulary().size(); }
bool ByteBpe::is_special(TokenId id) const {
  const Vocabulary& vocabulary = impl_->vocabulary();
  return vocabulary.has(id) && vocabulary.is(id, Vocabulary::kSpecial);
}
std::optional<TokenId> ByteBpe::bos_token_id() const { return impl_->bos; }
std::optional<TokenId> ByteBpe::eos_token_id() const { return impl_->eos; }
std::optional<TokenId> ByteBpe::pad_token_id() const { return impl_->pad; }
std::optional<TokenId> ByteBpe::unk_token_id() const { return impl_->unk; }

std::uint64_t ByteBpe::fingerprint() const {
  return with_memory_errors("tokenizer", [&] {
    const ByteBpeModel parts = model();
    Fingerprint all;
    const auto add_list = [&](const std::vector<std::string>& list) {
      all.add(list.size());
      for (const std::string& text : list) all.add(text);
    };
    all.add("byte-level BPE").add(parts.vocab.size()).add(parts.merges.size()).add(parts.added_tokens.size());
    for (const auto& [token, id] : parts.vocab) all.add(token).add(id);
    for (const auto& [left, right] : parts.merges) all.add(left).add(right);
    for (const AddedToken& token : parts.added_tokens) {
      all.add(token.content)
          .add(token.id.value_or(-1))
          .add(token.special)
          .add(token.lstrip)
          .add(token.rstrip);
      all.add(token.single_word).add(token.normalized);
    }
    all.add(parts.unk_symbol.has_value()).add(parts.unk_symbol.value_or(""));
    all.add(parts.add_prefix_space).add(parts.use_regex).add(parts.ignore_merges);
    add_list(parts.prefix_tokens);
    add_list(parts.suffix_tokens);
    return all.value();
  });
}

ByteBpeModel ByteBpe::model() const {
  return with_memory_errors("tokenizer", [&] { return impl_->model(); });
}

}  // namespace gpt
