#include "gpt/text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <map>
#include <queue>

#include "core/memory.h"
#include "core/quote.h"
#include "gpt/core/error.h"
#include "gpt/text/utf8.h"
#include "text/byte_map.h"
#include "text/merge_table.h"
#include "text/symbol_pairs.h"
#include "text/word_counts.h"

namespace gpt {
namespace {

constexpr std::string_view kWhere = "train_byte_bpe";

class Trainer {
 public:
  explicit Trainer(const BpeTrainingOptions& options) : options_(options) {}

  ByteBpeModel train(std::span<const std::string_view> texts) {
    add_first_tokens();
    add_words(texts);
    merge_all();
    return std::move(model_);
  }

 private:
  struct Word {
    std::size_t begin;
    std::uint32_t length;
    std::int64_t count;
  };
  struct Candidate {
    std::int64_t count;
    TokenId left, right;
    std::uint32_t pair;
    // Of the heap's order: what is less comes later.
    bool operator<(const Candidate& other) const noexcept {
      if (count != other.count) return count < other.count;
      return left != other.left ? left > other.left : right > other.right;
    }
  };

  void report(BpeTrainingProgress::Phase phase, std::int64_t done, std::int64_t total) const {
    if (options_.stop.stop_requested()) fail<CancelledError>(kWhere, "training stopped");
    if (options_.on_progress) options_.on_progress({phase, done, total});
  }

  // The id of a spelling, made when it is new.
  TokenId add_token(const std::string& spelling) {
    const auto [known, is_new] = ids_.try_emplace(spelling, static_cast<TokenId>(model_.vocab.size()));
    if (is_new) model_.vocab.emplace_back(spelling, known->second);
    return known->second;
  }

  void add_first_tokens() {
    for (const std::string& token : options_.special_tokens) {
      add_token(token);
      model_.added_tokens.push_back({.content = token});
      if (token == "<|endoftext|>") model_.bos_token = model_.eos_token = model_.unk_token = token;
    }
    std::vector<unsigned> bytes(256);
    for (unsigned b = 0; b < 256; ++b) bytes[b] = b;
    std::sort(bytes.begin(), bytes.end(),
              [](unsigned a, unsigned b) { return kCharOfByte[a] < kCharOfByte[b]; });
    for (const unsigned byte : bytes) {
      const char c = static_cast<char>(byte);
      symbol_of_byte_[byte] = add_token(spell_bytes({&c, 1}));
    }
  }

  void add_words(std::span<const std::string_view> texts) {
    std::size_t total = 0;
    for (const std::string_view text : texts) total += text.size();
    const auto between = [&](std::size_t done) {
      report(BpeTrainingProgress::Phase::kCounting, static_cast<std::int64_t>(done),
             static_cast<std::int64_t>(total));
    };
    for (const auto& [piece, count] : count_pieces(texts, between)) {
      if (piece.size() < 2) continue;  // nothing merges in it
      if (words_.size() == ~std::uint32_t{0})
        fail<UnsupportedError>(kWhere, "the texts have more than ", words_.size(), " distinct pieces");
      words_.push_back({symbols_.size(), static_cast<std::uint32_t>(piece.size()), count});
      for (const char c : piece) symbols_.push_back(symbol_of_byte_[static_cast<unsigned char>(c)]);
    }
    for (std::uint32_t w = 0; w < words_.size(); ++w) {
      const Word& word = words_[w];
      const TokenId* symbol = symbols_.data() + word.begin;
      for (std::uint32_t i = 0; i + 1 < word.length; ++i) change(symbol[i], symbol[i + 1], word.count, w);
    }
    for (std::uint32_t pair = 0; pair < pairs_.size(); ++pair) push(pair);
  }

  void push(std::uint32_t pair) {
    const SymbolPair& p = pairs_[pair];
    if (p.count >= options_.min_frequency) heap_.push({p.count, p.left, p.right, pair});
  }

  // A pair that occurs in word `w` more or less often than before.
  void change(TokenId left, TokenId right, std::int64_t by, std::uint32_t w) {
    const std::uint32_t number = pairs_.number_of(left, right);
    SymbolPair& pair = pairs_[number];
    pair.count += by;
    if (by < 0) return;
    if (pair.words.empty() || pair.words.back() != w) pair.words.push_back(w);
    if (pair.changed_by == merges_done_) return;
    pair.changed_by = merges_done_;
    changed_.push_back(number);
  }

  // Merges the pair wherever it stands in a word, from the left.
  void merge_in(std::uint32_t w, TokenId left, TokenId right, TokenId merged) {
    Word& word = words_[w];
    TokenId* const symbol = symbols_.data() + word.begin;
    std::uint32_t out = 0;
    for (std::uint32_t i = 0; i < word.length; ++i) {
      if (symbol[i] != left || i + 1 == word.length || symbol[i + 1] != right) {
        symbol[out++] = symbol[i];
        continue;
      }
      if (out > 0) {
        change(symbol[out - 1], left, -word.count, w);
        change(symbol[out - 1], merged, word.count, w);
      }
      if (i + 2 < word.length) {
        change(right, symbol[i + 2], -word.count, w);
        change(merged, symbol[i + 2], word.count, w);
      }
      symbol[out++] = merged;
      ++i;
    }
    word.length = out;
  }

  void merge_all() {
    constexpr std::int64_t kMergesBetweenReports = 64;
    const auto vocab_size = [this] { return static_cast<std::int64_t>(model_.vocab.size()); };
    const auto report_merging = [&] {
      report(BpeTrainingProgress::Phase::kMerging, vocab_size(), options_.vocab_size);
    };
    report_merging();
    while (vocab_size() < options_.vocab_size && !heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      // Other merges change counts without a look at the heap.
      if (pairs_[best.pair].count != best.count) {
        if (pairs_[best.pair].count < best.count) push(best.pair);
        continue;  // a count that grew has been pushed
      }
      merge(best.pair);
      if (merges_done_ % kMergesBetweenReports == 0) report_merging();
    }
    report_merging();
  }

  void merge(std::uint32_t number) {
    ++merges_done_;
    changed_.clear();
    const TokenId left = pairs_[number].left, right = pairs_[number].right;
    if (pairs_[number].merged < 0) {
      const std::string &a = model_.vocab[static_cast<std::size_t>(left)].first,
                        &b = model_.vocab[static_cast<std::size_t>(right)].first;
      model_.merges.emplace_back(a, b);
      const std::string joined = a + b;
      pairs_[number].merged = add_token(joined);
    }  // else it came about again, by another merge into one of its tokens
    const TokenId merged = pairs_[number].merged;
    const std::vector<std::uint32_t> words = std::move(pairs_[number].words);
    for (const std::uint32_t w : words) merge_in(w, left, right, merged);
    pairs_[number].words = {};
    pairs_[number].count = 0;
    for (const std::uint32_t other : changed_)
      if (other != number) push(other);
  }

  const BpeTrainingOptions& options_;
  ByteBpeModel model_;
  std::map<std::string, TokenId> ids_;  // by spelling
  std::array<TokenId, 256> symbol_of_byte_{};
  std::vector<Word> words_;
  std::vector<TokenId> symbols_;  // of all words
  SymbolPairs pairs_;
  std::priority_queue<Candidate> heap_;
  std::vector<std::uint32_t> changed_;  // the pairs that the present merge made more frequent
  std::int64_t merges_done_ = 0;
};

void check(const BpeTrainingOptions& options) {
  const auto least = static_cast<std::int64_t>(256 + options.special_tokens.size());
  if (options.vocab_size < least || options.vocab_size > MergeTable::kMaxId + 1)
    fail<ArgumentError>(kWhere, "vocab_size is ", options.vocab_size, ", expected ", least,
                        " (the bytes and the special tokens) to ", MergeTable::kMaxId + 1);
  if (options.min_frequency < 1)
    fail<ArgumentError>(kWhere, "min_frequency is ", options.min_frequency, ", expected at least 1");
  const auto& tokens = options.special_tokens;
  for (auto token = tokens.begin(); token != tokens.end(); ++token) {
    std::string bytes;
    if (token->empty() || !is_valid_utf8(*token))
      fail<ArgumentError>(kWhere, "special token ", quote(*token), " is ",
                          token->empty() ? "empty" : "not valid UTF-8");
    if (append_spelled_bytes(*token, bytes) && bytes.size() == 1)
      fail<ArgumentError>(kWhere, "special token ", quote(*token),
                          " spells a single byte, which has a token");
    if (std::find(tokens.begin(), token, *token) != token)
      fail<ArgumentError>(kWhere, "special token ", quote(*token), " is given twice");
  }
}

}  // namespace

ByteBpeModel train_byte_bpe(std::span<const std::string_view> texts, const BpeTrainingOptions& options) {
  return with_memory_errors(kWhere, [&] {
    check(options);
    return Trainer(options).train(texts);
  });
}

}  // namespace gpt
