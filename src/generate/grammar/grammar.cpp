#include "gpt/generate/grammar.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <iterator>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/memory.h"
#include "generate/grammar/automaton.h"
#include "generate/grammar/gbnf.h"
#include "generate/grammar/json_schema.h"
#include "generate/grammar/json_text.h"
#include "generate/grammar/regex.h"
#include "generate/grammar/stacks.h"
#include "generate/grammar/token_masks.h"
#include "generate/processor_support.h"
#include "gpt/core/error.h"

namespace gpt {

using namespace generate;

Grammar::Grammar(const Rules& rules) : automaton_(std::make_shared<const Automaton>(rules)) {}

Grammar Grammar::from_regex(std::string_view pattern) {
  return with_memory_errors("regex", [&] {
    Rules rules("regex");
    const Rules::Rule root = rules.declare("the pattern");
    rules.define(root, add_regex(rules, pattern, "regex"));
    rules.set_root(root);
    return Grammar(rules);
  });
}

Grammar Grammar::from_json_schema(std::string_view schema) {
  return with_memory_errors("json_schema", [&] { return Grammar(parse_json_schema(schema)); });
}

Grammar Grammar::json_object() {
  return with_memory_errors("json_schema", [] {
    Rules rules("json_schema");
    const Rules::Rule root = rules.declare("any object");
    rules.define(root, JsonText(rules).any_object());
    rules.set_root(root);
    return Grammar(rules);
  });
}

Grammar Grammar::from_gbnf(std::string_view text) {
  return with_memory_errors("grammar", [&] { return Grammar(parse_gbnf(text)); });
}

bool Grammar::accepts(std::string_view text) const {
  return with_memory_errors("grammar", [&] {
    const std::vector<Distance> distances(automaton_->states(), 0);  // nobody asks for them
    Stacks stacks(*automaton_, distances);
    Stacks::Configuration at = stacks.begin_at(automaton_->start());
    for (const char byte : text) {
      at = stacks.step(at, static_cast<std::uint8_t>(byte));
      if (at == Stacks::kNone) return false;
    }
    return stacks.is_complete(at);
  });
}

CompiledGrammar::CompiledGrammar(const Grammar& grammar, const Tokenizer& tokenizer,
                                 std::optional<std::int64_t> vocab_size)
    : vocab_size_(vocab_size), instance_(tokenizer.instance()) {
  if (vocab_size && *vocab_size < 1)
    fail<ArgumentError>("grammar", "vocab_size is ", *vocab_size, ", expected at least 1");
  masks_ = with_memory_errors("grammar", [&] {
    return std::make_shared<const TokenMasks>(grammar.automaton_, TokenTrie(tokenizer, vocab_size));
  });
}
CompiledGrammar::~CompiledGrammar() = default;
CompiledGrammar::CompiledGrammar(CompiledGrammar&&) noexcept = default;
CompiledGrammar& CompiledGrammar::operator=(CompiledGrammar&&) noexcept = default;

bool CompiledGrammar::is_for(const Tokenizer& tokenizer) const {
  return tokenizer.instance() == instance_ || with_memory_errors("grammar", [&] {
           return masks_->trie().has_same_tokens(TokenTrie(tokenizer, vocab_size_));
         });
}

std::int64_t CompiledGrammar::vocab_size() const noexcept { return masks_->trie().largest_token() + 1; }

std::int64_t CompiledGrammar::least_tokens() const noexcept { return masks_->least_tokens(); }

namespace {

// Of what a processor can find again from the tokens.
constexpr std::size_t kMaxGrammarBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxTrails = 256, kMaxTrailTokens = std::size_t{1} << 20;

// For each byte, what its bits leave of eight scores: infinity all, -infinity nothing.
struct Caps {
  double of[256][8];
  constexpr Caps() : of() {
    for (unsigned byte = 0; byte < 256; ++byte)
      for (unsigned bit = 0; bit < 8; ++bit) of[byte][bit] = (byte >> bit & 1) != 0 ? -kDropped : kDropped;
  }
};
constexpr Caps kCaps;

// Drops the scores whose bits are not set; whether one is left. This is most of a mask's time: where a word is nearly full or
// nearly empty, as most are, few scores are touched one by one, else the lesser of score and cap is taken eight at once.
bool keep(std::span<double> scores, std::span<const std::uint64_t> words) {
  constexpr int kFew = 8;
  bool any = false;
  for (std::size_t begin = 0, word = 0; begin < scores.size(); begin += 64, ++word) {
    double* const part = scores.data() + begin;
    const std::uint64_t bits = words[word];
    const int count = std::popcount(bits);
    for (std::uint64_t rest = bits; rest != 0 && !any; rest &= rest - 1)
      any = part[std::countr_zero(rest)] != kDropped;
    const std::size_t size = std::min<std::size_t>(64, scores.size() - begin);
    if (size < 64) {
      for (std::size_t i = 0; i < size; ++i)
        if ((bits >> i & 1) == 0) part[i] = kDropped;
    } else if (count >= 64 - kFew) {
      for (std::uint64_t rest = ~bits; rest != 0; rest &= rest - 1) part[std::countr_zero(rest)] = kDropped;
    } else if (count <= kFew) {
      double kept[kFew] = {};
      std::size_t next = 0;
      for (std::uint64_t rest = bits; rest != 0; rest &= rest - 1)
        kept[next++] = part[std::countr_zero(rest)];
      std::fill(part, part + 64, kDropped);
      next = 0;
      for (std::uint64_t rest = bits; rest != 0; rest &= rest - 1)
        part[std::countr_zero(rest)] = kept[next++];
    } else {
      for (std::size_t byte = 0; byte < 8; ++byte) {
        const double* const cap = kCaps.of[bits >> 8 * byte & 255];
        double* const eight = part + 8 * byte;
        for (std::size_t i = 0; i < 8; ++i) eight[i] = std::min(eight[i], cap[i]);
      }
    }
  }
  return any;
}

}  // namespace

class GrammarConstrained::Impl {
 public:
  Impl(std::shared_ptr<const CompiledGrammar> grammar, const Tokenizer& tokenizer, std::vector<TokenId> eos)
      : masks_(grammar->masks_),
        tokenizer_(tokenizer),
        eos_(std::move(eos)),
        stacks_(masks_->automaton(), masks_->distances()) {
    for (const TokenId id : eos_) {  // one that is special, or not in the tokenizer, adds nothing to the text
      if (tokenizer.has(id) && !tokenizer.is_special(id) && !tokenizer.bytes_of(id).empty())
        fail<UnsupportedError>("generate", "eos_token_id ", id,
                               ", which has text, together with grammar is not supported");
    }
  }

  void process(std::span<double> scores, const DecodingStep& step) {
    const std::lock_guard lock(mutex_);
    if (step.history.size() == step.prompt_length) check_prompt(step.history);
    if (is_open_ || stacks_.memory() > kMaxGrammarBytes) {  // open: an exception came between
      stacks_.clear();
      trails_.clear();
    }
    is_open_ = true;
    const Stacks::Configuration at = find(step);
    const std::size_t left = step.max_length - std::min(step.max_length, step.history.size());
    if (left == 0)
      fail<ArgumentError>("generate", "the sequence has reached its length, and grammar no room for a token");
    masks_->mask(stacks_, at, static_cast<Distance>(std::min<std::size_t>(left - 1, kUnreachable - 1)),
                 words_);
    words_.resize(std::max(words_.size(), (scores.size() + 63) / 64), 0);
    for (const TokenId id : eos_) {
      const std::size_t bit = index_of(id, scores.size(), "eos_token_id");
      const std::uint64_t mask = std::uint64_t{1} << bit % 64;
      words_[bit / 64] = stacks_.is_complete(at) ? words_[bit / 64] | mask : words_[bit / 64] & ~mask;
    }
    // Tokens of the tokenizer that the model does not have.
    words_.resize((scores.size() + 63) / 64);
    if (scores.size() % 64 != 0) words_.back() &= (std::uint64_t{1} << scores.size() % 64) - 1;
    if (!keep(scores, words_))
      fail<ArgumentError>("generate", "at position ", step.history.size(),
                          " the other options have dropped every token that grammar admits");
    is_open_ = false;
  }

 private:
  /// The tokens of a sequence, and where each led.
  struct Trail {
    std::vector<TokenId> tokens = {};
    std::vector<Stacks::Configuration> places = {};
  };

  Stacks::Configuration find(const DecodingStep& step) {
    const auto tokens = step.history.subspan(step.prompt_length);
    Stacks::Configuration at = stacks_.begin_at(masks_->automaton().start());
    if (tokens.empty()) return at;
    Trail& trail = trail_of(tokens);
    if (!trail.places.empty()) at = trail.places.back();
    for (const TokenId id : tokens.subspan(trail.tokens.size())) {
      at = after(at, id);
      if (at == Stacks::kNone)
        fail<ArgumentError>("generate", "the new tokens up to the token id ", id,
                            " are in no text of grammar");
      trail.tokens.push_back(id);
      trail.places.push_back(at);
    }
    return at;
  }

  // One that has these tokens but for the last, cut to what they share; else a new one from the trail that shares the most.
  Trail& trail_of(std::span<const TokenId> tokens) {
    const auto shared = [tokens](const Trail& trail) {
      return std::mismatch(trail.tokens.begin(), trail.tokens.end(), tokens.begin(), tokens.end()).first -
             trail.tokens.begin();
    };
    const auto cut = [](Trail& trail, std::ptrdiff_t length) {
      trail.tokens.resize(static_cast<std::size_t>(length));
      trail.places.resize(static_cast<std::size_t>(length));
    };
    const std::size_t before = tokens.size() - 1;
    for (Trail& trail : trails_) {
      if (trail.tokens.size() < before || (before > 0 && trail.tokens[before - 1] != tokens[before - 1]) ||
          !std::equal(tokens.begin(), tokens.end() - 1, trail.tokens.begin()))
        continue;
      cut(trail, trail.tokens.size() > before && trail.tokens[before] == tokens[before]
                     ? std::ssize(tokens)
                     : std::ssize(tokens) - 1);
      return trail;
    }
    const auto nearest =
        std::max_element(trails_.begin(), trails_.end(),
                         [&](const Trail& a, const Trail& b) { return shared(a) < shared(b); });
    Trail next;
    if (nearest != trails_.end()) {
      const auto length = shared(*nearest);
      next.tokens.assign(nearest->tokens.begin(), nearest->tokens.begin() + length);
      next.places.assign(nearest->places.begin(), nearest->places.begin() + length);
    }
    std::size_t held = next.tokens.size();
    for (const Trail& trail : trails_) held += trail.tokens.size();
    if (held > kMaxTrailTokens) trails_.clear();
    if (trails_.size() < kMaxTrails) return trails_.emplace_back(std::move(next));
    oldest_ = (oldest_ + 1) % kMaxTrails;
    return trails_[oldest_] = std::move(next);
  }

  Stacks::Configuration after(Stacks::Configuration at, TokenId id) {
    const std::string_view bytes = masks_->trie().bytes_of(id);
    if (bytes.empty()) return Stacks::kNone;
    for (std::size_t i = 0; i < bytes.size() && at != Stacks::kNone; ++i)
      at = stacks_.step(at, static_cast<std::uint8_t>(bytes[i]));
    return at;
  }

  // Some tokenizers write a token otherwise where a text begins.
  void check_prompt(std::span<const TokenId> prompt) const {
    const auto probe = masks_->trie().probe();
    if (!probe) return;
    const auto decoder = tokenizer_.start_decoding();
    std::string text;
    for (const TokenId id : prompt)
      if (tokenizer_.has(id) && !tokenizer_.is_special(id)) decoder->push(id, text);
    text.clear();
    decoder->push(*probe, text);
    if (text != tokenizer_.bytes_of(*probe))
      fail<UnsupportedError>("generate",
                             "the prompt does not end with text, behind which the tokenizer's tokens have "
                             "their own: grammar is not supported there");
  }

  const std::shared_ptr<const TokenMasks> masks_;
  const Tokenizer& tokenizer_;
  const std::vector<TokenId> eos_;
  std::mutex mutex_;  // of what follows
  Stacks stacks_;
  std::vector<Trail> trails_;  // of the sequences at work, so that a step reads one token
  std::size_t oldest_ = 0;
  std::vector<std::uint64_t> words_;
  bool is_open_ = false;
};

GrammarConstrained::GrammarConstrained(std::shared_ptr<const CompiledGrammar> grammar,
                                       const Tokenizer& tokenizer, std::vector<TokenId> eos_token_id) try {
  if (grammar == nullptr) fail<ArgumentError>("generate", "grammar is null, expected a compiled one");
  impl_ = std::make_unique<Impl>(std::move(grammar), tokenizer, std::move(eos_token_id));
} catch (...) {
  rethrow_with_memory_errors("generate");
}
GrammarConstrained::~GrammarConstrained() = default;

void GrammarConstrained::process(std::span<double> scores, const DecodingStep& step, ProcessorScratch&) const
    try {
  impl_->process(scores, step);
} catch (...) {
  rethrow_with_memory_errors("generate");
}

}  // namespace gpt
